"""Which of a task's metrics stands for it where one is wanted."""

from collections.abc import Iterable

# The first that a task has; the part before a comma counts, so that a filter's name may follow.
MAIN_METRICS = ("exact_match", "acc_norm", "acc", "f1", "rougeL", "matthews", "pearson", "score")


def main_metric(metrics: Iterable[str]) -> str | None:
    """Return the metric that stands for a task when tasks are summed up, if it has one.

    The order is ours: exact match, then length-normalised accuracy (`acc_norm`, which the Open LLM
    Leaderboard reports for ARC and HellaSwag), then accuracy, F1, ROUGE-L. Of several filters the
    first in the table counts (for GSM8K lm-eval lists strict-match first). Perplexities are none:
    they cannot be averaged with shares.
    """
    there = list(metrics)
    for wanted in MAIN_METRICS:
        for metric in there:
            if metric.split(",")[0] == wanted:
                return metric
    return None
