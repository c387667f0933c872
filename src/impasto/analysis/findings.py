"""What a study shows, in sentences, the most important first, each carried by its own interval.

First the tasks by which nothing can be said, since their baseline is not above chance: no other
sentence speaks of them. Then the plan to take for each loss; then, task by task, from which depth
on a manipulation no longer matters; then where families hold and where they break, on average over
the tasks, and at last on each of them. They speak of each task's main metric, and of the two that
injection has.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import isnan
from typing import Literal

import numpy as np
import pandas as pd

from impasto.analysis.best import LOSSES, Best, Loss, best_findings, best_of, best_plans
from impasto.analysis.changes import Changes
from impasto.analysis.costs import measured_costs, timings_of
from impasto.analysis.curves import BASELINE, DepthCurve, Row, depth_curves
from impasto.analysis.depth_findings import (
    LACKS,
    DepthSaid,
    depth_finding,
    depth_said,
    injection_finding,
)
from impasto.analysis.families import family_findings
from impasto.analysis.items import Key, Record, item_scores
from impasto.analysis.scores import main_rows, mean_of, tasks_above_chance
from impasto.analysis.series import TaskSet, task_sets
from impasto.analysis.words import listed, percent, share_of
from impasto.tasks.metrics import metric_name, metric_of

INJECTION = ("answers_injected", "answers_original")


def findings(
    frame: pd.DataFrame,
    scores: Mapping[Key, np.ndarray] | None = None,
    measured: "tuple[str, Mapping[str, float]] | None" = None,
    losses: Sequence[Loss] = LOSSES,
) -> list[str]:
    """Return what a study's table shows, the most important first.

    `scores` are those of `item_scores`: without them plans cannot be paired with the baseline, and
    the intervals are wider. `measured` is what plans cost, and `losses` are those that a plan is
    recommended for, as in `best_plans`.
    """
    return list(findings_of(frame, scores, measured, losses).sentences)


@dataclass(frozen=True)
class Findings:
    """What a study shows.

    Attributes:
        sentences: All of it, the most important first.
        opening: The one that sums it up, with the interval that carries it; empty where there is
            none.
        opens_with: What it is about: `plans` to take, or a `depth`; empty for anything else.
        task: The task that it is about, where it is about a depth.
        critical: What is known of each critical depth.
        best: The plans to take.
    """

    sentences: Sequence[str] = ()
    opening: str = ""
    opens_with: Literal["plans", "depth", ""] = ""
    task: str = ""
    critical: Sequence[DepthSaid] = ()
    best: Sequence[Best] = ()


def findings_of(
    frame: pd.DataFrame,
    scores: Mapping[Key, np.ndarray] | None = None,
    measured: "tuple[str, Mapping[str, float]] | None" = None,
    losses: Sequence[Loss] = LOSSES,
) -> Findings:
    """Return what a study's table shows; arguments as those of `findings`."""
    if BASELINE not in set(frame["strategy"]):
        return Findings()
    changes, sets = Changes(frame, scores or {}), task_sets(frame)
    chance = list(_at_chance(sets))
    best = [one for tasks in sets for one in best_of(changes, tasks, measured, losses)]
    plans, depths = list(best_findings(best)), list(_depth_findings(frame, changes))
    summed = [sentence for tasks in sets for sentence in _summed(changes, tasks)]
    others = [sentence for tasks in sets for sentence in _one_by_one(changes, tasks)]
    critical = list(_critical(frame, changes))
    found = Findings(
        (*chance, *plans, *(sentence for _, sentence in depths), *summed, *others),
        critical=critical,
        best=best,
    )
    sure = next((said for said in critical if said.is_sure and said.sentence), None)
    is_of_depths = 2 * len(frame["k"].dropna()) > len(frame)
    if sure is not None and (is_of_depths or not any(one.holds for one in best)):
        return replace(found, opening=sure.sentence, opens_with="depth", task=sure.task)
    kept = list(best_findings([one for one in best if one.holds]))
    named = kept or list(best_findings([one for one in best if one.plan is not None]))
    if named:
        return replace(found, opening=named[0], opens_with="plans")
    rest = [*summed, *(sentence for _, sentence in depths), *plans, *others, *chance]
    return replace(found, opening=rest[0] if rest else "")


def recommended(
    frame: pd.DataFrame,
    records: Iterable[Record],
    costs: pd.DataFrame,
    losses: Sequence[Loss] = LOSSES,
) -> tuple[list[Best], list[str]]:
    """Return the plans to take, and why nothing is said by tasks at chance, from `Results`."""
    best = best_plans(frame, item_scores(records), measured_costs(timings_of(costs)), losses)
    return best, at_chance(frame)


