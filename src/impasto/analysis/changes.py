"""What plans lose against the baseline, on a task or on average over several, with intervals.

Every sentence about plans takes its numbers from here: a loss as measured, and the interval in
which it lies at a level that the speaker corrects for how many plans were looked at. A loss of a
score is in shares (0.1 is 10 points); a loss of what has no range, such as a perplexity, is the
share of the baseline's by which it is worse (0.1 is 10 % more).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import inf, isnan, log, nan

import numpy as np
import pandas as pd

from impasto.analysis.confidence import LEVEL, value_interval
from impasto.analysis.curves import Row, table_rows
from impasto.analysis.items import (
    AS_BASELINE,
    ROUNDING,
    Key,
    baseline_digest,
    pooled_scores,
)
from impasto.analysis.paired import Differences, apart_interval
from impasto.tasks.metrics import Metric, metric_of

Member = tuple[str, ...]  # the digests of plans that stand for one: those of its seeds


@dataclass(frozen=True)
class Losses:
    """What each of some members loses, with the ends of its interval; (members,) each.

    Not a number where a member has no value. An interval whose ends are not known is infinite.
    """

    lost: np.ndarray
    low: np.ndarray
    high: np.ndarray

    def within(self, kind: Metric, baseline: float) -> "Losses":
        """Return the losses with ends at which a plan's score is one: of 100 % none is gained."""
        if not kind.is_bounded:
            return self
        worst, best = kind.worse_by(kind.low, baseline), kind.worse_by(kind.high, baseline)
        least, most = min(worst, best), max(worst, best)
        return Losses(self.lost, np.clip(self.low, least, most), np.clip(self.high, least, most))


