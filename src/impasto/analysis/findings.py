"""What a study shows, in sentences: one per task and manipulation, numbers included.

They speak of each task's main metric, and of the two that injection has.
"""

from collections.abc import Iterator, Sequence
from math import isnan

import pandas as pd

from impasto.analysis.curves import BASELINE, DepthCurve, Row, depth_curves, table_rows
from impasto.analysis.depth import TOLERANCE, winning_depth
from impasto.strategies import STRATEGIES
from impasto.tasks.metrics import main_metric, metric_name, metric_of

POINTS = f"{100 * TOLERANCE:g} points"
INJECTION = ("answers_injected", "answers_original")


LACKS = "some scores are no finite numbers, so that there is no value"


def findings(frame: pd.DataFrame) -> list[str]:
    """Return what a study's table shows, task by task, in the order of the study."""
    curves = depth_curves(frame)
    rows = [row for row in table_rows(frame) if not row.part_of]
    sentences: list[str] = []
    for task in dict.fromkeys(row.task for row in rows):
        here = [curve for curve in curves if curve.task == task]
        main = main_metric(dict.fromkeys(row.metric for row in rows if row.task == task))
        sentences += [_depth_finding(c) for c in here if c.metric == main]
        originals = {c.parameters: c for c in here if c.metric == INJECTION[1]}
        sentences += [
            _injection_finding(curve, originals[curve.parameters])
            for curve in here
            if curve.metric == INJECTION[0]
        ]
        sentences += _other_findings([row for row in rows if row.task == task], main)
    return sentences


def percent(share: float) -> str:
    """Return a share as a reader wants it: `99.5 %`, and `100 %` where nothing follows."""
    return f"{100 * share:.1f}".removesuffix(".0") + " %"


def _depth_finding(curve: DepthCurve) -> str:
    """Say from which depth on a manipulation no longer matters: its critical depth."""
    strategy = STRATEGIES.get(curve.strategy)
    about = f"{curve.title}: {strategy.doing if strategy else curve.strategy}"
    what = metric_name(curve.metric)
    within = f"{what} stays within {POINTS} of the baseline's {percent(curve.baseline)}"
    seeds = f" (mean of {curve.seeds} seeds)" if curve.seeds > 1 else ""
    if _lacks_values(curve):
        return f"{about} cannot be judged: {LACKS}."
    critical = curve.critical_depth()
    if _is_at_chance(curve):
        return f"{about} cannot be judged: {_hardly(curve)}."
    if critical is None:
        last = max(curve.mean)
        return (
            f"{about} matters at every depth that was run: from depth {last} of {curve.layers} on "
            f"{what} is {percent(curve.mean[last])}{seeds}, the baseline's "
            f"{percent(curve.baseline)}."
        )
    if critical == min(curve.mean):
        return f"{about} never matters: from depth {critical} of {curve.layers} on {within}{seeds}."
    if critical == curve.layers:
        when = f"matters up to the last layer: only at depth {critical}, where none is left,"
    else:
        when = f"stops mattering at depth {critical} of {curve.layers}: from there"
    before = max(depth for depth in curve.mean if depth < critical)
    earlier = f"at depth {before} it is {percent(curve.mean[before])}{seeds}"
    return f"{about} {when} {within}; {earlier}."


def _injection_finding(injected: DepthCurve, original: DepthCurve) -> str:
    """Say up to which depth the injected answer wins and from which the original is untouched."""
    about = f"{injected.title}: {STRATEGIES['inject'].doing}"
    if _lacks_values(injected) or _lacks_values(original):
        return f"{about} cannot be judged: {LACKS}."
    if _is_at_chance(original):
        return f"{about} cannot be judged: {_hardly(original)}."
    wins, untouched = winning_depth(injected.mean, original.mean), original.critical_depth()
    if wins is None:
        first = "never brings out the injected answer more often than the original"
    else:
        where = "only at" if wins == min(injected.mean) else "up to"
        first = (
            f"brings out the injected answer more often than the original {where} depth {wins} of "
            f"{injected.layers} (at most {percent(max(injected.mean.values()))})"
        )
    if untouched is None:
        second = "the original answer is disturbed at every depth that was run"
    else:
        within = f"within {POINTS} of the baseline's {percent(original.baseline)}"
        second = f"from depth {untouched} on the original answer is untouched ({within})"
    return f"{about} {first}; {second}."


def _other_findings(rows: Sequence[Row], main: str | None) -> Iterator[str]:
    """Say how plans without a depth do: one sentence per strategy, one per written plan.

    A task without a main metric, such as one that only measures perplexity, tells its first.
    """
    told = (main or rows[0].metric, *INJECTION)
    say = percent if metric_of(told[0]).is_bounded else "{:.4g}".format
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        if row.k is None and row.strategy != BASELINE and row.metric in told:
            name = row.plan if row.strategy == "plan" else STRATEGIES[row.strategy].title.lower()
            groups.setdefault((name, row.metric), []).append(row)
    for (name, metric), group in groups.items():
        if any(isnan(row.value) for row in group):
            yield f"{group[0].title}: {name} cannot be judged: {LACKS}."
            continue
        low, high = (say(f(row.value for row in group)) for f in (min, max))
        scores = low if low == high else f"{low} to {high}"
        first, what = group[0], metric_name(metric)
        yield f"{first.title}: {name} has {what} {scores}, the baseline {say(first.baseline)}."


def _lacks_values(curve: DepthCurve) -> bool:
    return any(map(isnan, (curve.baseline, *curve.mean.values())))


def _is_at_chance(curve: DepthCurve) -> bool:
    """Say whether the baseline is too low to lose much; without a chance level, 0 stands for it."""
    return curve.baseline - TOLERANCE <= (0 if isnan(curve.chance) else curve.chance)


def _hardly(curve: DepthCurve) -> str:
    return f"the baseline's {percent(curve.baseline)} is hardly above chance"
