"""Where on the way through the layers a manipulation stops, or starts, to matter."""

from collections.abc import Mapping, Sequence

import numpy as np

from impasto.analysis.bootstrap import percentile_interval
from impasto.analysis.confidence import LEVEL
from impasto.error import UserError

TOLERANCE = 0.05
ROUNDING = 1e-9  # 0.95 is within 0.05 of 1.0, whatever floats make of the difference
RESAMPLES = 1_999  # of a whole number's interval: its ends are depths that occurred


def critical_depth(
    values: Mapping[int, float], baseline: float, tolerance: float = TOLERANCE
) -> int | None:
    """Return the depth from which accuracy stays within `tolerance` of the baseline.

    That is the smallest k in `values` such that at k and at every greater depth the value is at
    least baseline − tolerance; better than the baseline is fine. None where there is no such depth.
    """
    found = None
    for depth in sorted(values, reverse=True):
        if not values[depth] >= baseline - tolerance - ROUNDING:
            break
        found = depth
    return found


def critical_depth_interval(
    items: Mapping[int, Sequence[float] | np.ndarray],
    baseline: Sequence[float] | np.ndarray,
    tolerance: float = TOLERANCE,
    *,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> tuple[int | None, int | None]:
    """Return the percentile bootstrap interval of the critical depth.

    `items` has, by depth, each item's value (its mean over seeds, where there are several), and
    `baseline` the same items' values without manipulation. Every resample draws items, the same
    ones at all depths and for the baseline, and finds its critical depth. An end is None where that
    many resamples have none; none counts as deeper than any. Raises UserError where a depth has
    other numbers of items than the baseline.
    """
    depths = sorted(items)
    if not depths or any(len(items[depth]) != len(baseline) for depth in depths):
        raise UserError("every depth takes as many items as the baseline, and there is one depth")
    columns = np.stack([baseline, *(items[depth] for depth in depths)], axis=1, dtype=float)
    rng, n = np.random.default_rng(seed), len(baseline)
    places = []
    for _ in range(resamples):
        first, *others = columns[rng.integers(n, size=n)].mean(axis=0)
        found = critical_depth(dict(zip(depths, others, strict=True)), first, tolerance)
        places.append(len(depths) if found is None else depths.index(found))
    low, high = percentile_interval(np.array(places), level)
    ends: list[int | None] = [*depths, None]
    return ends[int(low)], ends[int(high)]


def winning_depth(ours: Mapping[int, float], theirs: Mapping[int, float]) -> int | None:
    """Return the greatest depth at which `ours` is above `theirs`, or None where it never is."""
    return max((depth for depth in ours if ours[depth] > theirs[depth]), default=None)
