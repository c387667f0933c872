"""Ways to look for the best candidate within a budget; all of them ask one judge.

``scan`` and ``pairs`` try every edit and every two; ``greedy`` adds the edit that costs least, one
after the other (SLEB, arXiv 2402.09025; BlockPruner, arXiv 2406.10594), ``beam`` keeps several;
``evolve`` is EvoPress's (arXiv 2410.14649); ``exhaustive`` tries all; ``auto`` exchanges edits of
what greedy and beam come to, those first that a model fitted to all that was tried thinks best.
"""

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, islice
from math import comb
from typing import Protocol

import numpy as np

from impasto.error import UserError
from impasto.searching.budget import Budget
from impasto.searching.edits import Candidate, Edit, Space
from impasto.searching.judging import Judge

FULL: Candidate = frozenset()
FEW = 600  # candidates that ``auto`` tries all
MOST = 200_000  # candidates that ``exhaustive`` tries
BEAM = 3
BATCH = 32  # exchanges that are tried together
FAR = 128  # exchanges of two edits that are tried, of all that there are
NEAR = 0.5  # how fast the fitted model forgets candidates that are worse, per nat of log objective
RIDGE = 0.3
GREEDY_SHARE, REFINED_SHARE, BEAM_SHARE, TWICE_SHARE = 0.2, 0.35, 0.6, 0.85
# of what ``auto`` asks, about, until greedy ends, its plan is refined, beam ends, that is refined
OFFSPRING, SURVIVORS, SWAPS, FOUNDERS = 32, 2, 3, 64  # EvoPress, section 4
STAGE = 1 / 16  # of the items, that every offspring is asked


class Told(Protocol):
    """Hears how far a search is."""

    def __call__(self, share: float, doing: str, until: float | None = None) -> None:
        """Hear which share is done, about, and what it is at.

        `until` is the share that is done once all of it was answered, where it is asked at once.
        """


def _unheard(share: float, doing: str, until: float | None = None) -> None:
    pass


@dataclass(frozen=True)
class Task:
    """What is looked for: candidates of a space within a budget, judged by one judge."""

    space: Space
    budget: Budget
    judge: Judge
    seed: int = 0
    told: Told = _unheard

    def keeps(self, candidate: Candidate) -> bool:
        """Say whether a candidate costs no more than it may."""
        return self.budget.keeps(self.judge.plan(candidate))

    def over(self, candidate: Candidate) -> float:
        """Return by how much it costs more; see ``Budget.over``."""
        return self.budget.over(self.judge.plan(candidate))

    def cheaper(self, candidate: Candidate) -> list[Candidate]:
        """Return the candidates with one edit more that are nearer to the budget."""
        over = self.over(candidate)
        return [one for one in self.space.larger(candidate) if self.over(one) < over]


Method = Callable[[Task], Candidate]


def check_reachable(task: Task) -> int:
    """Return about how many edits the budget takes; raises UserError where none keep it."""
    here = FULL
    while not task.keeps(here):
        larger = task.cheaper(here)
        if not larger:
            costs = task.budget.costs(task.judge.plan(here))
            least = ", ".join(f"{name}: {100 * share:.4g}%" for name, share in costs.items())
            raise UserError(
                f"no plan of these moves keeps {task.budget}: the cheapest has {least}; "
                "allow more moves, keep fewer layers, or raise the budget"
            )
        here = min(larger, key=lambda one: (task.over(one), sorted(one)))
    return len(here)


def scan(task: Task) -> Candidate:
    """Try every edit by itself on all items."""
    task.told(0.0, "trying every edit by itself", 1.0)
    task.judge.measure([frozenset({edit}) for edit in task.space.edits])
    return one_shot(task)


def pairs(task: Task) -> Candidate:
    """Try every edit and every two on all items."""
    task.judge.measure([frozenset({edit}) for edit in task.space.edits])
    task.told(0.0, "trying every two edits", 1.0)
    two = (frozenset(pair) for pair in combinations(task.space.edits, 2))
    task.judge.measure([pair for pair in two if task.space.allows(pair)])
    return one_shot(task)


def one_shot(task: Task) -> Candidate:
    """Add edits from the one that harms least by itself until the budget is kept."""
    judge = task.judge
    judge.measure([frozenset({edit}) for edit in task.space.edits])
    order = sorted(task.space.edits, key=lambda edit: judge.objective(frozenset({edit})))
    return added(task, order)


