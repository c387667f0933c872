"""Numbers and sentences from results: pure functions over values and tables, no torch.

`scores` sums up tasks as the papers do (normalised scores, averages), `items` compares plans item
by item, `changes` says what each loses and how sure that is, `best` which plan to take, `critical`
from which depth on a manipulation no longer matters, and `findings` says in words what a table
shows. `inside` is about a model's states instead. docs/analysis.md has every number's formula.
"""

from impasto.analysis.best import Best, Loss, best_findings, best_plans
from impasto.analysis.changes import Changes
from impasto.analysis.confidence import paired_shares_interval, wilson_interval
from impasto.analysis.critical import critical_depths
from impasto.analysis.curves import DepthCurve, depth_curves
from impasto.analysis.depth import TOLERANCE, critical_depth, winning_depth
from impasto.analysis.findings import findings
from impasto.analysis.items import comparisons, item_scores
from impasto.analysis.paired import Comparison, compare, mcnemar
from impasto.analysis.scores import normalised_score, over_tasks, task_scores
from impasto.tasks.metrics import main_metric, metric_name

__all__ = [
    "TOLERANCE",
    "Best",
    "Changes",
    "Comparison",
    "DepthCurve",
    "Loss",
    "best_findings",
    "best_plans",
    "compare",
    "comparisons",
    "critical_depth",
    "critical_depths",
    "depth_curves",
    "findings",
    "item_scores",
    "main_metric",
    "mcnemar",
    "metric_name",
    "normalised_score",
    "over_tasks",
    "paired_shares_interval",
    "task_scores",
    "wilson_interval",
    "winning_depth",
]
