"""The cheapest plan that loses no more than so much: what an engineer asks of a study."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from impasto.analysis.costs import COUNTED, Priced, priced_plans
from impasto.analysis.curves import BASELINE, table_rows
from impasto.analysis.items import Key, pooled_scores
from impasto.analysis.paired import compare
from impasto.analysis.scores import main_rows
from impasto.strategies import STRATEGIES

LOSSES = (0.01, 0.05, 0.10)


@dataclass(frozen=True, slots=True)
class Best:
    """The cheapest plan within a loss: the change of its average over tasks, with its interval.

    `change`, `low` and `high` are shares; `low` and `high` are not numbers where items are unknown.
    """

    loss: float
    plan: Priced
    change: float
    low: float
    high: float


def best_plans(
    frame: pd.DataFrame,
    scores: Mapping[Key, np.ndarray],
    measured: "tuple[str, Mapping[str, float]] | None" = None,
    losses: Sequence[float] = LOSSES,
) -> list[Best]:
    """Return, for each loss that a plan cheaper than the baseline keeps to, the cheapest such plan.

    A loss is of the average over tasks, in shares: 0.01 is a point. Of equally cheap plans the one
    with the highest average is taken. `scores` are those of `item_scores`.
    """
    priced = priced_plans(frame, measured)
    baseline = next((plan for plan in priced if plan.family == BASELINE), None)
    if baseline is None:
        return []
    cheaper = [plan for plan in priced if plan.cost < baseline.cost - 1e-9]
    cheaper.sort(key=lambda plan: (plan.cost, -plan.average))
    found = []
    for loss in losses:
        kept = (p for p in cheaper if p.average >= baseline.average - loss - 1e-9)
        if plan := next(kept, None):
            low, high = _interval(frame, scores, plan, baseline)
            found.append(Best(loss, plan, plan.average - baseline.average, low, high))
    return found


def _interval(
    frame: pd.DataFrame, scores: Mapping[Key, np.ndarray], plan: Priced, baseline: Priced
) -> tuple[float, float]:
    """Return the 95 % interval of a change of the average: tasks vary apart from each other."""
    pooled = pooled_scores(frame, scores)
    rows = [row for row in main_rows(frame, {}) if row.digest == plan.digest]
    rows = list({row.task: row for row in rows}.values())
    halves = []
    for row in rows:
        ours = pooled.get((row.task, plan.digest, row.metric))
        theirs = pooled.get((row.task, baseline.digest, row.metric))
        if ours is None or theirs is None:
            return float("nan"), float("nan")
        compared = compare(theirs, ours)
        halves.append((compared.difference - compared.low, compared.high - compared.difference))
    below, above = (
        float(np.sqrt(np.square(side).sum())) / len(rows) for side in zip(*halves, strict=True)
    )
    change = plan.average - baseline.average
    return change - float(below), change + float(above)


def best_findings(found: Sequence[Best]) -> Iterator[str]:
    """Yield a sentence for each of the best plans."""
    for best in found:
        points = f"{100 * best.loss:g} point" + ("s" if best.loss != 0.01 else "")
        unit = "of the full model's attention parts and MLPs"
        cost = (
            f"runs {best.plan.cost:.1f} % {unit}"
            if best.plan.unit == COUNTED
            else f"costs {best.plan.cost:.3g} ({best.plan.unit})"
        )
        interval = (
            f" (95 % interval {100 * best.low:+.1f} to {100 * best.high:+.1f})"
            if best.low == best.low
            else ""
        )
        yield (
            f"The cheapest plan that loses no more than {points} on average over the tasks is "
            f"{best.plan.plan}: it {cost} and changes the average by {100 * best.change:+.1f} "
            f"points{interval}."
        )
    if found:
        yield (
            "The best of many plans is flattered by chance: before you rely on one, run it again "
            "on other items."
        )


def critical_findings(frame: pd.DataFrame, critical: pd.DataFrame) -> Iterator[str]:
    """Yield a sentence with the interval of each critical depth; see `items.critical_depths`."""
    layers = next((row.layers for row in table_rows(frame)), 0)
    for row in critical.to_dict(orient="records"):
        if row["critical"] is pd.NA or row["metric"] == "answers_injected":
            continue
        low, high = (("none" if row[end] is pd.NA else row[end]) for end in ("low", "high"))
        strategy = STRATEGIES[row["strategy"]].title if row["strategy"] in STRATEGIES else "Plans"
        yield (
            f"{row['title']}, {strategy.lower()}: critical depth {row['critical']} of {layers} "
            f"(95 % interval {low} to {high}, {row['n']} questions)."
        )
