"""Numbers over several tasks, as papers B and C report them.

The normalised score (B, arXiv 2407.09298, section 3) puts tasks of different difficulty on one
scale: 0 is chance, 1 the full model. B draws its median over tasks. C (arXiv 2407.15516) averages
the scores themselves. Both take one metric of each task, its *main metric*.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from math import isnan, nan
from statistics import fmean, geometric_mean, median

import pandas as pd

from impasto.analysis.curves import BASELINE, Row, frame_of, table_rows
from impasto.error import UserError
from impasto.table import MINUS
from impasto.tasks.metrics import main_metric, metric_of

PLAN = ("model", "layers", "strategy", "k", "seed", "parameters", "plan", "digest")


def normalised_score(value: float, chance: float, full: float) -> float:
    """Return (value − chance) / (full − chance): 0 at chance, 1 for the full model.

    Below chance it is negative, and a plan better than the full model has more than 1. Not a number
    where the full model is not above chance, or where there is no chance level: then nothing can be
    judged.
    """
    if isnan(chance) or not full > chance:
        return nan
    return (value - chance) / (full - chance)


def task_scores(frame: pd.DataFrame, metrics: Mapping[str, str] | None = None) -> pd.DataFrame:
    """Return the table's rows of each task's main metric, with a column `normalised`.

    A task that is part of a group is left out: the group stands for it. `metrics` names another
    main metric for the tasks in it. Raises UserError for a task or a metric that the table lacks.
    """
    rows = [
        asdict(row) | {"normalised": normalised_score(row.value, row.chance, row.baseline)}
        for row in main_rows(frame, metrics or {})
    ]
    return frame_of(rows, [*Row.__dataclass_fields__, "normalised"])


def over_tasks(frame: pd.DataFrame, metrics: Mapping[str, str] | None = None) -> pd.DataFrame:
    """Return one row per plan with its numbers over the study's tasks.

    `average` is the mean of the tasks' main metrics (paper C), `baseline` that of the full model
    and `change` their difference; `median_normalised` is the median of the normalised scores (paper
    B), over the `judged` tasks that have one of `tasks` in all. See `task_scores`.

    Perplexities and the like cannot be averaged with shares: they enter only where a study has
    nothing else, and then `average` is their geometric mean.
    """
    rows = main_rows(frame, metrics or {})
    bounded = [row for row in rows if metric_of(row.metric).is_bounded]
    above = tasks_above_chance(rows)
    plans: dict[tuple[object, ...], list[Row]] = {}
    for row in bounded or rows:
        plans.setdefault(tuple(getattr(row, name) for name in PLAN), []).append(row)
    numbers = [
        dict(zip(PLAN, plan, strict=True)) | _numbers(rows, above) for plan, rows in plans.items()
    ]
    columns = [*PLAN, "tasks", "average", "baseline", "change", "judged", "median_normalised"]
    return frame_of(numbers, columns)


def _numbers(rows: list[Row], above: Mapping[str, bool]) -> dict[str, float]:
    """Return one plan's numbers over the rows of its tasks."""
    judged = [
        score
        for row in rows
        if above.get(row.task)
        and not isnan(score := normalised_score(row.value, row.chance, row.baseline))
    ]
    average, baseline = (
        mean_of(rows[0].metric, (getattr(row, of) for row in rows)) for of in ("value", "baseline")
    )
    return {
        "tasks": len(rows),
        "average": average,
        "baseline": baseline,
        "change": average - baseline,
        "judged": len(judged),
        "median_normalised": median(judged) if judged else nan,
    }


def mean_of(metric: str, values: Iterable[float]) -> float:
    """Return what tasks' values come to: their mean, or for a metric without range the geometric.

    Not a number where one of them is none, or, for the geometric mean, is not above 0.
    """
    numbers = list(values)
    if metric_of(metric).is_bounded:
        return fmean(numbers)
    return geometric_mean(numbers) if all(number > 0 for number in numbers) else nan


def is_above_chance(row: Row) -> bool:
    """Say whether a baseline's row shows more than chance: its 95 % interval lies above it.

    A plan can only lose what the full model has: where this fails, nothing can be said of any plan
    by this task. Where a share has no chance level 0 stands for it; a perplexity's interval has to
    lie below that of a guess, where one is known.
    """
    kind, (low, high) = metric_of(row.metric), row.interval
    if kind.is_bounded:
        return (row.value if isnan(low) else low) > (0.0 if isnan(row.chance) else row.chance)
    worst = row.value if isnan(high) else high
    return not isnan(row.value) and (isnan(row.chance) or worst < row.chance)


def tasks_above_chance(rows: Iterable[Row]) -> dict[str, bool]:
    """Return, by task, whether the baseline is above chance; `rows` are those of main metrics."""
    return {row.task: is_above_chance(row) for row in rows if row.strategy == BASELINE}


def main_rows(frame: pd.DataFrame, metrics: Mapping[str, str]) -> list[Row]:
    """Return the rows of the main metrics of tasks that are no part of another."""
    rows = [row for row in table_rows(frame) if not row.part_of]
    there: dict[str, dict[str, None]] = {}
    for row in rows:
        there.setdefault(row.task, {})[row.metric] = None
    for task, metric in metrics.items():
        if metric not in there.get(task, {}):
            known = ", ".join(there.get(task, {})) or "nothing: there is no such task"
            raise UserError(f"the table has no {metric!r} of {task!r}; it has {known}")
    chosen = {task: main_metric(found) for task, found in there.items()} | dict(metrics)
    return [row for row in rows if row.metric == chosen[row.task]]


def signed(number: float, digits: int = 1) -> str:
    """Return a number with its sign, a minus as it is printed; nothing where it is not one."""
    if number != number:
        return ""
    text = f"{round(number, digits) + 0.0:+.{digits}f}"  # and no zero with a minus
    return text.replace("-", MINUS)
