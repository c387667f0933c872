"""How sure a share is: the interval in which it lies."""

from functools import cache
from math import inf, isnan, nan

import numpy as np
from scipy import stats

from impasto.error import UserError, shown

LEVEL = 0.95
Z_95 = float(stats.norm.ppf((1 + LEVEL) / 2))


def wilson_interval(right: int, n: int, level: float = LEVEL) -> tuple[float, float]:
    """Return Wilson's score interval of a share: 95 % unless another level is given.

    Unlike share ± z · standard error it stays within 0 and 1 and is not empty at either end.
    Raises UserError unless 0 <= right <= n and n > 0.
    """
    if not (is_count(right) and is_count(n) and right <= n and n > 0):
        raise UserError(f"{shown(right)} right of {shown(n)} is not a share")
    return _wilson(int(right), int(n), level)


@cache
def _wilson(right: int, n: int, level: float) -> tuple[float, float]:
    """Return scipy's interval; a study's rows have the same shares over and over."""
    low, high = stats.binomtest(right, n).proportion_ci(level, method="wilson")
    return float(low), float(high)


def is_count(value: object) -> bool:
    """Say whether a value is a whole number from 0 on."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        return False
    return bool(value >= 0)


def value_interval(
    value: float, stderr: float, n: int, low: float = -inf, high: float = inf
) -> tuple[float, float]:
    """Return the 95 % interval of a table's value: over other questions of the kind.

    Where so many of n questions were right it is Wilson's; else value ± z · standard error, cut
    at `low` and `high`, the ends of what the value can be. Not a number where the value or its
    error is not known.
    """
    is_share = low == 0 and high == 1
    right = round(value * n) if is_share and not isnan(value) else -1
    if 0 <= right <= n and n > 0 and abs(value * n - right) < 1e-6:
        return wilson_interval(right, n)
    if isnan(value) or isnan(stderr):
        return nan, nan
    return max(low, value - Z_95 * stderr), min(high, value + Z_95 * stderr)
