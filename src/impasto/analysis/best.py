"""The cheapest plan that loses no more than so much: what an engineer asks of a study."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from impasto.analysis.confidence import wilson_interval
from impasto.analysis.costs import COUNTED, Priced, priced_plans
from impasto.analysis.curves import BASELINE, Row, table_rows
from impasto.analysis.items import Key, pooled_scores
from impasto.analysis.paired import compare
from impasto.analysis.scores import main_rows, signed
from impasto.strategies import STRATEGIES

LOSSES = (0.01, 0.05, 0.10)


@dataclass(frozen=True, slots=True)
class Best:
    """The cheapest plan within a loss: the change of its average over tasks, with its interval.

    `change`, `low` and `high` are shares; `low` and `high` are not numbers where no error is known.
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
    rows = main_rows(frame, {})
    ours, theirs = (
        {row.task: row for row in rows if row.digest == digest}
        for digest in (plan.digest, baseline.digest)
    )
    halves = [
        _halves(*(pooled.get((row.task, row.digest, row.metric)) for row in pair)) or _apart(*pair)
        for pair in ((theirs[task], ours[task]) for task in ours)
    ]
    below, above = (
        float(np.sqrt(np.square(side).sum())) / len(halves) for side in zip(*halves, strict=True)
    )
    change = plan.average - baseline.average
    return change - float(below), change + float(above)


def _halves(theirs: np.ndarray | None, ours: np.ndarray | None) -> tuple[float, float] | None:
    """Return how far the paired interval of a task's change reaches down and up, or None.

    Where both have the same scores no resample differs from another; then it is Wilson's interval
    for none of n.
    """
    if theirs is None or ours is None:
        return None
    compared = compare(theirs, ours)
    if compared.low == compared.high:
        unseen = wilson_interval(0, len(ours))[1]
        return unseen, unseen
    return compared.difference - compared.low, compared.high - compared.difference


def _apart(theirs: Row, ours: Row) -> tuple[float, float]:
    """Return the same for two scores that cannot be compared item by item, and so are less sure."""
    (low, high), (least, most) = ours.interval, theirs.interval
    half = float(np.hypot((high - low) / 2, (most - least) / 2))
    return half, half


def best_findings(found: Sequence[Best]) -> Iterator[str]:
    """Yield a sentence for each of the best plans, with all losses that it keeps to."""
    for digest in dict.fromkeys(best.plan.digest for best in found):
        same = [best for best in found if best.plan.digest == digest]
        best, losses = same[0], [f"{100 * one.loss:g}" for one in same]
        points = " or ".join(filter(None, (", ".join(losses[:-1]), losses[-1])))
        points += " point" if losses == ["1"] else " points"
        unit = "of the full model's attention parts and MLPs"
        cost = (
            f"runs {best.plan.cost:.1f} % {unit}"
            if best.plan.unit == COUNTED
            else f"costs {best.plan.cost:.3g} ({best.plan.unit})"
        )
        low, high = signed(100 * best.low), signed(100 * best.high)
        interval = f" (95 % interval {low} to {high})" if best.low == best.low else ""
        yield (
            f"The cheapest plan that loses no more than {points} on average over the tasks is "
            f"{best.plan.plan}: it {cost} and changes the average by {signed(100 * best.change)} "
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