def added(task: Task, order: Iterable[Edit]) -> Candidate:
    """Add edits in an order, those that bring the budget nearer, until it is kept; measure that."""
    here = FULL
    for edit in order:
        if task.keeps(here):
            break
        larger = here | {edit}
        if task.space.allows(larger) and task.over(larger) < task.over(here):
            here = larger
    task.judge.measure([here])
    return here


def greedy(task: Task) -> Candidate:
    """Add the edit after which the objective is best, until the budget is kept."""
    return _beam(task, 1)


def beam(task: Task) -> Candidate:
    """Do the same with the best few candidates at each step."""
    return _beam(task, BEAM)


def _beam(task: Task, width: int) -> Candidate:
    ahead, done = [FULL], []
    steps, step = check_reachable(task), 0
    while ahead:
        step += 1
        task.told(min(1.0, (step - 1) / max(steps, step)), f"choosing edit {step} of about {steps}")
        larger = {one: None for here in ahead for one in task.cheaper(here)}
        best = task.judge.race(list(larger), width) if larger else []
        done += [one for one in best if task.keeps(one)]
        ahead = [one for one in best if not task.keeps(one)]
    return task.judge.race(done)[0]


def exhaustive(task: Task) -> Candidate:
    """Try every set of edits."""
    edits = task.space.edits
    count = 2 ** len(edits)
    if count > MOST:
        raise UserError(
            f"{len(edits)} edits make {count:,} candidates; exhaustive tries up to {MOST:,}: name "
            f"fewer moves, keep layers, or take the last layers only"
        )
    every = (frozenset(some) for n in range(len(edits) + 1) for some in combinations(edits, n))
    allowed = [one for one in every if task.space.allows(one)]
    task.told(0.0, f"trying all {len(allowed)} plans", 1.0)
    task.judge.measure(allowed)
    return min(filter(task.keeps, allowed), key=task.judge.objective)


def evolve(task: Task) -> Candidate:
    """Mutate the best candidate over and over (EvoPress, algorithm 1, for dropping parts)."""
    rng, judge = random.Random(task.seed), task.judge

    def best(candidates: Sequence[Candidate], count: int, share: float) -> list[Candidate]:
        found = judge.measure(candidates, share)
        order = sorted(range(len(candidates)), key=found.__getitem__)
        return [candidates[at] for at in order[:count]]

    [parent] = best([_drawn(task, rng) for _ in range(FOUNDERS)], 1, STAGE)
    dropped = len(parent)
    generations = max(1, round(dropped * (len(task.space.edits) - dropped) / 1.5))
    for number in range(generations):
        task.told(number / generations, f"generation {number + 1} of {generations}")
        offspring = [_mutated(task, parent, rng) for _ in range(OFFSPRING)]
        [parent] = best([parent, *best(offspring, SURVIVORS, STAGE)], 1, 1.0)
    return parent


def _drawn(task: Task, rng: random.Random) -> Candidate:
    """Return a candidate that keeps the budget, drawn by chance, edit by edit."""
    here = FULL
    while not task.keeps(here):
        here = rng.choice(task.cheaper(here))
    return here


def _mutated(task: Task, parent: Candidate, rng: random.Random) -> Candidate:
    """Return a candidate with up to three edits exchanged for others of their moves."""
    here = parent
    for _ in range(min(rng.randint(1, SWAPS), rng.randint(1, SWAPS))):
        out = rng.choice(sorted(here))
        near = [
            here - {out} | {edit}
            for edit in task.space.edits
            if edit.move == out.move and edit not in here
        ]
        near = [one for one in near if task.space.allows(one) and task.keeps(one)]
        if near:
            here = rng.choice(near)
    return here


def auto(task: Task) -> Candidate:
    """Try all where they are few; else exchange edits of what greedy and beam come to.

    Exchanges of one edit are tried from greedy's plan, then from beam's, until none helps; from the
    better of them those of two, too. They are tried in the order in which a model fitted to all
    that was tried expects them to be good.
    """
    smallest = _smallest(task)
    if smallest is not None:
        task.told(0.0, f"trying all {len(smallest)} plans of so few edits", 1.0)
        task.judge.measure(smallest)
        return min(smallest, key=task.judge.objective)

    refining = _Refining(task)
    first = greedy(_between(task, 0.0, GREEDY_SHARE))
    found = [refining.refined(first, GREEDY_SHARE, REFINED_SHARE)]
    second = beam(_between(task, REFINED_SHARE, BEAM_SHARE))
    found.append(refining.refined(second, BEAM_SHARE, TWICE_SHARE))
    here = min(found, key=task.judge.objective)
    while (better := _exchanged_twice(task, here)) is not None:
        here = refining.refined(better, TWICE_SHARE, 1.0)
    return here


