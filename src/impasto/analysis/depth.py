"""Where on the way through the layers a manipulation stops, or starts, to matter."""

from collections.abc import Mapping

from impasto.tasks.metrics import Metric

TOLERANCE = 0.05  # of a share: 5 points; of a perplexity: 5 percent more than the baseline's
ROUNDING = 1e-9  # 0.95 is within 0.05 of 1.0, whatever floats make of the difference
SHARE = Metric("share")


def critical_depth(
    values: Mapping[int, float],
    baseline: float,
    tolerance: float = TOLERANCE,
    kind: Metric = SHARE,
) -> int | None:
    """Return the depth from which a value stays within `tolerance` of the baseline.

    That is the smallest k in `values` such that at k and at every greater depth the value is worse
    by no more than the tolerance, as `Metric.worse_by` has it; better than the baseline is fine.
    None where there is no such depth.
    """
    return last_run({depth: kind.worse_by(v, baseline) for depth, v in values.items()}, tolerance)


def last_run(losses: Mapping[int, float], tolerance: float = TOLERANCE) -> int | None:
    """Return the smallest depth such that there and at every greater one no more is lost."""
    found = None
    for depth in sorted(losses, reverse=True):
        if not losses[depth] <= tolerance + ROUNDING:
            break
        found = depth
    return found


def winning_depth(ours: Mapping[int, float], theirs: Mapping[int, float]) -> int | None:
    """Return the greatest depth at which `ours` is above `theirs`, or None where it never is."""
    return max((depth for depth in ours if ours[depth] > theirs[depth]), default=None)
