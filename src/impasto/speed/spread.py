"""Medians with their intervals, and how far times spread. No torch here.

Times on a shared machine have long tails, so that means say little. A median's interval comes from
the order of the samples alone (scipy's quantile test inverted), whatever the times' own
distribution is.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median, quantiles

from scipy.stats import quantile_test

LEVEL = 0.95
SURE_FROM = 6  # samples; of fewer no interval of theirs reaches that
BUSY = 0.10  # a spread of the baseline's own times from which a machine counts as busy


@dataclass(frozen=True, slots=True)
class Interval:
    """A median, with the interval that holds the true one at 95 %.

    With fewer than six samples no interval reaches that; it is then all that was seen.
    """

    low: float
    middle: float
    high: float

    @classmethod
    def of(cls, samples: Sequence[float]) -> "Interval":
        """Return the interval of some samples, at least one."""
        low, high = quantile_test(samples, p=0.5).confidence_interval(LEVEL)
        if len(samples) < SURE_FROM:  # scipy has none there
            low, high = min(samples), max(samples)
        return cls(float(low), median(samples), float(high))


def spread(samples: Sequence[float]) -> float:
    """Return how far apart the quartiles are, as a share of the median; 0 for one sample."""
    if len(samples) < 2:
        return 0.0
    low, middle, high = quantiles(samples, n=4, method="inclusive")
    return (high - low) / middle if middle else 0.0
