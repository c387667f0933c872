"""How many questions a study asks where it is to know changes precisely: round by round.

A round's size follows from the answers that are saved and from nothing else, not from times,
workers or memory: so a run that goes on asks what an undisturbed one would have asked.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from math import inf
from typing import Any

from impasto.error import UserError
from impasto.plan import Plan
from impasto.study.database.reading import Cells
from impasto.study.database.register import NeededTask
from impasto.study.results.collecting import injected_metrics, saved_metrics
from impasto.study.work.precision import Measured, Reached, Width, measured, widest
from impasto.tasks import Suite, Task, injectable

Metrics = Mapping[str, Sequence[Mapping[str, Any]]]  # by task: each asked item's metrics


class Rounds:
    """The rounds of one run; `plans` are a study's different ones, the baseline first."""

    def __init__(self, suite: Suite, plans: Sequence[Plan], needed: Sequence[NeededTask]) -> None:
        self._baseline, *self._others = plans
        self._needed = {each.task.name: each for each in needed}
        self._measured = {one.name: one for one in measured(suite)}
        self._taken: dict[str, Sequence[Plan]] = {}
        self._reached: dict[str, Reached] = {}
        for one in self._measured.values():
            taking = {p.digest for task in one.tasks for p in self._needed[task.name].plans}
            self._taken[one.name] = [plan for plan in self._others if plan.digest in taking]
            if not self._taken[one.name]:
                raise UserError(
                    f"the limit of {one.name} is about how precisely plans' changes against the "
                    "baseline are known, and no other plan runs on it: give it a number"
                )
            self._ask(one, one.first())

    @property
    def needed(self) -> list[NeededTask]:
        """The study's tasks, each with how many of its items are asked by now."""
        return list(self._needed.values())

    @property
    def reached(self) -> list[Reached]:
        """How precisely everything is known by now."""
        return list(self._reached.values())

    def grow(self, cells: Cells) -> bool:
        """Ask more where that is wanted, given that all is answered; say whether anything is."""
        grown = [self._grow(one, cells) for one in self._open()]
        return any(grown)

    def _open(self) -> Iterator[Measured]:
        return (one for one in self._measured.values() if not self._reached[one.name].is_done)

    def _grow(self, one: Measured, cells: Cells) -> bool:
        """Find the widest interval of what was asked; ask more if it is too wide."""
        asked = {task.name: self._asked(cells, task) for task in one.tasks}
        count = sum(asked.values())
        found = widest(self._widths(one, cells))
        reached = replace(self._reached[one.name], asked=count)
        if found is not None:
            line, width = found
            half = None if width.half == inf else width.half
            reached = replace(reached, widest=half, unit=width.unit, plan=line)
        if found is None or reached.is_enough or count >= one.most:
            self._reached[one.name] = replace(reached, later=0, is_done=True)
            return False
        self._reached[one.name] = reached
        self._ask(one, one.next(count, found[1].half))
        return True

    def _asked(self, cells: Cells, task: Task) -> int:
        return len(cells.positions(task.name, self._baseline.digest))

    def _ask(self, one: Measured, items: int) -> None:
        """Have so many items of all its tasks asked."""
        later = 0
        for name, asked in one.shared_out(items).items():
            needed = self._needed[name]
            most = one.most_of(needed.task)
            self._needed[name] = replace(needed, asked=max(asked, 1), most=most)
            later += (most - asked) * len(needed.plans)
        before = self._reached.get(one.name)
        if before is None:
            before = Reached(one.name, one.precision.within, items, one.items, one.most)
        self._reached[one.name] = replace(before, asked=items, later=later)

    def _widths(self, one: Measured, cells: Cells) -> dict[str, Width]:
        """Return each other plan's width, by its line.

        A plan with scores that are no numbers has none; more questions would give it none either.
        """
        tasks = one.tasks
        plain = {task.name: saved_metrics(cells, task, self._baseline) for task in tasks}
        injected: Metrics = {}
        if any(plan.injections for plan in self._taken[one.name]):
            injected = {
                task.name: injected_metrics(cells, task, self._baseline)
                for task in tasks
                if injectable(task) is not None
            }
        found: dict[str, Width] = {}
        for plan in self._taken[one.name]:
            baseline = injected if plan.injections else plain
            there = [task for task in tasks if task.name in baseline]
            both = (self._baseline, plan)
            if any(cells.not_finite(task.name, p.digest) for task in there for p in both):
                continue
            theirs = {task.name: saved_metrics(cells, task, plan) for task in there}
            width = _width(replace(one, tasks=there), baseline, theirs)
            if width is not None:
                found[str(plan)] = width
        return found


def _width(one: Measured, baseline: Metrics, plan: Metrics) -> Width | None:
    """Return how precisely a plan's change of the main metric is known; None without a metric."""
    estimates = {
        name: dict.fromkeys((m for record in some for m in record), 0.0)
        for name, some in plan.items()
    }
    metric = one.main_metric(estimates)
    if metric is None:
        return None
    old: dict[str, list[Any]] = {}
    new: dict[str, list[Any]] = {}
    for name in plan:
        pairs = [
            (before[metric], now[metric])
            for before, now in zip(baseline[name], plan[name], strict=True)
            if metric in before and metric in now
        ]
        old[name], new[name] = [each[0] for each in pairs], [each[1] for each in pairs]
    return one.width(metric, old, new)
