"""Comparing a plan with the baseline item by item: how much it loses, and whether that is chance.

Both answer the same items, so only items on which they differ tell them apart. A paired comparison
of two plans therefore sees far smaller differences than their two standard errors suggest.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import nan
from typing import Literal

import numpy as np
from scipy import stats

from impasto.analysis.bootstrap import RESAMPLES, resampled_mean
from impasto.analysis.confidence import LEVEL, is_count
from impasto.error import UserError, shown


@dataclass(frozen=True, slots=True)
class Comparison:
    """A plan against the baseline on the same n items.

    `difference` is the plan's mean minus the baseline's and `low`, `high` its BCa bootstrap
    interval. `p` is the probability of a difference at least this great, in either direction, if
    the two were equally good; `test` says by which test. `lost` and `gained` count the items on
    which the plan is worse and better.
    """

    n: int
    difference: float
    low: float
    high: float
    p: float
    test: Literal["mcnemar", "bootstrap"]
    lost: int
    gained: int


def compare(
    baseline: Sequence[float] | np.ndarray,
    plan: Sequence[float] | np.ndarray,
    *,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Comparison:
    """Return how a plan's items compare with the baseline's, in the same order.

    Items that are all 0 or 1 are tested by McNemar's exact test, others by the paired bootstrap.
    Raises UserError unless both have the same number of items, one at least.
    """
    ours, theirs = np.asarray(plan, dtype=float), np.asarray(baseline, dtype=float)
    if ours.shape != theirs.shape or ours.ndim != 1 or not len(ours):
        raise UserError(
            f"a paired comparison takes the same items twice, not {len(theirs)} and {len(ours)}"
        )
    differences = ours - theirs
    lost, gained = int((differences < 0).sum()), int((differences > 0).sum())
    low, high, means = resampled_mean(differences, level=level, resamples=resamples, seed=seed)
    binary = bool(np.isin([ours, theirs], (0, 1)).all())
    return Comparison(
        n=len(ours),
        difference=float(differences.mean()),
        low=low,
        high=high,
        p=mcnemar(lost, gained) if binary else bootstrap_p(differences, means),
        test="mcnemar" if binary else "bootstrap",
        lost=lost,
        gained=gained,
    )


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
    n = lost + gained
    return float(stats.binomtest(lost, n).pvalue) if n else 1.0


def bootstrap_p(differences: np.ndarray, means: np.ndarray) -> float:
    """Return the two-sided p of the paired bootstrap: is the mean difference 0?

    `means` are those of the differences' resamples. Shifted by the mean, they are those of two that
    are equally good; p is the share of them at least as far from 0 as the mean found, that one
    counted among them. Efron & Tibshirani (1993), section 16.4. Fewer than two items: not a number.
    """
    if len(differences) < 2 or np.isnan(differences).any():
        return nan
    mean = float(differences.mean())
    as_far = int((np.abs(means - mean) >= abs(mean) * (1 - 1e-12)).sum())
    return (as_far + 1) / (len(means) + 1)
