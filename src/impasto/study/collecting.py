"""From what a model said to a table: judged item by item, summed up by plan, task and metric."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import nan
from typing import Any

from impasto.study.entries import LabelledPlan
from impasto.study.scoring import estimates, group_chance, judged
from impasto.tasks import Estimate, Group, Injectable, Response, Suite, Task

OWN_COLUMNS = ("k", "seed")  # parameters that are columns; the others are JSON in one


@dataclass(frozen=True, slots=True)
class Said:
    """What a model said to a task: each plan's responses by digest, and how many items were cut."""

    responses: Mapping[str, Sequence[Sequence[Response]]]
    truncated: int


Found = dict[str, dict[str, Estimate]]  # by the name of a task or group, then by metric


class Collection:
    """All that a study found, plan by plan, as rows of a table and records of single items."""

    def __init__(
        self, suite: Suite, plans: Sequence[LabelledPlan], said: Mapping[str, Said]
    ) -> None:
        self._suite, self._plans, self._said = suite, plans, said
        self._unique = {labelled.plan.digest: labelled.plan for labelled in plans}
        self._judged = {
            (task.name, digest): judged(task, responses, bool(self._unique[digest].injections))
            for task in suite.tasks
            for digest, responses in said[task.name].responses.items()
        }
        self._found = {digest: self._sum_up(digest) for digest in self._unique}
        baseline = plans[0].plan.digest
        self._baseline = self._found[baseline]
        self._baseline_injected = self._sum_up_injected(baseline)

    def records(self) -> Iterator[dict[str, Any]]:
        """Yield a record of every task, plan and item: by it, plans can be compared paired."""
        for task in self._suite.tasks:
            for digest, plan in self._unique.items():
                for record in self._judged.get((task.name, digest), ()):
                    yield {
                        "task": task.name,
                        "digest": digest,
                        "plan": str(plan),
                        "item": record.item,
                        "responses": [_plain(response) for response in record.responses],
                        "metrics": {m: _plain(value) for m, value in record.metrics.items()},
                    }

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield a row for every task and group, label and metric, in this order."""
        for task in self._suite.tasks:
            chance = {m: task.chance(m) for found in self._both(task.name) for m in found}
            yield from self._rows_of(task, chance, self._said[task.name].truncated)
        for group in self._suite.groups:
            chance = group_chance(group, self._suite.tasks, self._baseline)
            names = {task.name for task in self._suite.tasks if _is_below(task, group, self._suite)}
            truncated = sum(self._said[name].truncated for name in names)
            yield from self._rows_of(group, chance, truncated)

    def _rows_of(
        self, whole: Task | Group, chance: Mapping[str, float], truncated: int
    ) -> Iterator[dict[str, Any]]:
        plain, injected = self._both(whole.name)
        for labelled in self._plans:
            parameters = dict(labelled.parameters)
            own = {name: parameters.pop(name, None) for name in OWN_COLUMNS}
            baseline = injected if labelled.plan.injections else plain
            for metric, estimate in self._found[labelled.plan.digest].get(whole.name, {}).items():
                yield {
                    "task": whole.name,
                    "title": whole.title,
                    "part_of": whole.part_of,
                    "strategy": labelled.strategy,
                    **own,
                    "parameters": json.dumps(parameters, sort_keys=True),
                    "plan": str(labelled.plan),
                    "digest": labelled.plan.digest,
                    "metric": metric,
                    "value": estimate.value,
                    "stderr": estimate.stderr,
                    "n": estimate.n,
                    "chance": chance.get(metric, nan),
                    "baseline": baseline[metric].value if metric in baseline else nan,
                    "truncated": truncated,
                }

    def _both(self, name: str) -> tuple[dict[str, Estimate], dict[str, Estimate]]:
        """Return the baseline's estimates, judged plainly and as if it had injected."""
        return self._baseline.get(name, {}), self._baseline_injected.get(name, {})

    def _sum_up(self, digest: str) -> Found:
        """Return one plan's estimates on every task that it runs on, and on the groups of those."""
        found = {
            task.name: estimates(task, self._judged[task.name, digest])
            for task in self._suite.tasks
            if (task.name, digest) in self._judged
        }
        groups = {group.name: dict(group.aggregate(found)) for group in self._suite.groups}
        return found | groups

    def _sum_up_injected(self, digest: str) -> Found:
        """Return the same where the plan is judged by the donor's answers, though none was used."""
        if not any(plan.injections for plan in self._unique.values()):
            return {}
        return {
            task.name: estimates(task, judged(task, self._said[task.name].responses[digest], True))
            for task in self._suite.tasks
            if isinstance(task, Injectable)
        }


def _is_below(task: Task, group: Group, suite: Suite) -> bool:
    """Say whether a task is a part of a group, or of a group within it."""
    above = {other.name: other.part_of for other in suite.groups}
    name = task.part_of
    while name and name != group.name:
        name = above.get(name, "")
    return bool(name)


def _plain(value: Any) -> Any:
    """Return a value as JSON has it: numbers as Python's own, sequences as lists, else as text."""
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if hasattr(value, "tolist"):  # of numpy
        return value.tolist()
    if isinstance(value, Sequence):
        return [_plain(item) for item in value]
    return str(value)
