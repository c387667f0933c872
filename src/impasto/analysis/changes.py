"""By how much a plan changes each task and their average, with intervals.

Where the plans' items are known they are compared item by item; else the two scores are, each with
an interval of its own, which is wider. Values of a metric without a range change by a share.
"""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import isnan, log, nan
from typing import Any

import numpy as np
import pandas as pd

from impasto.analysis.confidence import wilson_interval
from impasto.analysis.curves import BASELINE, Row
from impasto.analysis.depth import ROUNDING
from impasto.analysis.items import comparisons
from impasto.analysis.scores import main_rows
from impasto.tasks.metrics import metric_of

RESAMPLES = 1_999
MOST_RECORDS = 300_000  # answers that are read for it; beyond that scores are compared


@dataclass(frozen=True, slots=True)
class Change:
    """A difference from the baseline with its 95 % interval.

    Of shares it is in shares; of a metric without a range it is by which share more it is, 0.1 for
    10 percent. `is_paired` says whether it was found item by item.
    """

    value: float
    low: float
    high: float
    is_paired: bool = False


def task_changes(
    frame: pd.DataFrame, records: Sequence[Mapping[str, Any]], digests: Iterable[str]
) -> dict[tuple[str, str], Change]:
    """Return the changes of some plans by digest and task, of each task's main metric."""
    wanted = set(digests)
    rows = main_rows(frame, {})
    full = {row.task: row for row in rows if row.strategy == BASELINE}
    every = {row.digest for row in full.values()} | wanted
    digests_of: Any = frame["digest"]
    some: Any = frame[digests_of.isin(list(every))]
    paired = _paired(some, records, every)
    found = {}
    for row in rows:
        if row.digest not in wanted or row.task not in full:
            continue
        apart = _apart(full[row.task], row)
        known = paired.get((row.digest, row.task, row.metric))
        same = known is not None and abs(known.value - apart.value) < ROUNDING
        found[row.digest, row.task] = known if known is not None and same else apart
    return found


def _paired(
    frame: pd.DataFrame, records: Sequence[Mapping[str, Any]], digests: set[str]
) -> dict[tuple[str, str, str], Change]:
    """Return the changes that items show, by digest, task and metric."""
    if not 0 < len(records) <= MOST_RECORDS:
        return {}
    some = [record for record in records if record["digest"] in digests]
    table = comparisons(frame, some, resamples=RESAMPLES) if some else pd.DataFrame()
    return {
        (str(row["digest"]), str(row["task"]), str(row["metric"])): _of_items(row)
        for row in table.to_dict(orient="records")
        if metric_of(str(row["metric"])).is_bounded
    }


def _of_items(row: Mapping[Hashable, Any]) -> Change:
    """Return the change that a comparison found.

    Where both have the same scores no resample differs from another; then it is Wilson's interval
    for none of n.
    """
    value, low, high = (float(row[name]) for name in ("difference", "low", "high"))
    if low == high:
        unseen = wilson_interval(0, int(row["n"]))[1]
        low, high = value - unseen, value + unseen
    return Change(value, low, high, is_paired=True)


def _apart(full: Row, row: Row) -> Change:
    """Return a change from two scores, whose errors add up as those of two samples."""
    by_ratio = not metric_of(row.metric).is_bounded
    ours, theirs = ((one.value, *one.interval) for one in (row, full))
    if by_ratio:
        if not min(ours[0], theirs[0]) > 0:
            return Change(nan, nan, nan)
        ours, theirs = (
            tuple(log(end) if end > 0 else nan for end in ends) for ends in (ours, theirs)
        )
    value = ours[0] - theirs[0]
    below = float(np.hypot(ours[0] - ours[1], theirs[2] - theirs[0]))
    above = float(np.hypot(ours[2] - ours[0], theirs[0] - theirs[1]))
    return (
        _from_logs(value, below, above) if by_ratio else Change(value, value - below, value + above)
    )


def average_change(changes: Sequence[Change], by_ratio: bool) -> Change:
    """Return the change of the average over tasks, which vary apart from each other.

    `by_ratio` says that it is a geometric mean that changes. Not a number where a task's is none.
    """
    ends = np.array([(change.value, change.low, change.high) for change in changes])
    if by_ratio:
        with np.errstate(divide="ignore", invalid="ignore"):
            ends = np.log1p(ends)
    value, low, high = ends.T
    below, above = (
        float(np.sqrt(np.square(side).sum()) / len(ends)) for side in (value - low, high - value)
    )
    mean, is_paired = float(value.mean()), all(change.is_paired for change in changes)
    if by_ratio:
        return _from_logs(mean, below, above)
    return Change(mean, mean - below, mean + above, is_paired)


def _from_logs(value: float, below: float, above: float) -> Change:
    if isnan(value):
        return Change(nan, nan, nan)
    value, low, high = (float(np.expm1(end)) for end in (value, value - below, value + above))
    return Change(value, low, high)
