"""Running a study here: check what can be checked, run each plan once per task, collect.

All plans of a task go to the model in one call, so that what they have in common is computed once.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from impasto.study.document import StudyError
from impasto.study.entries import DONOR, LabelledPlan
from impasto.study.folder import check_folder
from impasto.study.results import Results, collect
from impasto.study.study import Study
from impasto.tasks import Question, Task

Progress = Callable[[float, str], None]


class StudiedModel(Protocol):
    """What a study needs of a model; `impasto.load` returns one."""

    @property
    def name(self) -> str:
        """What the results call the model."""
        ...

    @property
    def num_layers(self) -> int:
        """How many layers it has."""
        ...

    def generate(
        self,
        plans: Sequence[Any],
        prompts: Sequence[Any],
        max_new_tokens: int = ...,
        stop: Sequence[str] = ...,
        donors: Any = ...,
        progress: Callable[[float], None] = ...,
    ) -> list[list[Any]]:
        """Return, per plan and per prompt, the text that the model says."""
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
    tasks = study.load_tasks()
    if out is not None:
        check_folder(Path(out), study)
    if model is None or isinstance(model, str):
        if progress is not None:
            progress(0.0, f"loading {study.model}")
        model = _load(study.model)
    plans = study.labelled_plans(model.num_layers)
    texts = _run_tasks(model, tasks, plans, progress)
    results = collect(study, model.num_layers, tasks, plans, texts)
    if out is not None:
        results.write(Path(out))
    return results


def _load(name: str) -> StudiedModel:
    from impasto.run import load

    return load(name)


def _run_tasks(
    model: StudiedModel,
    tasks: Sequence[Task],
    plans: Sequence[LabelledPlan],
    progress: Progress | None,
) -> dict[str, dict[str, list[str]]]:
    """Return what the model said: by task name, then by plan digest, in the questions' order."""
    unique = {labelled.plan.digest: labelled.plan for labelled in plans}
    injects = any(plan.injections for plan in unique.values())
    donors = {
        task.name: [_donors(task, question) for question in task.questions] if injects else None
        for task in tasks
    }
    questions = sum(len(task.questions) for task in tasks)
    said: dict[str, dict[str, list[str]]] = {}
    done = 0
    for task in tasks:
        share = len(task.questions) / questions
        texts = model.generate(
            list(unique.values()),
            [question.prompt for question in task.questions],
            max_new_tokens=task.max_new_tokens,
            stop=list(task.stop),
            donors=donors[task.name],
            progress=_part(progress, done / questions, share, task.title),
        )
        said[task.name] = dict(zip(unique, texts, strict=True))
        done += len(task.questions)
    if progress is not None:
        progress(1.0, "done")
    return said


def _donors(task: Task, question: Question) -> Mapping[str, Any]:
    """Return whose states are injected into a question's prompt, and where (paper A, Figure 5)."""
    from impasto.run import Donor

    donor = task.donor_of(question)
    if donor.subject is None or question.subject is None:
        raise StudyError(f"{task.name} has no subjects, so nothing can be injected there")
    return {DONOR: Donor(donor.prompt, donor_span=donor.subject, target_span=question.subject)}


def _part(
    progress: Progress | None, before: float, share: float, title: str
) -> Callable[[float], None]:
    """Return what tells the whole run's progress from one task's."""
    if progress is None:
        return lambda fraction: None
    progress(before, title)
    return lambda fraction: progress(min(1.0, before + share * fraction), title)
