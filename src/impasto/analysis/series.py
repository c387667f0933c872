"""Scores of a family of plans along one of its parameters, per task and over tasks.

`curves` follows a manipulation over depths; here the parameter is any (n of paper B's families,
loops, the count of paper C), and a series may sum up several tasks, as the papers' figures do: B by
the median of normalised scores, or for encoders by the plain average; C by the average.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isnan, nan
from statistics import fmean
from typing import Any, Literal, TypeAlias

import numpy as np
import pandas as pd

from impasto.analysis.bootstrap import percentile_interval
from impasto.analysis.confidence import Z_95
from impasto.analysis.curves import Row
from impasto.analysis.scores import (
    main_rows,
    mean_of,
    normalised_score,
    tasks_above_chance,
)
from impasto.tasks.metrics import Metric, metric_of

Unit: TypeAlias = Literal["value", "normalised"]
Summary: TypeAlias = Literal["median", "average", "geometric mean"]
DRAWS = 2_000
GLUE_GROUPS, GLUE_METRIC = r"glue_(frozen|fine-tuned).*", "score"


@dataclass(frozen=True, slots=True)
class Point:
    """One value of a series with its 95 % interval over questions, the means over seeds.

    `plans` are the digests of what went in, `seeds` how many seeds the most have.
    """

    value: float
    low: float
    high: float
    plans: tuple[str, ...]
    seeds: int


@dataclass(frozen=True, slots=True)
class Series:
    """A family's values by one parameter; the mean over seeds where there are several.

    Attributes:
        strategy, parameters: The family and its other parameters.
        task, title: Of one task; both empty where tasks are summed up.
        points: By the parameter.
        tasks: How many tasks entered.
        left_out: The titles of the tasks that did not: those whose baseline is not above chance.
    """

    strategy: str
    parameters: Mapping[str, Any]
    task: str
    title: str
    points: Mapping[int, Point]
    tasks: int
    left_out: tuple[str, ...] = ()

    @property
    def seeds(self) -> int:
        """How many seeds the most have."""
        return max(point.seeds for point in self.points.values())


@dataclass(frozen=True)
class TaskSet:
    """Tasks of a study that paper B sums up together, and how.

    Attributes:
        title: What the set is called; empty where it is all that is not GLUE and has a range.
        frame: Their rows of the study's table, none of them a part of another.
        summary: How the tasks are summed up.
    """

    title: str
    frame: pd.DataFrame
    summary: Summary

    def reference(self, level: Literal["baseline", "chance"]) -> float:
        """Return where the full model or guessing lies on the scale of the summary."""
        if self.summary == "median":
            return 1.0 if level == "baseline" else 0.0
        if self.summary == "geometric mean" and level == "chance":
            return nan
        tasks = {row.task: row for row in main_rows(self.frame, {})}
        [metric, *_] = [row.metric for row in tasks.values()]
        return mean_of(metric, (getattr(row, level) for row in tasks.values()))

    @property
    def metric(self) -> Metric:
        """What the summary is measured in: the first task's metric, or a share."""
        first = next(iter(main_rows(self.frame, {})))
        return metric_of(first.metric)


def task_sets(frame: pd.DataFrame) -> list[TaskSet]:
    """Return the sets of a study's tasks: shares, perplexities, then GLUE by its protocols.

    What has no range, such as a perplexity, cannot be summed up with shares: each such metric is a
    set of its own, by its geometric mean. Of GLUE each task enters with its score, the mean of its
    metrics, as in GLUE's own average. Tasks of which no metric is known to stand for them are left
    out.
    """
    alone: Any = frame[frame["part_of"] == ""]
    is_glue = alone["task"].str.fullmatch(GLUE_GROUPS)
    others = alone[~is_glue]
    main = {row.task: metric_of(row.metric) for row in main_rows(others, {})}
    others = others[others["task"].isin(list(main))]
    kind = others["task"].map(lambda task: main[task].title if not main[task].is_bounded else "")
    sets = [
        TaskSet(title, others[kind == title], "geometric mean" if title else "median")
        for title in sorted(set(kind), key=bool)
    ]
    glue = alone[is_glue]
    for name, title in dict(zip(glue["task"], glue["title"], strict=True)).items():
        parts: Any = frame[(frame["part_of"] == name) & (frame["metric"] == GLUE_METRIC)]
        sets.append(TaskSet(str(title), parts.assign(part_of=""), "average"))
    return sets


def averaged_sets(frame: pd.DataFrame) -> list[TaskSet]:
    """Return the sets of tasks that paper C averages: shares, then each metric without a range.

    A group, such as GLUE's, is one task of them.
    """
    alone: Any = frame[frame["part_of"] == ""]
    main = {row.task: metric_of(row.metric) for row in main_rows(alone, {})}
    alone = alone[alone["task"].isin(list(main))]
    kind = alone["task"].map(lambda task: main[task].title if not main[task].is_bounded else "")
    return [
        TaskSet(title, alone[kind == title], "geometric mean" if title else "average")
        for title in sorted(set(kind), key=bool)
    ]


