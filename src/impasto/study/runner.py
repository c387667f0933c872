"""Running a study here: check what can be checked, run each plan once per task, collect.

All plans of a task go to the model together, so that what they have in common is computed once.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from impasto.study.collecting import Said
from impasto.study.document import StudyError
from impasto.study.entries import DONOR, LabelledPlan
from impasto.study.folder import check_folder
from impasto.study.results import Results, collect
from impasto.study.scoring import takes
from impasto.study.study import Study
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


def run_study(
    study: Study,
    out: str | Path | None,
    *,
    model: str | StudiedModel | None,
    limit: int | None,
    progress: Progress | None,
) -> Results:
    """Run a study; see `Study.run`, which this is the body of."""
    name = model if isinstance(model, str) or model is None else model.name
    study = study.as_run(name, limit)
    if not (model is None or isinstance(model, str)):
        study = replace(study, load={})  # it is loaded already, whatever the study would do
    if out is not None:
        check_folder(Path(out), study)
    suite = study.load_suite()
    if model is None or isinstance(model, str):
        if progress is not None:
            progress(0.0, f"loading {study.model}")
        model = _load(study.model, study.load)
    plans = study.labelled_plans(model.num_layers)
    _check_donors(suite, plans)
    said = _run_tasks(model, suite, plans, progress)
    results = collect(study, model.num_layers, suite, plans, said)
    if out is not None:
        results.write(Path(out))
    return results


def _load(name: str, options: Mapping[str, str]) -> StudiedModel:
    from impasto.run import load

    return load(name, **options)


def _check_donors(suite: Suite, plans: Sequence[LabelledPlan]) -> None:
    """Raise StudyError for a plan that injects where no task has donors to inject from."""
    for labelled in plans:
        if not any(takes(task, labelled.plan) for task in suite.tasks):
            raise StudyError(
                f"{labelled.plan} injects, and none of the study's tasks names donors; "
                "capitals and arithmetic do"
            )


def _run_tasks(
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
