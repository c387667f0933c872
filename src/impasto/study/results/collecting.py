"""From saved answers to a table: what each plan comes to on each task and group, by metric."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import nan
from typing import Any

from impasto.plan import Plan
from impasto.study.database.reading import Cells
from impasto.study.file.entries import LabelledPlan
from impasto.study.work.identity import digest_of
from impasto.study.work.scoring import estimates, group_chance, judged
from impasto.tasks import Estimate, Group, Suite, Task, injectable

OWN_COLUMNS = ("k", "seed")  # parameters that are columns; the others are JSON in one

Found = dict[str, dict[str, Estimate]]  # by the name of a task or group, then by metric


class Collection:
    """All that a study has found so far, as rows of a table; `data` are the tasks' digests by name.

    Of a study that is not finished, a row is over the items that its plan was asked, and there is
    none where it was asked nothing.
    """

    def __init__(
        self,
        suite: Suite,
        plans: Sequence[LabelledPlan],
        cells: Cells,
        data: Mapping[str, str],
    ) -> None:
        self._suite, self._plans, self._cells, self._data = suite, plans, cells, data
        self._unique = {labelled.plan.digest: labelled.plan for labelled in plans}
        self._found = {digest: self._sum_up(plan) for digest, plan in self._unique.items()}
        baseline = plans[0].plan
        self._baseline = self._found[baseline.digest]
        self._baseline_injected = self._sum_up_injected(baseline)

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield a row for every task and group, label and metric, in this order."""
        for task in self._suite.tasks:
            chance = {m: task.chance(m) for found in self._both(task.name) for m in found}
            yield from self._rows_of(task, chance, [task.name])
        for group in self._suite.groups:
            chance = group_chance(group, self._suite.tasks, self._baseline)
            below = [task.name for task in self._suite.tasks if _is_below(task, group, self._suite)]
            yield from self._rows_of(group, chance, below)

    def _rows_of(
        self, whole: Task | Group, chance: Mapping[str, float], parts: Sequence[str]
    ) -> Iterator[dict[str, Any]]:
        plain, injected = self._both(whole.name)
        truncated = sum(self._cells.truncated(name) for name in parts)
        data = [self._data[name] for name in parts]
        for labelled in self._plans:
            digest = labelled.plan.digest
            parameters = dict(labelled.parameters)
            own = {name: parameters.pop(name, None) for name in OWN_COLUMNS}
            baseline = injected if labelled.plan.injections else plain
            for metric, estimate in self._found[digest].get(whole.name, {}).items():
                yield {
                    "task": whole.name,
                    "title": whole.title,
                    "part_of": whole.part_of,
                    "strategy": labelled.strategy,
                    **own,
                    "parameters": json.dumps(parameters, sort_keys=True),
                    "plan": str(labelled.plan),
                    "digest": digest,
                    "metric": metric,
                    "value": estimate.value,
                    "stderr": estimate.stderr,
                    "n": estimate.n,
                    "chance": chance.get(metric, nan),
                    "baseline": baseline[metric].value if metric in baseline else nan,
                    "truncated": truncated,
                    "not_finite": sum(self._cells.not_finite(name, digest) for name in parts),
                    "data": self._data.get(whole.name) or digest_of(data),
                }

    def _both(self, name: str) -> tuple[dict[str, Estimate], dict[str, Estimate]]:
        """Return the baseline's estimates, judged plainly and as if it had injected."""
        return self._baseline.get(name, {}), self._baseline_injected.get(name, {})

    def _sum_up(self, plan: Plan) -> Found:
        """Return one plan's estimates on every task that it runs on, and on the groups of those."""
        found = {
            task.name: self._estimates(task, plan.digest, saved_metrics(self._cells, task, plan))
            for task in self._suite.tasks
            if (task.name, plan.digest) in self._cells.finished
        }
        groups = {group.name: dict(group.aggregate(found)) for group in self._suite.groups}
        return found | groups

    def _estimates(
        self, task: Task, digest: str, metrics: Iterable[Mapping[str, Any]]
    ) -> dict[str, Estimate]:
        return estimates(task, metrics, not self._cells.not_finite(task.name, digest))

    def _sum_up_injected(self, baseline: Plan) -> Found:
        """Return the same where the plan is judged by the donor's answers, though none was used."""
        if not any(plan.injections for plan in self._unique.values()):
            return {}
        found: Found = {}
        there = self._cells.finished
        for task in self._suite.tasks:
            if injectable(task) is not None and (task.name, baseline.digest) in there:
                metrics = injected_metrics(self._cells, task, baseline)
                found[task.name] = self._estimates(task, baseline.digest, metrics)
        return found


def saved_metrics(cells: Cells, task: Task, plan: Plan) -> list[Mapping[str, Any]]:
    """Return each item's metrics; judged anew where they could not be saved to the last bit."""
    if cells.is_exact(task.name, plan.digest):
        return list(cells.metrics(task.name, plan.digest))
    return _judged_metrics(cells, task, plan.digest, bool(plan.injections))


def injected_metrics(cells: Cells, task: Task, plan: Plan) -> list[Mapping[str, Any]]:
    """Return each item's metrics judged by the donor's answers, whatever the plan injected."""
    return _judged_metrics(cells, task, plan.digest, injected=True)


def _judged_metrics(
    cells: Cells, task: Task, digest: str, injected: bool
) -> list[Mapping[str, Any]]:
    items = [task.items[position] for position in cells.positions(task.name, digest)]
    records = judged(task, items, cells.responses(task.name, digest), injected)
    return [record.metrics for record in records]


def _is_below(task: Task, group: Group, suite: Suite) -> bool:
    """Say whether a task is a part of a group, or of a group within it."""
    above = {other.name: other.part_of for other in suite.groups}
    name = task.part_of
    while name and name != group.name:
        name = above.get(name, "")
    return bool(name)
