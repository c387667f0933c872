"""Medians with their intervals, and how far times spread. No torch here.

Times on a shared machine have long tails, so that means say little. A median's interval comes from
the order of the samples alone (the binomial distribution of how many lie below the true median),
whatever the times' own distribution is.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import comb
from statistics import median, quantiles

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
        ordered = sorted(samples)
        cut = _cut(len(ordered))
        return cls(ordered[cut], median(ordered), ordered[len(ordered) - 1 - cut])


def spread(samples: Sequence[float]) -> float:
    """Return how far apart the quartiles are, as a share of the median; 0 for one sample."""
    if len(samples) < 2:
        return 0.0
    low, middle, high = quantiles(samples, n=4, method="inclusive")
    return (high - low) / middle if middle else 0.0


def _cut(count: int) -> int:
    """Return how many samples lie outside of the interval on either side."""
    cut, below = 0, 1 / 2**count  # how likely it is that so few lie below the true median
    while 2 * (below := below + comb(count, cut + 1) / 2**count) <= 1 - LEVEL:
        cut += 1
    return cut
