"""Where on the way through the layers a manipulation stops, or starts, to matter."""

from collections.abc import Mapping

TOLERANCE = 0.05
ROUNDING = 1e-9  # 0.95 is within 0.05 of 1.0, whatever floats make of the difference


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


def winning_depth(ours: Mapping[int, float], theirs: Mapping[int, float]) -> int | None:
    """Return the greatest depth at which `ours` is above `theirs`, or None where it never is."""
    return max((depth for depth in ours if ours[depth] > theirs[depth]), default=None)
