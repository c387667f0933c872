"""A study's table as values: its rows, and curves over depth made of them.

A curve is what the figures draw and the findings speak about: one per task, manipulation and
metric. Where a manipulation was run with several seeds, the curve is their mean. Its band holds the
95 % interval over questions of every seed: with the few seeds that such studies use, their whole
range says more than a standard deviation would.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from statistics import fmean
from typing import Any

import pandas as pd

from impasto.analysis.confidence import value_interval
from impasto.analysis.depth import TOLERANCE, critical_depth
from impasto.tasks.metrics import metric_of

BASELINE = "baseline"  # the strategy's name of the plan that changes nothing


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a study's table: a plan's value of a metric on a task. Shares are from 0 to 1."""

    task: str
    title: str
    part_of: str
    model: str
    layers: int
    strategy: str
    parameters: str
    k: int | None
    seed: int | None
    plan: str
    digest: str
    metric: str
    value: float
    stderr: float
    baseline: float
    chance: float
    n: int

    @property
    def interval(self) -> tuple[float, float]:
        """The value's 95 % interval over questions."""
        kind = metric_of(self.metric)
        n = self.n if kind.items == "questions" else 0
        return value_interval(self.value, self.stderr, n, kind.low, kind.high)


@dataclass(frozen=True, slots=True)
class DepthCurve:
    """One manipulation's values of one metric on one task, by the depth it starts from.

    Values are shares from 0 to 1. `parameters` is what sets it apart besides depth and seed, as
    JSON; `low` and `high` are the ends of the 95 % interval, the widest over seeds; `baseline` is
    the unchanged model's value of the same metric; `digests` are those of the plans at each depth,
    one for each seed.
    """

    task: str
    title: str
    model: str
    layers: int
    strategy: str
    parameters: str
    metric: str
    mean: Mapping[int, float]
    low: Mapping[int, float]
    high: Mapping[int, float]
    digests: Mapping[int, tuple[str, ...]]
    seeds: int
    baseline: float
    chance: float
    n: int

    def critical_depth(self, tolerance: float = TOLERANCE) -> int | None:
        """Return the depth from which the mean stays within `tolerance` of the baseline."""
        return critical_depth(self.mean, self.baseline, tolerance, metric_of(self.metric))


def table_rows(frame: pd.DataFrame) -> list[Row]:
    """Return the rows of a study's table, in its order."""
    columns = [map(_plain, frame[field.name].tolist()) for field in fields(Row)]
    return [Row(*values) for values in zip(*columns, strict=True)]


def frame_of(
    rows: Sequence[Mapping[str, Any]], columns: Sequence[str], whole: Sequence[str] = ("k", "seed")
) -> pd.DataFrame:
    """Return rows as a table; `whole` are its columns of whole numbers that can be missing."""
    return pd.DataFrame(rows, columns=pd.Index(columns)).astype(dict.fromkeys(whole, "Int64"))


def depth_curves(frame: pd.DataFrame) -> list[DepthCurve]:
    """Return the curves of a study's table, in the order in which the study lists them.

    Tasks that are part of a group have none of their own: the group's stand for them.
    """
    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in table_rows(frame):
        if row.k is not None and not row.part_of:
            key = (row.task, row.strategy, row.parameters, row.metric)
            groups.setdefault(key, []).append(row)
    return [_curve(rows) for rows in groups.values()]


def _curve(rows: Sequence[Row]) -> DepthCurve:
    """Return the curve of rows that differ in depth and seed only."""
    first = rows[0]
    by_depth: dict[int, list[Row]] = {}
    for row in rows:
        assert row.k is not None
        by_depth.setdefault(row.k, []).append(row)
    values = {k: [row.value for row in here] for k, here in by_depth.items()}
    common = (field.name for field in fields(DepthCurve) if field.name in Row.__dataclass_fields__)
    return DepthCurve(
        **{name: getattr(first, name) for name in common},
        mean={k: fmean(here) for k, here in values.items()},
        low={k: min(row.interval[0] for row in here) for k, here in by_depth.items()},
        high={k: max(row.interval[1] for row in here) for k, here in by_depth.items()},
        digests={k: tuple(row.digest for row in here) for k, here in by_depth.items()},
        seeds=len({row.seed for row in rows}),
    )


def _plain(value: Any) -> Any:
    """Return a table's value, None where a whole number is missing; other numbers can be nan."""
    return None if value is pd.NA else value
