"""Comparing plans with the baseline item by item: how much each loses, and whether that is chance.

Both answer the same items, so only items on which they differ tell them apart. A paired comparison
of two plans therefore sees far smaller differences than their two standard errors suggest.

What a comparison needs of the items are a few sums (`Differences`). From these every interval
follows at once, at any level, for any number of plans, and also what it would be had so many times
as many items been asked.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, nan
from typing import Literal

import numpy as np
from scipy import stats

from impasto.analysis.confidence import (
    LEVEL,
    Ends,
    bounded_interval,
    is_count,
    paired_shares_interval,
    t_interval,
)
from impasto.error import UserError, shown


@dataclass(frozen=True, slots=True)
class Comparison:
    """A plan against the baseline on the same n items.

    `difference` is the plan's mean minus the baseline's and `low`, `high` its interval, see
    `Differences`. `p` is the probability of a difference at least this great, in either direction,
    if the two were equally good; `test` says by which test. `lost` and `gained` count the items on
    which the plan is worse and better.
    """

    n: int
    difference: float
    low: float
    high: float
    p: float
    test: Literal["mcnemar", "t"]
    lost: int
    gained: int


@dataclass(frozen=True)
class Differences:
    """What is to be known of plans' differences from the baseline over n items, (plans,) each.

    Attributes:
        n: How many items; a fraction where other numbers of items are imagined.
        mean, square: The means of the differences and of their squares.
        error: The standard errors of the means, s/√n with n − 1 in the variance.
        lost, gained: How many items are lower and higher than the baseline's.
        is_binary: Whether the plan's and the baseline's items are all 0 or 1.
        reach: How far a difference can go to either side; infinite where it has no end.
    """

    n: float
    mean: np.ndarray
    square: np.ndarray
    error: np.ndarray
    lost: np.ndarray
    gained: np.ndarray
    is_binary: np.ndarray
    reach: float

    @classmethod
    def of(
        cls,
        baseline: np.ndarray,
        plans: Sequence[np.ndarray],
        reach: float = inf,
        weights: np.ndarray | None = None,
    ) -> "Differences":
        """Return what is to be known of plans' items, (items,) each, beside the baseline's.

        With `weights`, (items,), the means are weighted and their errors those of a ratio.
        """
        n = len(baseline)
        share = np.ones(n) if weights is None else weights / weights.mean()
        right_or_wrong = weights is None and _is_binary(baseline)
        columns = []
        for items in plans:
            each = items - baseline
            mean = float((share * each).mean())
            away = share * (each - mean)
            error = float(np.sqrt((away @ away) / max(n - 1, 1) / n))
            lost, gained = np.count_nonzero(each < 0), np.count_nonzero(each > 0)
            binary = right_or_wrong and _is_binary(items)
            columns.append((mean, float(each @ each) / n, error, lost, gained, binary))
        mean, square, error, lost, gained, binary = np.array(columns, float).reshape(-1, 6).T
        return cls(n, mean, square, error, lost, gained, binary.astype(bool), reach)

    def interval(self, level: float = LEVEL, times: float = 1.0) -> Ends:
        """Return the means' intervals, as they would be with so many `times` as many items.

        For items that are all 0 or 1 they are `paired_shares_interval`'s, for others with a range
        `bounded_interval`'s, and else Student's. Raises UserError for a level outside 0 to 1.
        """
        n = np.full(self.mean.shape, times * self.n)
        if self.reach < inf:
            low, high = bounded_interval(self.mean, self.square, n, self.reach, level)
        else:
            low, high = t_interval(self.mean, self.error / np.sqrt(times), n, level)
        at = self.is_binary
        if at.any():
            gained, lost = times * self.gained[at], times * self.lost[at]
            low[at], high[at] = paired_shares_interval(gained, lost, n[at], level)
        return low, high

    def p_values(self) -> np.ndarray:
        """Return two-sided p values: by McNemar's exact test where items are 0 or 1, else by t.

        Differences that say nothing about each other can be turned round one by one, so that m of
        them never show less than 2^(1 − m). Not a number where fewer than two items are no 0 or 1.
        """
        apart = self.lost + self.gained
        sign = np.minimum(1.0, 2 * stats.binom.cdf(np.minimum(self.lost, self.gained), apart, 0.5))
        if self.n < 2:
            return np.where(self.is_binary, sign, nan)
        with np.errstate(divide="ignore", invalid="ignore"):
            t = np.where(self.mean == 0, 0.0, np.abs(self.mean) / self.error)
        p = np.maximum(2 * stats.t.sf(t, self.n - 1), np.minimum(1.0, 2.0 ** (1 - apart)))
        return np.where(self.is_binary, sign, p)

    def comparisons(self, level: float = LEVEL) -> list[Comparison]:
        """Return each plan's comparison with the baseline."""
        low, high = self.interval(level)
        columns = (self.mean, low, high, self.p_values(), self.is_binary, self.lost, self.gained)
        return [
            Comparison(
                n=int(self.n),
                difference=float(mean),
                low=float(least),
                high=float(most),
                p=float(p),
                test="mcnemar" if binary else "t",
                lost=int(lost),
                gained=int(gained),
            )
            for mean, least, most, p, binary, lost, gained in zip(*columns, strict=True)
        ]


def compare(
    baseline: Sequence[float] | np.ndarray,
    plan: Sequence[float] | np.ndarray,
    *,
    level: float = LEVEL,
    reach: float = inf,
) -> Comparison:
    """Return how a plan's items compare with the baseline's, in the same order.

    Items that are all 0 or 1 are tested by McNemar's exact test, others by Student's t. `reach` is
    how far a difference of two items can go, where their metric has a range: 1 for F1. Raises
    UserError unless both have the same number of items, one at least.
    """
    ours, theirs = np.asarray(plan, dtype=float), np.asarray(baseline, dtype=float)
    if ours.shape != theirs.shape or ours.ndim != 1 or not len(ours):
        raise UserError(
            f"a paired comparison takes the same items twice, not {len(theirs)} and {len(ours)}"
        )
    [compared] = Differences.of(theirs, [ours], reach).comparisons(level)
    return compared


def mcnemar(lost: int, gained: int) -> float:
    """Return the two-sided p of McNemar's exact test for so many lost and gained items.

    If plan and baseline were equally good, each item that tells them apart would be a fair coin:
    p = min(1, 2 · P(X ≤ min(lost, gained))) with X ~ Binomial(lost + gained, 1/2). McNemar,
    *Psychometrika* 12 (1947); the exact form is the sign test. Without such items p is 1. Raises
    UserError unless both are whole numbers from 0 on.
    """
    if not (is_count(lost) and is_count(gained)):
        raise UserError(
            f"{shown(lost)} lost and {shown(gained)} gained are no numbers of items: each is a "
            "whole number from 0 on"
        )
    return min(1.0, 2 * float(stats.binom.cdf(min(lost, gained), lost + gained, 0.5)))


def apart_interval(
    plan: tuple[float, float, float], baseline: tuple[float, float, float]
) -> tuple[float, float]:
    """Return the interval of a difference of two values, each (value, low, high), not paired.

    The distances to the ends add up by squares (MOVER; Newcombe, *Statistics in Medicine* 17,
    1998, method 10).
    """
    (value, low, high), (base, least, most) = plan, baseline
    below, above = np.hypot(value - low, most - base), np.hypot(high - value, base - least)
    return float(value - base - below), float(value - base + above)


def _is_binary(items: np.ndarray) -> bool:
    return bool(((items == 0) | (items == 1)).all())