def _between(task: Task, begin: float, end: float) -> Task:
    """Return the task as it is a part of the whole, from one share to another."""

    def told(share: float, doing: str, until: float | None = None) -> None:
        task.told(begin + (end - begin) * share, doing)

    return replace(task, told=told)


@dataclass
class _Refining:
    """Exchanges single edits until none helps, and tells how often it did."""

    task: Task
    rounds: int = 0
    done: float = 0.0

    def refined(self, here: Candidate, begin: float, end: float) -> Candidate:
        """Return a candidate that no exchange of one edit makes better."""
        better: Candidate | None = here
        self.done = max(self.done, begin)
        while better is not None:
            here = better
            self.task.told(self.done, f"exchanging edits, better {self.rounds} times")
            better = _exchanged(self.task, here)
            self.rounds += better is not None
            self.done += (end - self.done) / 6  # nobody knows how often that helps
        return here


def _smallest(task: Task) -> list[Candidate] | None:
    """Return the candidates that keep the budget with as few edits as that takes, if few."""
    edits = task.space.edits
    for count in range(1, len(edits) + 1):
        if comb(len(edits), count) > FEW:
            return None
        some = (frozenset(edits) for edits in combinations(edits, count))
        kept = [one for one in some if task.space.allows(one) and task.keeps(one)]
        if kept:
            return kept
    return None


def _exchanged(task: Task, here: Candidate) -> Candidate | None:
    """Return a better candidate with one edit exchanged or added, None if there is none."""
    near = [*task.space.neighbours(here), *task.space.larger(here)]
    return _best_of(task, here, near, len(near))


def _exchanged_twice(task: Task, here: Candidate) -> Candidate | None:
    """Return a better candidate with two edits exchanged, None if none is expected and found."""
    near = (two for one in task.space.neighbours(here) for two in task.space.neighbours(one))
    far = [two for two in dict.fromkeys(near) if len(two - here) == 2]
    return _best_of(task, here, far, FAR)


def _best_of(
    task: Task, here: Candidate, others: Sequence[Candidate], most: int
) -> Candidate | None:
    """Return one that is better, looked for batch by batch among so many, the likely ones first."""
    expected = _expected(task.judge.objectives, task.space.edits, here)
    some = sorted(dict.fromkeys(others), key=lambda one: (expected(one), sorted(one)))
    ranked = islice(filter(task.keeps, some), most)
    while batch := list(islice(ranked, BATCH)):
        [best] = task.judge.race([here, *batch])
        if task.judge.objective(best) < task.judge.objective(here):
            return best
    return None


def _expected(
    objectives: Mapping[Candidate, float], edits: Sequence[Edit], here: Candidate
) -> Callable[[Candidate], float]:
    """Return a guess of log objectives: linear in the edits, fitted to all that was tried.

    Candidates count the more the nearer their objective is to that of ``here``.
    """
    place = {edit: at for at, edit in enumerate(edits, 1)}

    def row(candidate: Candidate) -> np.ndarray:
        found = np.zeros(len(edits) + 1)
        found[[0, *(place[edit] for edit in candidate)]] = 1
        return found

    known = {one: np.log(max(value, 1e-12)) for one, value in objectives.items()}
    matrix = np.stack([row(one) for one in known])
    logs = np.array([*known.values()])
    weights = np.exp(-NEAR * np.abs(logs - known.get(here, logs.min())))
    weighted = matrix * weights[:, None]
    ridge = RIDGE * np.eye(matrix.shape[1])
    fitted = np.linalg.solve(weighted.T @ matrix + ridge, weighted.T @ logs)
    return lambda candidate: float(row(candidate) @ fitted)


METHODS: Mapping[str, Method] = {
    "scan": scan,
    "pairs": pairs,
    "one_shot": one_shot,
    "greedy": greedy,
    "beam": beam,
    "evolve": evolve,
    "exhaustive": exhaustive,
    "auto": auto,
}
