"""Each item's value under each plan, and what pairs of plans have in common: the items.

A study keeps a record of every task, plan and item. Here the records become arrays, one for each
task, plan and metric, in which the same place is always the same item.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from math import isnan
from typing import Any

import numpy as np
import pandas as pd

from impasto.analysis.bootstrap import RESAMPLES
from impasto.analysis.confidence import LEVEL
from impasto.analysis.curves import BASELINE, DepthCurve, Row, depth_curves, frame_of, table_rows
from impasto.analysis.depth import ROUNDING, TOLERANCE, critical_depth_interval
from impasto.analysis.paired import Comparison, compare
from impasto.error import UserError

Record = Mapping[str, Any]
Key = tuple[str, str, str]  # task, the plan's digest, metric

LABELS = ("task", "title", "strategy", "k", "seed", "parameters", "plan", "digest", "metric")
AS_BASELINE = {"answers_original": "exact_match"}  # what a baseline that injects nothing calls it


def item_scores(records: Iterable[Record]) -> dict[Key, np.ndarray]:
    """Return every item's value, by task, plan digest and metric; items in the records' order.

    Metrics whose items have no single number are left out. Raises UserError where two plans were
    not put to the same items in the same order, since then nothing can be paired.
    """
    ids: dict[Key, list[str]] = {}
    values: dict[Key, list[float]] = {}
    for record in records:
        for metric, value in record["metrics"].items():
            if isinstance(value, bool | int | float):
                key = (record["task"], record["digest"], metric)
                ids.setdefault(key, []).append(record["item"])
                values.setdefault(key, []).append(float(value))
    first: dict[tuple[str, str], list[str]] = {}
    for (task, digest, metric), items in ids.items():
        if items != first.setdefault((task, metric), items):
            raise UserError(f"{task}: the plan {digest[:12]} was put to other items than others")
    return {key: np.array(found) for key, found in values.items()}


def pooled_scores(frame: pd.DataFrame, scores: Mapping[Key, np.ndarray]) -> dict[Key, np.ndarray]:
    """Return the scores with those of groups: the items of all their tasks, one after the other.

    That is right for groups whose score is the mean over all items, as mmlu's; a group whose value
    in the table is another, such as a mean of its tasks' means, is left out.
    """
    rows = table_rows(frame)
    above = {row.task: row.part_of for row in rows}
    pooled: dict[Key, list[np.ndarray]] = {}
    for (task, digest, metric), values in scores.items():
        group = above.get(task)
        while group:
            pooled.setdefault((group, digest, metric), []).append(values)
            group = above.get(group)
    table = {_key(row): row.value for row in rows}
    groups = {key: np.concatenate(parts) for key, parts in pooled.items()}
    means = {
        key: items
        for key, items in groups.items()
        if key in table and abs(items.mean() - table[key]) < ROUNDING
    }
    return {**scores, **means}


def comparisons(
    frame: pd.DataFrame,
    records: Iterable[Record],
    *,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> pd.DataFrame:
    """Return every plan of a study's table compared with the baseline, item by item.

    One row per task, plan and metric, with the columns of `Comparison`; `mean` and `baseline_mean`
    are over items. For a metric that is no mean over items, such as a perplexity, they and the
    difference are in the items' unit, log p in nats. Rows without a value, or whose items have no
    single number, are left out, and groups as `pooled_scores` says.
    """
    scores = pooled_scores(frame, item_scores(records))
    baseline = _baseline_digest(frame)
    found: dict[Key, Comparison] = {}
    rows = []
    for row in table_rows(frame):
        key = _key(row)
        theirs = _of_baseline(scores, key, baseline)
        if row.strategy == BASELINE or theirs is None or key not in scores or isnan(row.value):
            continue
        if key not in found:
            found[key] = compare(theirs, scores[key], level=level, resamples=resamples, seed=seed)
        means = {"mean": scores[key].mean(), "baseline_mean": theirs.mean()}
        rows.append({name: getattr(row, name) for name in LABELS} | means | asdict(found[key]))
    columns = [*LABELS, "mean", "baseline_mean", *Comparison.__dataclass_fields__]
    return frame_of(rows, columns)


def critical_depths(
    frame: pd.DataFrame,
    records: Iterable[Record],
    tolerance: float = TOLERANCE,
    *,
    level: float = LEVEL,
    seed: int = 0,
) -> pd.DataFrame:
    """Return the critical depth of every curve of a study's table, with its bootstrap interval.

    One row per task, manipulation and metric: `critical`, `low` and `high`, empty for none (see
    `critical_depth_interval`). Where a manipulation was run with several seeds, an item's value is
    its mean over them. Curves with a depth that has no value, or whose values are no means over
    recorded items, are left out.
    """
    scores = pooled_scores(frame, item_scores(records))
    baseline = _baseline_digest(frame)
    rows = []
    for curve in depth_curves(frame):
        first = next(iter(curve.digests.values()))[0]
        theirs = _of_baseline(scores, (curve.task, first, curve.metric), baseline)
        items = _items_of(curve, scores)
        if theirs is None or items is None or any(map(isnan, curve.mean.values())):
            continue
        if not abs(theirs.mean() - curve.baseline) <= ROUNDING:
            continue
        low, high = critical_depth_interval(items, theirs, tolerance, level=level, seed=seed)
        rows.append(
            {
                "task": curve.task,
                "title": curve.title,
                "strategy": curve.strategy,
                "parameters": curve.parameters,
                "metric": curve.metric,
                "n": len(theirs),
                "critical": curve.critical_depth(tolerance),
                "low": low,
                "high": high,
            }
        )
    whole = ("critical", "low", "high")
    columns = ["task", "title", "strategy", "parameters", "metric", "n", *whole]
    return frame_of(rows, columns, whole)


def _key(row: Row) -> Key:
    return row.task, row.digest, row.metric


def _baseline_digest(frame: pd.DataFrame) -> str:
    """Return the digest of the plan that the others are compared with."""
    digests = {row.digest for row in table_rows(frame) if row.strategy == BASELINE}
    if len(digests) != 1:
        raise UserError("the table has no baseline to compare with")
    return digests.pop()


def _of_baseline(scores: Mapping[Key, np.ndarray], key: Key, digest: str) -> np.ndarray | None:
    task, _, metric = key
    return scores.get((task, digest, AS_BASELINE.get(metric, metric)))


def _items_of(curve: DepthCurve, scores: Mapping[Key, np.ndarray]) -> dict[int, np.ndarray] | None:
    """Return, by depth, each item's mean over the curve's seeds; None where some are missing."""
    items = {}
    for depth, digests in curve.digests.items():
        found = [scores.get((curve.task, digest, curve.metric)) for digest in digests]
        present = [values for values in found if values is not None]
        if len(present) < len(found):
            return None
        items[depth] = np.mean(present, axis=0)
    return items
