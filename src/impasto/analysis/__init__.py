"""Numbers and sentences from results: pure functions over values and tables, no torch.

`scores` sums up tasks as the papers do (normalised scores, averages), `items` compares plans item
by item, `depth` and `curves` find from which depth on a manipulation no longer matters, and
`findings` says in words what a table shows. `inside` is about a model's states instead.
docs/analysis.md has every number's formula.
"""

from impasto.analysis.confidence import wilson_interval
from impasto.analysis.curves import DepthCurve, depth_curves
from impasto.analysis.depth import (
    TOLERANCE,
    critical_depth,
    critical_depth_interval,
    winning_depth,
)
from impasto.analysis.findings import findings
from impasto.analysis.items import comparisons, critical_depths, item_scores
from impasto.analysis.paired import Comparison, compare, mcnemar
from impasto.analysis.scores import normalised_score, over_tasks, task_scores
from impasto.tasks.metrics import main_metric, metric_name

__all__ = [
    "TOLERANCE",
    "Comparison",
    "DepthCurve",
    "compare",
    "comparisons",
    "critical_depth",
    "critical_depth_interval",
    "critical_depths",
    "depth_curves",
    "findings",
    "item_scores",
    "main_metric",
    "mcnemar",
    "metric_name",
    "normalised_score",
    "over_tasks",
    "task_scores",
    "wilson_interval",
    "winning_depth",
]
