"""Putting a study's tasks to a model: all plans of a task go in one call.

So what plans, items and choices have in common is computed once.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from impasto.study.collecting import Said
from impasto.study.entries import DONOR, LabelledPlan
from impasto.study.scoring import takes
from impasto.tasks import Injectable, Suite, Task
from impasto.tasks.answering import AskedModel, answer

Progress = Callable[[float, str], None]


class StudiedModel(AskedModel, Protocol):
    """What a study needs of a model; `impasto.load` returns one."""

    @property
    def name(self) -> str:
        """What the results call the model."""
        ...

    @property
    def num_layers(self) -> int:
        """How many layers it has."""
        ...


def ask(
    model: StudiedModel,
    suite: Suite,
    plans: Sequence[LabelledPlan],
    progress: Progress | None,
) -> dict[str, Said]:
    """Return what the model said, by task name. Plans run on the tasks that take them."""
    unique = {labelled.plan.digest: labelled.plan for labelled in plans}
    total = sum(len(task.items) for task in suite.tasks)
    said: dict[str, Said] = {}
    done = 0
    for task in suite.tasks:
        taken = {digest: plan for digest, plan in unique.items() if takes(task, plan)}
        answers = answer(
            model,
            list(taken.values()),
            task.requests(model.tokenizer),
            _donors(task) if any(plan.injections for plan in taken.values()) else None,
            progress=_part(progress, done / total, len(task.items) / total, task.title),
        )
        by_digest = dict(zip(taken, answers.responses, strict=True))
        said[task.name] = Said(by_digest, answers.truncated)
        done += len(task.items)
    if progress is not None:
        progress(1.0, "done")
    return said


def _donors(task: Task) -> list[Mapping[str, Any]]:
    """Return whose states are injected into each item's prompt, and where (paper A, Figure 5)."""
    from impasto.run import Donor

    assert isinstance(task, Injectable)
    return [{DONOR: Donor(**task.donor(item))} for item in task.items]


def _part(
    progress: Progress | None, before: float, share: float, title: str
) -> Callable[[float], None]:
    """Return what tells the whole run's progress from one task's."""
    if progress is None:
        return lambda fraction: None
    progress(before, title)
    return lambda fraction: progress(min(1.0, before + share * fraction), title)
