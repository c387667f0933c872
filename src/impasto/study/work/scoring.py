"""What answers are worth: the records of one plan on one task, and what they come to.

A plan that injects is asked two things, whether the model answered for the donor's subject or still
for its own; every other plan has the task's own metrics.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import nan
from typing import Any

from impasto.plan import Plan
from impasto.tasks import Estimate, Fitted, Group, Response, Task, injectable
from impasto.tasks.masked_text import MaskedTexts


@dataclass(frozen=True, slots=True)
class Judged:
    """What one plan made the model say to one item, and the item's value of each metric."""

    item: str
    responses: tuple[Response, ...]
    metrics: Mapping[str, Any]


def takes(task: Task, plan: Plan) -> bool:
    """Say whether a plan can run on a task.

    One that injects needs a task that names donors, and one about the prompt a task with prompts,
    which whole texts do not have.
    """
    if plan.tells_prompt and getattr(task, "reads_whole_texts", False):
        return False
    return not plan.injections or injectable(task) is not None


def is_for_encoders(task: Task) -> bool:
    """Say whether a task is put to encoders; all others are put to decoders."""
    return isinstance(task, Fitted | MaskedTexts)


def judged(
    task: Task, items: Sequence[Any], responses: Iterable[Sequence[Response]], injected: bool
) -> list[Judged]:
    """Return the records of one plan's responses to some of a task's items, in their order."""
    judge = task.judge
    if injected:
        offering = injectable(task)
        assert offering is not None
        judge = offering.judge_injected
    return [
        Judged(item.id, tuple(given), judge(item, given))
        for item, given in zip(items, responses, strict=True)
    ]


def estimates(
    task: Task, metrics: Iterable[Mapping[str, Any]], finite: bool
) -> dict[str, Estimate]:
    """Return what every metric comes to over the items that have it.

    Unless every score of every item is a finite number, no metric comes to anything: a mean of the
    others would be of other items than those of the plans that it is compared with, and a choice
    among scores that are not numbers is none.
    """
    values: dict[str, list[Any]] = {}
    for record in metrics:
        for metric, value in record.items():
            values.setdefault(metric, []).append(value)
    if not finite:
        return {metric: Estimate(nan, nan, len(given)) for metric, given in values.items()}
    return {metric: task.aggregate(metric, given) for metric, given in values.items()}


def group_chance(
    group: Group, tasks: Sequence[Task], found: Mapping[str, Mapping[str, Estimate]]
) -> dict[str, float]:
    """Return what guessing scores in a group, weighted as the group weights its tasks."""
    guessed = {
        task.name: {
            metric: Estimate(task.chance(metric), estimate.stderr, estimate.n)
            for metric, estimate in found[task.name].items()
        }
        for task in tasks
        if task.name in found
    }
    return {metric: guess.value for metric, guess in group.aggregate(guessed).items()}
