"""The critical depth of a manipulation, and between which depths it lies.

A depth *matters* where the whole paired interval of its loss is beyond the tolerance, at a level
corrected for the number of depths. It is *within* where the whole interval is within the tolerance,
and so is that of every greater depth: such a run is tested from the last depth on and ends at the
first that fails, so that it takes no correction. The critical depth is then behind the last depth
that matters, and no later than the first of those within. Each side fails in 2.5 % at most, however
few the questions are.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import isnan

import numpy as np
import pandas as pd

from impasto.analysis.changes import Changes, Member
from impasto.analysis.confidence import LEVEL, corrected
from impasto.analysis.curves import DepthCurve, depth_curves, frame_of
from impasto.analysis.depth import ROUNDING, TOLERANCE, last_run
from impasto.analysis.items import Record, item_scores


@dataclass(frozen=True, slots=True)
class Critical:
    """The critical depth of a curve, with what is sure of each depth.

    Attributes:
        depths: Those that were run, in order.
        critical: The critical depth as measured; None where there is none.
        low, high: The ends of its interval. None counts as deeper than any.
        matters: Depths at which more than the tolerance is lost for sure, with the least loss.
        within: Depths at which, and at every greater one, no more is lost for sure.
        idle: Depths at which the plans are the baseline itself: nothing is left to manipulate.
    """

    depths: tuple[int, ...]
    critical: int | None
    low: int | None
    high: int | None
    matters: dict[int, float]
    within: frozenset[int]
    idle: frozenset[int]

    @property
    def sure_high(self) -> int | None:
        """The upper end; None where only depths at which nothing is left are within."""
        return None if self.high in self.idle else self.high

    @property
    def is_told(self) -> bool:
        """Say whether the interval has two ends and holds no more than half of the depths."""
        if self.low is None or self.sure_high is None:
            return False
        held = [depth for depth in self.depths if self.low <= depth <= self.sure_high]
        return len(held) == 1 or 2 * len(held) <= len(self.depths)


def critical_of(
    changes: Changes, curve: DepthCurve, tolerance: float = TOLERANCE, level: float = LEVEL
) -> Critical | None:
    """Return a curve's critical depth; None where a depth has no value, or the baseline none."""
    depths = tuple(sorted(curve.mean))
    members = members_of(curve, depths)
    idle = frozenset(
        d for d, member in zip(depths, members, strict=True) if changes.is_idle(member)
    )
    one, together = (
        changes.on(curve.task, curve.metric, members, at)
        for at in (level, corrected(len(members) - len(idle), level))
    )
    lost = one.lost
    if np.isnan(lost).any() or any(map(isnan, (curve.baseline, *curve.mean.values()))):
        return None
    least = dict(zip(depths, together.low.tolist(), strict=True))
    matters = {depth: low for depth, low in least.items() if low > tolerance + ROUNDING}
    behind = max(matters, default=depths[0] - 1)
    high = last_run(dict(zip(depths, one.high.tolist(), strict=True)), tolerance)
    return Critical(
        depths,
        last_run(dict(zip(depths, lost.tolist(), strict=True)), tolerance),
        next((depth for depth in depths if depth > behind), None),
        high,
        matters,
        frozenset(depth for depth in depths if high is not None and depth >= high),
        idle,
    )


def members_of(curve: DepthCurve, depths: Sequence[int]) -> list[Member]:
    """Return the plans at each depth, one for each seed."""
    return [tuple(dict.fromkeys(curve.digests[depth])) for depth in depths]


def critical_depths(
    frame: pd.DataFrame,
    records: Iterable[Record],
    tolerance: float = TOLERANCE,
    *,
    level: float = LEVEL,
) -> pd.DataFrame:
    """Return the critical depth of every curve of a study's table, with its interval.

    One row per task, manipulation and metric: `critical`, `low` and `high`, empty for none (see
    `Critical`). Where a manipulation was run with several seeds, an item's value is its mean over
    them. Curves with a depth that has no value, and what has no baseline, are left out.
    """
    changes = Changes(frame, item_scores(records))
    rows = []
    for curve in depth_curves(frame):
        found = critical_of(changes, curve, tolerance, level)
        if found is not None:
            names = ("task", "title", "strategy", "parameters", "metric", "n")
            rows.append(
                {name: getattr(curve, name) for name in names}
                | {"critical": found.critical, "low": found.low, "high": found.high}
            )
    whole = ("critical", "low", "high")
    columns = ["task", "title", "strategy", "parameters", "metric", "n", *whole]
    return frame_of(rows, columns, whole)
