"""Making a search: choose on one half of the items, say on the other half what that is worth.

With the plans that the search finds, reference plans are measured on the same items: the edits that
harm least one by one, the layers that change states least (ShortGPT, arXiv 2403.03853), the last
layers (paper C) and the middle ones (paper B).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from impasto import strategies
from impasto.plan import Plan
from impasto.searching.budget import SECONDS, Budget
from impasto.searching.edits import Candidate, Space
from impasto.searching.found import FoundPlan, Timed, Value
from impasto.searching.judging import STAGES, Judge, Scored
from impasto.searching.methods import FULL, METHODS, Task, Told, check_reachable, greedy, one_shot
from impasto.searching.objective import Objective, Puts
from impasto.tasks.task import ratio

LOOKING = 0.9  # of the work, about; then references and held-out items
TIMED = 8  # plans that are timed at the most, until one keeps a budget of seconds
ROUND = 9  # digits of an objective that tells plans apart
REFERENCES = {
    "block_influence": "ShortGPT (block influence)",
    "one_shot": "one-shot",
    "greedy": "greedy",
    "drop_last": "drop the last layers",
    "skip": "skip the middle",
}
"""Other ways to choose, and what figures call them."""


@dataclass
class Counted:
    """Layer-rows of what was asked, with and without sharing."""

    count: Callable[[Any, Sequence[Plan], int, int], tuple[float, float] | None]
    shared: float = 0.0
    alone: float = 0.0
    is_known: bool = True
    _asked: dict[tuple[str, str], int] = field(default_factory=dict)

    @property
    def rows(self) -> tuple[float | None, float | None]:
        """What was counted so far, shared and alone; None where nobody could."""
        return (self.shared, self.alone) if self.is_known else (None, None)

    def add(self, task: Any, plans: Sequence[Plan], count: int) -> None:
        """Count what is new in what is asked."""
        begun: dict[int, list[Plan]] = {}
        for plan in plans:
            before = self._asked.get((task.name, plan.digest), 0)
            if before < count:
                begun.setdefault(before, []).append(plan)
                self._asked[task.name, plan.digest] = count
        for before, some in begun.items():
            found = self.count(task, some, before, count)
            if found is None:
                self.is_known = False
            else:
                self.shared += found[0]
                self.alone += found[1]


@dataclass(frozen=True)
class Measured:
    """What a search measured: the fields of `Found` that do not depend on who asked for it."""

    full: FoundPlan
    best: FoundPlan
    front: Sequence[FoundPlan]
    references: Mapping[str, Sequence[FoundPlan]]
    tried: Sequence[FoundPlan]
    layer_rows: float | None
    layer_rows_alone: float | None
    timed: Sequence[Timed]


@dataclass(frozen=True)
class Search:
    """A search that is ready to be made.

    Attributes:
        objective: What is made small.
        puts: Who puts its items to plans.
        space: What may be changed.
        budget: What a plan may cost.
        method: One of `METHODS`.
        seed: What chance is drawn from.
        references: Other ways to choose that are measured beside it, names in `REFERENCES`.
        influence: How much each layer changes states, for ShortGPT's way; None where unknown.
        counted: Counts what the questions cost.
        times: Times a plan; returns its seconds as a share of the full model's.
        told: Hears how far the search is.
    """

    objective: Objective
    puts: Puts
    space: Space
    budget: Budget
    method: str
    seed: int
    references: Sequence[str]
    influence: Callable[[], Sequence[float] | None]
    counted: Counted
    times: Callable[[Plan], float]
    told: Told

    def made(self) -> Measured:
        """Look for the best plan; measure it, the front and the references on held-out items.

        Raises UserError where no plan keeps the budget, or the full model has no objective.
        """
        full = self.space.plan(FULL)
        self.objective.check(self.puts, full, STAGES)
        counting = _Counting(self.puts, self.counted)
        judge = Judge(
            self.space, lambda plans, share: self.objective.values(counting, plans, share)
        )
        task = Task(self.space, self.budget, judge, self.seed, self._told_of_method)
        check_reachable(task)
        judge.measure([FULL])
        preferred = METHODS[self.method](task)
        rows = self.counted.rows
        own = list(judge.tried)
        chosen, timed = self._chosen(_ranked(task, own, judge.plan(preferred)))
        broken = {one.plan for one in timed if not one.keeps and one.plan != chosen}
        whole = [(one.plan, one.objective) for one in own if one.share == 1]
        whole = [(plan, objective) for plan, objective in whole if plan not in broken]
        front = _front(self.budget, whole, chosen)
        others = self._others(task)
        edits = {one.plan.digest: one.candidate for one in judge.tried}
        every = [full, chosen, *front, *(plan for plans in others.values() for plan in plans)]
        self.told((1 + LOOKING) / 2, "measuring on the items that did not choose")
        found = self._measured(list({plan.digest: plan for plan in every}.values()), edits)
        return Measured(
            full=found[full.digest],
            best=found[chosen.digest],
            front=[found[plan.digest] for plan in front],
            references={name: [found[p.digest] for p in plans] for name, plans in others.items()},
            tried=[self._tried(one) for one in own],
            layer_rows=rows[0],
            layer_rows_alone=rows[1],
            timed=timed,
        )

    def _chosen(self, ranked: Sequence[Plan]) -> tuple[Plan, list[Timed]]:
        """Return the best plan that keeps the budget also by a clock, and what was timed.

        That is the best one where seconds are not bounded, or none of several keeps them.
        """
        timed: list[Timed] = []
        for bound in (bound for bound in self.budget.bounds if bound.measure == SECONDS):
            for number, plan in enumerate(ranked[:TIMED]):
                self.told(LOOKING, f"timing the {'next ' * (number > 0)}best plan")
                measured = self.times(plan)
                keeps = measured <= bound.most / bound.full
                timed.append(Timed(plan, bound.of(plan) / bound.full, measured, keeps))
                if keeps:
                    return plan, timed
        return ranked[0], timed

    def _told_of_method(self, share: float, doing: str, until: float | None = None) -> None:
        self.told(LOOKING * share, doing, None if until is None else LOOKING * until)

    def _tried(self, one: Scored) -> FoundPlan:
        costs = self.budget.costs(one.plan)
        return FoundPlan(one.plan, one.candidate, one.objective, None, costs, one.share)

    def _others(self, task: Task) -> dict[str, list[Plan]]:
        """Return the plans that other ways choose, by what the ways are called."""
        layers, found = self.space.layers, {}
        quiet = Task(task.space, task.budget, task.judge, task.seed)
        for name in self.references:
            self.told(LOOKING, f"{REFERENCES[name]}, for comparison")
            if name == "one_shot":
                found[name] = [task.judge.plan(one_shot(quiet))]
            elif name == "greedy":
                found[name] = [task.judge.plan(greedy(quiet))]
            elif name == "block_influence":
                influence = self.influence()
                order = [] if influence is None else np.argsort(influence, kind="stable").tolist()
                found[name] = _without_first(layers, order, self._most(layers))
            else:
                family = {"drop_last": _last, "skip": _middle}[name]
                found[name] = family(layers, self._most(layers))
        return {REFERENCES[name]: plans for name, plans in found.items() if plans}

    def _most(self, layers: int) -> int:
        """Return how many whole layers are to be dropped until the budget is kept, about."""
        left = min(bound.most / bound.full for bound in self.budget.bounds)
        return max(1, min(layers - 1, round((1 - left) * layers)))

    def _measured(
        self, plans: Sequence[Plan], edits: Mapping[str, Candidate]
    ) -> dict[str, FoundPlan]:
        """Return, by plan's digest, the objective on the items that chose and on the others."""
        choosing, weights = self.objective.values(self.puts, plans)
        held_out, others = self.objective.values(self.puts, plans, held_out=True)
        found = {}
        for at, plan in enumerate(plans):
            own = ratio(list(zip(held_out[at], others, strict=True)))
            mean = float(choosing[at].sum() / weights.sum())
            candidate = edits.get(plan.digest, FULL)
            costs = self.budget.costs(plan)
            value = Value(float(own.value), float(own.stderr))
            found[plan.digest] = FoundPlan(plan, candidate, mean, value, costs)
        return found


