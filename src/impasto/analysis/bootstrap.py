"""The bootstrap: how a number would vary had other items of the same kind been asked.

scipy draws the items and corrects the interval for bias and skew (Efron & Tibshirani, *An
Introduction to the Bootstrap*, 1993, chapter 14). The same seed gives the same numbers. Nothing
here knows plans or tasks.
"""

from math import nan

import numpy as np
from scipy import stats

from impasto.analysis.confidence import LEVEL
from impasto.error import UserError

RESAMPLES = 9_999
AT_ONCE = 2_000_000  # numbers in memory at a time, 16 MB of them


def resampled_mean(
    items: np.ndarray, *, level: float = LEVEL, resamples: int = RESAMPLES, seed: int = 0
) -> tuple[float, float, np.ndarray]:
    """Return the BCa interval of the mean of independent items, and the means of all resamples.

    Equal items have an interval of width 0, fewer than two none: not a number. Raises UserError for
    a level outside 0 to 1, and for fewer than one resample.
    """
    _check(level, resamples)
    if len(items) < 2 or np.isnan(items).any():
        return nan, nan, np.full(resamples, nan)
    if np.ptp(items) == 0:
        return float(items[0]), float(items[0]), np.full(resamples, items[0])
    found = stats.bootstrap(
        (items,),
        np.mean,
        confidence_level=level,
        n_resamples=resamples,
        batch=max(1, AT_ONCE // len(items)),
        rng=seed,
    )
    low, high = map(float, found.confidence_interval)
    return low, high, found.bootstrap_distribution


def percentile_interval(resampled: np.ndarray, level: float = LEVEL) -> tuple[float, float]:
    """Return the percentile interval of what resamples came to, rounded outwards.

    Its ends are values that occurred, as depths need it; scipy's are interpolated. Raises UserError
    as above.
    """
    _check(level, len(resampled))
    tail = round((1 - level) / 2, 12)  # 0.05 of 101 values leaves 5 out, whatever floats make of it
    low = np.quantile(resampled, tail, method="lower")
    high = np.quantile(resampled, round(1 - tail, 12), method="higher")
    return float(low), float(high)


def _check(level: float, resamples: int) -> None:
    if not 0 < level < 1:
        raise UserError(f"a level of confidence lies between 0 and 1, not at {level}")
    if resamples < 1:
        raise UserError(f"resamples is a whole number from 1 on, not {resamples}")
