"""Numbers over several tasks, as papers B and C report them.

The normalised score (B, arXiv 2407.09298, section 3) puts tasks of different difficulty on one
scale: 0 is chance, 1 the full model. B draws its median over tasks. C (arXiv 2407.15516) averages
the scores themselves. Both take one metric of each task, its *main metric*.
"""

from collections.abc import Mapping
from dataclasses import asdict
from math import isnan, nan
from statistics import fmean, median

import pandas as pd

from impasto.analysis.curves import Row, frame_of, table_rows
from impasto.error import UserError
from impasto.table import MINUS
from impasto.tasks.metrics import MAIN_METRICS as MAIN_METRICS
from impasto.tasks.metrics import main_metric as main_metric

NAMES = {
    "exact_match": "accuracy",
    "acc_norm": "accuracy",
    "acc": "accuracy",
    "f1": "F1",
    "acc_mismatched": "accuracy (mismatched)",
    "matthews": "Matthews correlation",
    "pearson": "Pearson correlation",
    "spearman": "Spearman correlation",
    "rouge1": "ROUGE-1",
    "rougeL": "ROUGE-L",
}

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


def metric_name(metric: str) -> str:
    """Return what a reader calls a metric; the name of a filter follows it."""
    plain, _, filtered = metric.partition(",")
    name = NAMES.get(plain, plain.replace("_", " "))
    return f"{name} ({filtered})" if filtered not in ("", "none") else name


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
    """
    plans: dict[tuple[object, ...], list[Row]] = {}
    for row in main_rows(frame, metrics or {}):
        plans.setdefault(tuple(getattr(row, name) for name in PLAN), []).append(row)
    numbers = [dict(zip(PLAN, plan, strict=True)) | _numbers(rows) for plan, rows in plans.items()]
    columns = [*PLAN, "tasks", "average", "baseline", "change", "judged", "median_normalised"]
    return frame_of(numbers, columns)


def _numbers(rows: list[Row]) -> dict[str, float]:
    """Return one plan's numbers over the rows of its tasks."""
    scores = [normalised_score(row.value, row.chance, row.baseline) for row in rows]
    judged = [score for score in scores if not isnan(score)]
    average, baseline = fmean(row.value for row in rows), fmean(row.baseline for row in rows)
    return {
        "tasks": len(rows),
        "average": average,
        "baseline": baseline,
        "change": average - baseline,
        "judged": len(judged),
        "median_normalised": median(judged) if judged else nan,
    }


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
