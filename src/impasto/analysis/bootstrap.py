"""The bootstrap: how a number would vary had other items of the same kind been asked.

Drawing n items with replacement is drawing how often each is taken, or each value where many items
share one: a resample is then a row of counts, and many resamples are one matrix product. Every
function takes a seed and gives the same answer for it; nothing here knows plans or tasks.

Efron & Tibshirani, *An Introduction to the Bootstrap* (1993): chapter 13 (percentile), 14 (BCa).
"""

from collections.abc import Iterator, Sequence
from math import ceil, floor, nan
from statistics import NormalDist

import numpy as np

from impasto.error import UserError

LEVEL = 0.95
RESAMPLES = 9_999
AT_ONCE = 2_000_000  # numbers in memory at a time, 16 MB of them
FEW = 16  # times as many items as values: then drawing counts is faster than drawing items

NORMAL = NormalDist()


def mean_interval(
    values: Sequence[float] | np.ndarray,
    *,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> tuple[float, float]:
    """Return the BCa bootstrap interval of the mean of independent items; see `bca_interval`."""
    items = np.asarray(values, dtype=float)
    return bca_interval(items, resampled_means(items, resamples=resamples, seed=seed), level)


def bca_interval(items: np.ndarray, means: np.ndarray, level: float = LEVEL) -> tuple[float, float]:
    """Return the BCa interval of the items' mean, given the means of their resamples.

    BCa corrects the percentile interval for bias and skew (chapter 14.3), which matters where most
    items have the same value, as differences between two plans do. Equal values have an interval
    of width 0, fewer than two none: not a number. Raises UserError for a level outside 0 to 1.
    """
    _check_level(level)
    if len(items) < 2 or np.isnan(items).any():
        return nan, nan
    if np.ptp(items) == 0:
        return float(items[0]), float(items[0])
    distinct, times = np.unique(items, return_counts=True)
    mean = float(times @ distinct / len(items))  # summed as the resamples of few values are
    ordered = np.sort(means)
    below = np.searchsorted(ordered, mean, "left") + np.searchsorted(ordered, mean, "right")
    share = min(max(below / 2, 0.5), len(ordered) - 0.5) / len(ordered)
    bias = NORMAL.inv_cdf(float(share))
    centred = items - mean  # what each item adds to the mean, up to a factor
    skew = float((centred**3).sum() / (6 * (centred**2).sum() ** 1.5))
    low, high = (_bca(NORMAL.inv_cdf(q), bias, skew) for q in _tails(level))
    return order_statistic(ordered, low), order_statistic(ordered, high, upper=True)


def resampled_means(values: np.ndarray, *, resamples: int = RESAMPLES, seed: int = 0) -> np.ndarray:
    """Return the mean of each resample. Where values are few, equal ones are drawn together."""
    n, rng = len(values), np.random.default_rng(seed)
    distinct, times = np.unique(values, return_counts=True)
    if len(distinct) * FEW <= n:
        drawn = _counts(n, times / n, resamples, rng)
        return np.concatenate([counts @ distinct / n for counts in drawn])
    parts = (rng.integers(n, size=(size, n)) for size in _sizes(n, resamples))
    return np.concatenate([values[index].mean(axis=1) for index in parts])


def resampled_columns(
    columns: np.ndarray, *, resamples: int = RESAMPLES, seed: int = 0
) -> Iterator[np.ndarray]:
    """Yield the means of every column, resample by resample: (resamples, columns) in parts.

    `columns` is (items, columns). A resample takes the same items in all columns, so that what
    the columns have in common stays in common.
    """
    n = len(columns)
    for counts in _counts(n, np.full(n, 1 / n), resamples, np.random.default_rng(seed)):
        yield counts @ columns / n


def order_statistic(ordered: np.ndarray, quantile: float, *, upper: bool = False) -> float:
    """Return the value of the ordered resamples at a quantile: one that occurred, none between.

    The lower end of an interval rounds down and its upper end up, so that it never gets narrower.
    """
    place = quantile * (len(ordered) - 1)
    index = ceil(place - 1e-9) if upper else floor(place + 1e-9)
    return float(ordered[min(max(index, 0), len(ordered) - 1)])


def percentile_interval(ordered: np.ndarray, level: float = LEVEL) -> tuple[float, float]:
    """Return the percentile interval of ordered resamples (chapter 13.3)."""
    _check_level(level)
    low, high = _tails(level)
    return order_statistic(ordered, low), order_statistic(ordered, high, upper=True)


def _counts(
    n: int, shares: np.ndarray, resamples: int, rng: np.random.Generator
) -> Iterator[np.ndarray]:
    """Yield how often each item is drawn in each resample, some resamples at a time."""
    for size in _sizes(len(shares), resamples):
        yield rng.multinomial(n, shares, size=size)


def _sizes(width: int, resamples: int) -> Iterator[int]:
    """Yield how many resamples of so many numbers to draw at a time."""
    if resamples < 1:
        raise UserError(f"resamples is a whole number from 1 on, not {resamples}")
    at_once = max(1, AT_ONCE // width)
    for start in range(0, resamples, at_once):
        yield min(at_once, resamples - start)


def _tails(level: float) -> tuple[float, float]:
    return (1 - level) / 2, (1 + level) / 2


def _bca(z: float, bias: float, skew: float) -> float:
    """Return the quantile that BCa reads in place of Φ(z) (equation 14.10)."""
    shifted = bias + z
    return NORMAL.cdf(bias + shifted / (1 - skew * shifted))


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise UserError(f"a level of confidence lies between 0 and 1, not at {level}")