def at_chance(frame: pd.DataFrame) -> list[str]:
    """Return a sentence for each task by which nothing can be said of plans."""
    return list(_at_chance(task_sets(frame)))


def _at_chance(sets: Sequence[TaskSet]) -> Iterator[str]:
    """Yield a sentence for each task by which nothing can be said of plans."""
    rows = [row for tasks in sets for row in main_rows(tasks.frame, {})]
    above = tasks_above_chance(rows)
    for row in {row.task: row for row in rows if row.strategy == BASELINE}.values():
        if above[row.task]:
            continue
        if isnan(row.value):
            yield f"{row.title} cannot be judged: {LACKS} of the baseline."
            continue
        yield f"{row.title}: {_poor(row)}: nothing can be said of plans by this task."


def _poor(row: Row) -> str:
    """Say that a baseline's value shows no more than chance."""
    (low, high), kind = row.interval, metric_of(row.metric)
    if not kind.is_bounded:
        value, chance = share_of(row.value, kind), share_of(row.chance, kind)
        ends = "" if isnan(low) else f" ({share_of(low, kind)} to {share_of(high, kind)})"
        return (
            f"the baseline's {metric_name(row.metric)} of {value}{ends} is no better than a guess "
            f"among all tokens, {chance}"
        )
    ends = "" if isnan(low) else f" ({percent(low).removesuffix(' %')} to {percent(high)})"
    chance = "0: it is at nothing" if isnan(row.chance) else f"chance, {percent(row.chance)}"
    return f"the baseline's {percent(row.value)}{ends} is not above {chance}"


def _judged(tasks: TaskSet) -> tuple[list[Row], list[str], list[Row]]:
    """Return the baseline's rows where it is above chance, the other tasks' titles, and all rows
    of the former tasks.
    """
    rows = main_rows(tasks.frame, {})
    above = tasks_above_chance(rows)
    base = [row for row in rows if row.strategy == BASELINE]
    there = [row for row in base if above[row.task]]
    without = [row.title for row in base if not above[row.task]]
    return there, without, [row for row in rows if above.get(row.task)]


def _depth_findings(frame: pd.DataFrame, changes: Changes) -> Iterator[tuple[str, str]]:
    """Yield the task and a sentence for each curve over depth, task by task."""
    for curve, original in _judged_curves(frame):
        if original is None:
            yield curve.task, depth_finding(changes, curve)
        else:
            yield curve.task, injection_finding(changes, curve, original)


def _critical(frame: pd.DataFrame, changes: Changes) -> Iterator[DepthSaid]:
    """Yield what is known of each critical depth; of an injection, that of the original answer."""
    for curve, original in _judged_curves(frame):
        said = depth_said(changes, original or curve, is_injection=original is not None)
        if said is not None:
            yield said


def _judged_curves(frame: pd.DataFrame) -> Iterator[tuple[DepthCurve, DepthCurve | None]]:
    """Yield the curves over depth of tasks above chance; an injection's with the original's."""
    alone = frame[frame["part_of"] == ""]
    main = main_rows(pd.DataFrame(alone), {})
    above, metrics = tasks_above_chance(main), {row.task: row.metric for row in main}
    curves = depth_curves(frame)
    for task in dict.fromkeys(curve.task for curve in curves):
        if not above.get(task):
            continue
        here = [curve for curve in curves if curve.task == task]
        yield from ((c, None) for c in here if c.metric == metrics[task])
        originals: dict[str, DepthCurve] = {
            c.parameters: c for c in here if c.metric == INJECTION[1]
        }
        for curve in here:
            if curve.metric == INJECTION[0] and curve.parameters in originals:
                yield curve, originals[curve.parameters]


def _summed(changes: Changes, tasks: TaskSet) -> Iterator[str]:
    """Yield a sentence for each family, on average over the tasks that can be judged."""
    base, without, rows = _judged(tasks)
    if not base:
        return
    left_out = f" without {listed(without)}" if without else ""
    about = base[0].title
    if len(base) > 1:
        about = f"{tasks.title or 'average'} over {len(base)} tasks{left_out}"
    level = mean_of(base[0].metric, (row.value for row in base))
    yield from family_findings(changes, rows, {row.task: row.metric for row in base}, about, level)


def _one_by_one(changes: Changes, tasks: TaskSet) -> Iterator[str]:
    """Yield a sentence for each family on each of several tasks."""
    base, _, rows = _judged(tasks)
    if len(base) < 2:
        return
    for one in base:
        here = [row for row in rows if row.task == one.task]
        yield from family_findings(changes, here, {one.task: one.metric}, one.title, one.value)
