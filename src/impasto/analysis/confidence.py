"""How sure a number is: the interval in which it lies, at any level of confidence.

Intervals are computed, not resampled: where the best of many plans is to be named, the level is so
high that its tails would take more resamples than anyone has time for.
"""

from functools import cache
from math import inf, isnan, nan

import numpy as np
from scipy import stats

from impasto.error import UserError, shown

LEVEL = 0.95
HALVINGS = 50  # of the interval in which a limit is sought: 1e-15 is left


def z_of(level: float = LEVEL) -> float:
    """Return how many standard errors a two-sided interval of this level takes to either side.

    Raises UserError for a level outside 0 to 1.
    """
    if not 0 < level < 1:
        raise UserError(f"a level of confidence lies between 0 and 1, not at {level}")
    return float(stats.norm.isf((1 - level) / 2))


Z_95 = z_of()


def corrected(comparisons: int, level: float = LEVEL) -> float:
    """Return the level at which so many intervals all hold together (Bonferroni)."""
    return 1 - (1 - level) / max(comparisons, 1)


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
    value: float,
    stderr: float,
    n: int,
    low: float = -inf,
    high: float = inf,
    level: float = LEVEL,
) -> tuple[float, float]:
    """Return the interval of a table's value, 95 % unless another level is given: over other
    questions of the kind.

    Where so many of n questions were right it is Wilson's; else, as for texts, for which n is 0,
    value ± z · standard error, cut at `low` and `high`, the ends of what the value can be. Not a
    number where the value or its error is not known.
    """
    is_share = low == 0 and high == 1
    right = round(value * n) if is_share and not isnan(value) else -1
    if 0 <= right <= n and n > 0 and abs(value * n - right) < 1e-6:
        return wilson_interval(right, n, level)
    if isnan(value) or isnan(stderr):
        return nan, nan
    z = z_of(level)
    return max(low, value - z * stderr), min(high, value + z * stderr)


Ends = tuple[np.ndarray, np.ndarray]  # the lower and the upper ends of intervals


def paired_shares_interval(
    gained: np.ndarray, lost: np.ndarray, n: np.ndarray, level: float = LEVEL
) -> Ends:
    """Return intervals for differences of paired proportions, (plans,) each.

    `gained` and `lost` count the items of n on which the one is right and the other is not; they
    may be fractions. A difference lies outside where both Tango's score test (*Statistics in
    Medicine* 17, 1998) and the likelihood ratio test reject it: far out in the tails the one is too
    narrow on one side, and the other on the other.
    """
    z = z_of(level)
    gained, lost, n = np.broadcast_arrays(*(np.asarray(x, float) for x in (gained, lost, n)))
    estimate = (gained - lost) / n
    ends = []
    for far in (-1.0, 1.0):
        outer, inner = np.full(estimate.shape, far), estimate.copy()
        for _ in range(HALVINGS):
            middle = (outer + inner) / 2
            is_out = _least_deviation(middle, gained, lost, n) > z
            outer, inner = np.where(is_out, middle, outer), np.where(is_out, inner, middle)
        ends.append(outer)
    return ends[0], ends[1]


def _least_deviation(
    difference: np.ndarray, gained: np.ndarray, lost: np.ndarray, n: np.ndarray
) -> np.ndarray:
    """Return how many standard errors away a difference is, by the test that says less.

    The share of lost items is the one that is likeliest under the difference.
    """
    a = 2 * n
    b = -gained - lost + (2 * n - gained + lost) * difference
    c = -lost * difference * (1 - difference)
    share = np.maximum((np.sqrt(np.maximum(b * b - 4 * a * c, 0)) - b) / (2 * a), 0)
    variance = np.maximum(n * (2 * share + difference * (1 - difference)), 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        score = np.nan_to_num(np.abs(gained - lost - n * difference) / np.sqrt(variance))
        expected = share + difference, share, 1 - 2 * share - difference
        observed = gained, lost, n - gained - lost
        ratio = sum(
            np.where(count > 0, count * np.log(count / (n * np.maximum(of, 0))), 0.0)
            for count, of in zip(observed, expected, strict=True)
        )
    return np.minimum(score, np.sqrt(2 * np.maximum(ratio, 0)))


def bounded_interval(
    mean: np.ndarray, square: np.ndarray, n: np.ndarray, reach: float, level: float = LEVEL
) -> Ends:
    """Return intervals for mean differences of items between −reach and reach, (plans,) each.

    `square` are the means of the squared differences. z² items are added, half of them at
    either end of the range, and z standard errors of these taken: as Agresti and Coull's interval
    of a share adds them. Where no item differs the width is Wilson's, not 0.
    """
    z = z_of(level)
    count = n + z * z
    middle = n * mean / count
    variance = np.maximum((n * square + z * z * reach**2) / count - middle**2, 0)
    half = z * np.sqrt(variance / count)
    return np.maximum(middle - half, -reach), np.minimum(middle + half, reach)


def t_interval(mean: np.ndarray, stderr: np.ndarray, n: np.ndarray, level: float = LEVEL) -> Ends:
    """Return Student's intervals for means of n items that have no range; infinite for one item."""
    z_of(level)
    far = np.asarray(stats.t.isf((1 - level) / 2, np.maximum(n - 1, 1)))
    half = np.where(n > 1, far * stderr, inf)
    return mean - half, mean + half