class _Counting:
    """Puts items to plans, and counts what that costs."""

    def __init__(self, puts: Puts, counted: Counted) -> None:
        self._puts, self._counted = puts, counted

    def put(self, task: Any, plans: Sequence[Plan], count: int) -> list[list[Mapping[str, Any]]]:
        """Return, by plan, the metrics of a task's first so many items."""
        self._counted.add(task, plans, count)
        return self._puts.put(task, plans, count)


def _ranked(task: Task, tried: Sequence[Scored], preferred: Plan) -> list[Plan]:
    """Return the plans within the budget that were asked all items, the best first.

    Of equals it is the preferred one.
    """
    whole = [one for one in tried if one.share == 1 and task.budget.keeps(one.plan)]
    whole.sort(key=lambda one: (one.objective, one.plan != preferred, str(one.plan)))
    return [one.plan for one in whole]


def _front(budget: Budget, scored: Sequence[tuple[Plan, float]], chosen: Plan) -> list[Plan]:
    """Return the plans that no other beats: none is as cheap and better, or cheaper and as good.

    Of several that are the same in both it is the chosen one.
    """

    def rank(one: tuple[Plan, float]) -> tuple[float, float, bool, str]:
        plan, objective = one
        return budget.cost(plan), round(objective, ROUND), plan != chosen, str(plan)

    front, best = [], np.inf
    for plan, objective in sorted(scored, key=rank):
        if round(objective, ROUND) < best:
            best = round(objective, ROUND)
            front.append(plan)
    return front


def _last(layers: int, most: int) -> list[Plan]:
    return [strategies.drop_last(layers, "block", count) for count in range(1, most + 1)]


def _middle(layers: int, most: int) -> list[Plan]:
    """Return the plans that skip up to so many layers in the middle, as paper B does."""
    every = [strategies.skip(layers, n) for n in range(1, layers // 2)]
    return [plan for plan in every if layers - most <= plan.occurrences.layers < layers]


def _without_first(layers: int, order: Sequence[int], most: int) -> list[Plan]:
    """Return the plans without the first few layers of an order."""
    plans = []
    for count in range(1, min(most, len(order)) + 1):
        kept = [str(layer) for layer in range(layers) if layer not in order[:count]]
        plans.append(Plan.parse(" ".join(kept), layers=layers))
    return plans
