"""Numbers and sentences from results: pure functions over values and tables, no torch.

`critical_depth` is what the depth sweeps are run for; `depth_curves` turns a study's table into
lines over depth; `findings` says in words what they show.
"""

from impasto.analysis.confidence import wilson_interval
from impasto.analysis.curves import DepthCurve, depth_curves
from impasto.analysis.depth import TOLERANCE, critical_depth, winning_depth
from impasto.analysis.findings import findings

__all__ = [
    "TOLERANCE",
    "DepthCurve",
    "critical_depth",
    "depth_curves",
    "findings",
    "wilson_interval",
    "winning_depth",
]
