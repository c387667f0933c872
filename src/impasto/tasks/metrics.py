"""What the metrics of tasks mean: what readers call them, in which range they lie, which way is up.

A metric is known by its name in a table; for lm-eval's, the part before a comma counts, so that a
filter's name may follow. A name that is not listed here is taken for a share.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from math import inf
from typing import Literal


@dataclass(frozen=True, slots=True)
class Metric:
    """A kind of number that a task is measured by.

    Attributes:
        title: What readers call it.
        low, high: The ends of its range, infinite where it has none.
        better: Which end is the good one.
        unit: What it is counted in; empty for shares and other bare numbers.
        items: What it is measured over: questions that are right or not, or texts of many tokens.
    """

    title: str
    low: float = 0.0
    high: float = 1.0
    better: Literal["higher", "lower"] = "higher"
    unit: str = ""
    items: Literal["questions", "texts"] = "questions"

    @property
    def is_bounded(self) -> bool:
        """Say whether it has both ends: a share, or a correlation. It is shown in percent then."""
        return self.high < inf

    @property
    def lower_is_better(self) -> bool:
        """Say whether less of it is better."""
        return self.better == "lower"

    def worse_by(self, value: float, baseline: float) -> float:
        """Return by how much a value is worse than the baseline's; negative where it is better.

        For a metric with a range it is the difference, in shares. For one without, such as a
        perplexity, it is the share of the baseline by which it is worse: 0.1 is 10 percent more.
        """
        lost = value - baseline if self.lower_is_better else baseline - value
        return lost if self.is_bounded else lost / baseline if baseline else inf


def _of_texts(title: str, unit: str = "", low: float = 0.0) -> Metric:
    return Metric(title, low, inf, "lower", unit, "texts")


# The first that a task has is its main metric. The order is ours: exact match, then
# length-normalised accuracy (which the Open LLM Leaderboard reports for ARC and HellaSwag), then
# accuracy, F1, ROUGE-L, correlations, GLUE's score; then what has no range.
METRICS = {
    "exact_match": Metric("accuracy"),
    "acc_norm": Metric("accuracy"),
    "acc": Metric("accuracy"),
    "f1": Metric("F1"),
    "rougeL": Metric("ROUGE-L"),
    "matthews": Metric("Matthews correlation", low=-1.0),
    "pearson": Metric("Pearson correlation", low=-1.0),
    "score": Metric("score", low=-1.0),
    "perplexity": _of_texts("perplexity", low=1.0),
    "word_perplexity": _of_texts("perplexity per word", low=1.0),
    "pseudo_perplexity": _of_texts("pseudo-perplexity", low=1.0),
    "byte_perplexity": _of_texts("perplexity per byte", low=1.0),
    "bits_per_byte": _of_texts("bits per byte", "bits"),
    "kl": _of_texts("KL divergence from the full model", "nats per token"),
}
MAIN = tuple(METRICS)
METRICS |= {
    "acc_mismatched": Metric("accuracy (mismatched)"),
    "spearman": Metric("Spearman correlation", low=-1.0),
    "rouge1": Metric("ROUGE-1"),
    "agreement": Metric("agreement with the full model", items="texts"),
    "brier_score": Metric("Brier score", 0.0, 2.0, "lower"),
    "loglikelihood": Metric("log-likelihood", -inf, 0.0),
    "ter": Metric("TER", 0.0, inf, "lower"),
}


def metric_of(name: str) -> Metric:
    """Return what a metric of a table means: where it is not known, a share, better higher."""
    plain = name.split(",")[0]
    return METRICS.get(plain) or Metric(plain.replace("_", " "))


def main_metric(metrics: Iterable[str]) -> str | None:
    """Return the metric that stands for a task when tasks are summed up, if it has one.

    Of several filters the first in the table counts (for GSM8K lm-eval lists strict-match first).
    """
    there = list(metrics)
    for wanted in MAIN:
        for metric in there:
            if metric.split(",")[0] == wanted:
                return metric
    return None


def metric_name(metric: str) -> str:
    """Return what a reader calls a metric; the name of a filter follows it."""
    title = metric_of(metric).title
    _, _, filtered = metric.partition(",")
    return f"{title} ({filtered})" if filtered not in ("", "none") else title