class Changes:
    """A study's plans beside its baseline: asked for what they lose, on which task, at which level.

    `scores` are those of `item_scores`. A task whose items cannot be paired, as those of
    correlations, enters with the intervals of the two scores, which is wider.
    """

    def __init__(self, frame: pd.DataFrame, scores: Mapping[Key, np.ndarray]) -> None:
        self._rows = {(row.task, row.digest, row.metric): row for row in table_rows(frame)}
        self._scores = pooled_scores(frame, scores)
        self._baseline = baseline_digest(frame)
        self._kept: dict[tuple[str, str, tuple[Member, ...]], Differences] = {}

    def on(
        self,
        task: str,
        metric: str,
        members: Iterable[Member],
        level: float = LEVEL,
        times: float = 1.0,
    ) -> Losses:
        """Return what members lose on a task; where `times` is given, had so many times as many
        questions been asked. A member's loss is that of its items' means over its plans.
        """
        kind = metric_of(metric)
        return _as_losses(kind, *self._gains(task, metric, tuple(members), level, times))

    def average(
        self,
        tasks: Mapping[str, str],
        members: Iterable[Member],
        level: float = LEVEL,
        times: float = 1.0,
    ) -> Losses:
        """Return what members lose on average over tasks, given with their metrics, of one kind.

        Tasks vary apart from each other: the distances to the ends of their intervals add up by
        squares (MOVER). Of metrics without a range it is the geometric mean that is lost.
        """
        members = tuple(members)
        gains = [self._gains(task, m, members, level, times) for task, m in tasks.items()]
        gained, low, high = (np.array(parts) for parts in zip(*gains, strict=True))
        middle = gained.mean(axis=0)
        below, above = (
            np.sqrt(np.square(side).sum(axis=0)) / len(tasks)
            for side in (gained - low, high - gained)
        )
        kind = metric_of(next(iter(tasks.values())))
        reach = _reach(kind)
        ends = np.maximum(middle - below, -reach), np.minimum(middle + above, reach)
        return _as_losses(kind, middle, *ends)

    def beside(
        self, task: str, metrics: tuple[str, str], members: Iterable[Member], level: float = LEVEL
    ) -> Losses:
        """Return by how much one metric of a range is below another under the same plans."""
        gains = [self._between(task, metrics, member, level) for member in members]
        gained, low, high = np.array(gains, float).reshape(-1, 3).T
        return Losses(-gained, -high, -low)

    def interval_of(self, row: Row) -> tuple[float, float]:
        """Return a row's 95 % interval; where its error is not known, that of its items' log p."""
        low, high = row.interval
        found = self._items(row.task, (row.digest,), row.metric) if isnan(low) else None
        if found is None or metric_of(row.metric).is_bounded:
            return low, high
        log_p = Differences.of(np.zeros(len(found[0])), [found[0]], weights=found[1])
        low, high = (float(np.exp(-end[0])) for end in log_p.interval()[::-1])
        return low, high

    def is_idle(self, member: Member) -> bool:
        """Say whether a member's plans are all the baseline itself, which it cannot differ from."""
        return set(member) == {self._baseline}

    def questions(self, tasks: Mapping[str, str]) -> int:
        """Return how many questions the baseline was asked on some tasks."""
        return sum(self._rows[task, self._baseline, metric].n for task, metric in tasks.items())

    def _gains(
        self, task: str, metric: str, members: tuple[Member, ...], level: float, times: float
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return what members gain, with its ends: in shares, or in log p for what has no range."""
        gained, low, high = (np.full(len(members), nan) for _ in range(3))
        base = self._items(task, (self._baseline,), metric, as_baseline=True)
        paired = []
        for place, member in enumerate(members):
            if self.is_idle(member):
                gained[place] = low[place] = high[place] = 0.0
            elif base is not None and self._items(task, member, metric) is not None:
                paired.append(place)
            else:
                apart = self._apart(task, metric, member, level, times)
                gained[place], low[place], high[place] = apart
        if paired:
            found = self._differences(task, metric, tuple(members[place] for place in paired))
            gained[paired] = found.mean
            low[paired], high[paired] = found.interval(level, times)
        return gained, low, high

    def _differences(self, task: str, metric: str, members: tuple[Member, ...]) -> Differences:
        key = (task, metric, members)
        if key not in self._kept:
            base = self._items(task, (self._baseline,), metric, as_baseline=True)
            assert base is not None
            items = (self._items(task, member, metric) for member in members)
            plans = [each[0] for each in items if each is not None]
            self._kept[key] = Differences.of(base[0], plans, _reach(metric_of(metric)), base[1])
        return self._kept[key]

    def _items(
        self, task: str, member: Member, metric: str, as_baseline: bool = False
    ) -> tuple[np.ndarray, np.ndarray | None] | None:
        """Return a member's items, (items,), more being better, and their weights if they have any.

        None where they are not known, or do not make up the table's value: then they are in another
        unit than the value.
        """
        named = AS_BASELINE.get(metric, metric) if as_baseline else metric
        found, weights = [], None
        for digest in member:
            items, row = (
                self._scores.get((task, digest, named)),
                self._rows.get((task, digest, named)),
            )
            if items is None or row is None or not _makes_up(row, items):
                return None
            if items.ndim == 2:
                items, weights = items[:, 0] / items[:, 1], items[:, 1]
            found.append(items)
        kind = metric_of(metric)
        sign = -1.0 if kind.lower_is_better and kind.is_bounded else 1.0
        return sign * np.mean(found, axis=0), weights

    def _between(
        self, task: str, metrics: tuple[str, str], member: Member, level: float
    ) -> tuple[float, float, float]:
        """Return by how much one metric is above another, item by item where there are items."""
        ours, theirs = (self._items(task, member, metric) for metric in metrics)
        if ours is not None and theirs is not None:
            found = Differences.of(theirs[0], [ours[0]], 1.0)
            low, high = found.interval(level)
            return float(found.mean[0]), float(low[0]), float(high[0])
        rows = [[self._rows.get((task, digest, metric)) for digest in member] for metric in metrics]
        if any(row is None for of_metric in rows for row in of_metric):
            return nan, nan, nan
        ours_at, theirs_at = (
            tuple(
                np.mean(
                    [_values(row, metric_of(row.metric), level, 1.0) for row in r if row], axis=0
                )
            )
            for r in rows
        )
        return (ours_at[0] - theirs_at[0], *apart_interval(ours_at, theirs_at))

    def _apart(
        self, task: str, metric: str, member: Member, level: float, times: float
    ) -> tuple[float, float, float]:
        """Return a member's gain and its ends from the two scores alone."""
        rows = [self._rows.get((task, digest, metric)) for digest in member]
        known = [row for row in rows if row is not None]
        base = self._rows.get((task, self._baseline, AS_BASELINE.get(metric, metric)))
        if base is None or len(known) < len(rows):
            return nan, nan, nan
        kind = metric_of(metric)
        ours = np.mean([_values(row, kind, level, times) for row in known], axis=0)
        theirs = _values(base, kind, level, times)
        sign = -1.0 if kind.lower_is_better else 1.0
        gained, (low, high) = ours[0] - theirs[0], apart_interval(tuple(ours), theirs)
        ends = sorted((sign * low, sign * high)) if low == low else (-inf, inf)
        return sign * gained, ends[0], ends[1]


def _values(row: Row, kind: Metric, level: float, times: float) -> tuple[float, float, float]:
    """Return a value with the ends of its interval; the logarithms where it has no range."""
    n = round(row.n * times) if kind.items == "questions" else 0
    low, high = value_interval(row.value, row.stderr / times**0.5, n, kind.low, kind.high, level)
    if kind.is_bounded:
        return row.value, low, high
    if not row.value > 0:
        return nan, nan, nan
    error = (high - row.value) / row.value  # of the logarithm
    return log(row.value), log(row.value) - error, log(row.value) + error


def _makes_up(row: Row, items: np.ndarray) -> bool:
    """Say whether a table's value is the mean of the items, or what has no range the exp of −it."""
    if isnan(row.value):
        return False
    if metric_of(row.metric).is_bounded:
        return items.ndim == 1 and abs(items.mean() - row.value) < ROUNDING
    log_p = items.mean() if items.ndim == 1 else items[:, 0].sum() / items[:, 1].sum()
    with np.errstate(over="ignore"):
        return bool(abs(np.exp(-log_p) / row.value - 1) < ROUNDING) if row.value else False


def _reach(kind: Metric) -> float:
    return kind.high - kind.low if kind.is_bounded else inf


def _as_losses(kind: Metric, gained: np.ndarray, low: np.ndarray, high: np.ndarray) -> Losses:
    if kind.is_bounded:
        return Losses(-gained, -high, -low)
    with np.errstate(over="ignore"):
        return Losses(np.expm1(-gained), np.expm1(-high), np.expm1(-low))
