"""Running a study here: check what can be checked, run each plan once per task, collect.

All plans of a task go to the model together, so that what they have in common is computed once.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from impasto.study.asking import Progress, StudiedModel, ask
from impasto.study.document import StudyError
from impasto.study.entries import LabelledPlan
from impasto.study.estimate import Estimate, estimate
from impasto.study.folder import check_folder
from impasto.study.results import Results, Seconds, collect
from impasto.study.scoring import takes
from impasto.study.study import Study
from impasto.tasks import Suite

if TYPE_CHECKING:
    from impasto.run import Model


def run_study(
    study: Study,
    out: str | Path | None,
    *,
    model: str | StudiedModel | None,
    limit: int | None,
    memory: int | None,
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
        model = _loaded(study.model, study.load, memory)
    plans = study.labelled_plans(model.num_layers)
    _check_donors(suite, plans)
    expected = _expected_seconds(model, suite, plans)
    begin = perf_counter()
    said = ask(model, suite, plans, progress)
    seconds = Seconds(expected, perf_counter() - begin)
    results = replace(collect(study, model.num_layers, suite, plans, said), seconds=seconds)
    if out is not None:
        results.write(Path(out))
    return results


def _loaded(name: str, options: Mapping[str, Any], memory: int | None) -> "Model":
    from impasto.run import load

    model = load(name, **options)
    model.memory = memory
    return model


def estimate_study(
    study: Study, model: str | None, limit: int | None, memory: int | None
) -> Estimate:
    """Estimate a study; see `Study.estimate`, which this is the body of."""
    study = study.as_run(model, limit)
    suite = study.load_suite()
    loaded = _loaded(study.model, study.load, memory)
    plans = study.labelled_plans(loaded.num_layers)
    _check_donors(suite, plans)
    return estimate(loaded, suite, plans)


def _expected_seconds(
    model: StudiedModel, suite: Suite, plans: Sequence[LabelledPlan]
) -> float | None:
    """Return how long asking will take; None for a model that cannot say."""
    from impasto.run import Model

    return estimate(model, suite, plans).seconds if isinstance(model, Model) else None


def _check_donors(suite: Suite, plans: Sequence[LabelledPlan]) -> None:
    """Raise StudyError for a plan that injects where no task has donors to inject from."""
    for labelled in plans:
        if not any(takes(task, labelled.plan) for task in suite.tasks):
            raise StudyError(
                f"{labelled.plan} injects, and none of the study's tasks names donors; "
                "capitals and arithmetic do"
            )