Family: TypeAlias = tuple[str, str]  # strategy, other parameters as JSON
Points: TypeAlias = dict[Family, dict[str, dict[int, Point]]]  # then task, then the parameter


def task_series(frame: pd.DataFrame, parameter: str, unit: Unit) -> list[Series]:
    """Return a series for every family that has the parameter and every task, in study order."""
    titles = {row.task: row.title for row in main_rows(frame, {})}
    return [
        Series(
            strategy=strategy,
            parameters=json.loads(others),
            task=task,
            title=titles[task],
            points=dict(sorted(points.items())),
            tasks=1,
        )
        for (strategy, others), tasks in _points(frame, parameter, unit).items()
        for task, points in tasks.items()
    ]


def summed_series(frame: pd.DataFrame, parameter: str, summary: Summary) -> list[Series]:
    """Return a series over all tasks for every family that has the parameter, in study order.

    `median` is that of the normalised scores, over the tasks that have one; `average` is that of
    the scores, and `geometric mean` that of perplexities. The interval comes from 2,000 draws of
    every task's mean from a normal distribution, on either side as wide as its own interval; it is
    not a number where one of them is not known.
    """
    unit: Unit = "normalised" if summary == "median" else "value"
    titles = {row.task: row.title for row in main_rows(frame, {})}
    found = []
    for (strategy, others), tasks in _points(frame, parameter, unit).items():
        names = [name for name, points in tasks.items() if _is_known(points)]
        judged = [tasks[name] for name in names]
        left_out = tuple(titles[name] for name in tasks if name not in names)
        summed = {
            at: _summed([points[at] for points in judged if at in points], summary)
            for at in sorted({at for points in judged for at in points})
        }
        if summed:
            parameters = json.loads(others)
            found.append(Series(strategy, parameters, "", "", summed, len(judged), left_out))
    return found


def _is_known(points: Mapping[int, Point]) -> bool:
    return not any(isnan(point.value) for point in points.values())


def _summed(points: Sequence[Point], summary: Summary) -> Point:
    values, lows, highs = (
        np.array([getattr(point, end) for point in points]) for end in ("value", "low", "high")
    )
    if summary == "geometric mean":
        with np.errstate(divide="ignore", invalid="ignore"):  # a divergence can be 0
            values, lows, highs = np.log(values), np.log(lows), np.log(highs)
    with np.errstate(invalid="ignore"):
        sides = values - lows, highs - values
    below, above = (np.where(np.isfinite(side), side, 0.0) for side in sides)
    drawn = np.random.default_rng(0).normal(0, 1 / Z_95, size=(DRAWS, len(values)))
    drawn = values + drawn * np.where(drawn < 0, below, above)
    middle = np.median if summary == "median" else np.mean
    low, high = percentile_interval(middle(drawn, axis=1))
    value = middle(values)
    if np.isnan([*lows, *highs]).any():
        low = high = nan
    if summary == "geometric mean":
        value, low, high = np.exp(value), float(np.exp(low)), float(np.exp(high))
    plans = dict.fromkeys(plan for point in points for plan in point.plans)
    seeds = max(point.seeds for point in points)
    return Point(float(value), low, high, tuple(plans), seeds)


def _points(frame: pd.DataFrame, parameter: str, unit: Unit) -> Points:
    rows: dict[Family, dict[str, dict[int, list[Row]]]] = {}
    main = main_rows(frame, {})
    above = tasks_above_chance(main)
    for row in main:
        parameters = parameters_of(row)
        at = parameters.pop(parameter, None)
        parameters.pop("seed", None)
        if at is None:
            continue
        family = (row.strategy, json.dumps(parameters, sort_keys=True))
        rows.setdefault(family, {}).setdefault(row.task, {}).setdefault(at, []).append(row)
    return {
        family: {
            task: {at: _point(here, unit, above.get(task, True)) for at, here in places.items()}
            for task, places in tasks.items()
        }
        for family, tasks in rows.items()
    }


def parameters_of(row: Row) -> dict[str, Any]:
    """Return all parameters of a row's plan, depth and seed included where it has them."""
    own = {"k": row.k, "seed": row.seed}
    return json.loads(row.parameters) | {name: v for name, v in own.items() if v is not None}


def _point(rows: Sequence[Row], unit: Unit, is_above: bool) -> Point:
    """Return the mean over seeds; not a number where nothing can be judged by the task."""
    first, plans = rows[0], tuple(row.digest for row in rows)
    ends = [(row.value, *row.interval) for row in rows]
    means = [fmean(values) for values in zip(*ends, strict=True)]
    if unit == "normalised":
        means = [
            normalised_score(mean, first.chance, first.baseline) if is_above else nan
            for mean in means
        ]
    value, low, high = means
    return Point(value, low, high, plans, len({row.seed for row in rows}))
