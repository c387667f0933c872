"""Each item's value under each plan, and what pairs of plans have in common: the items.

A study keeps a record of every task, plan and item. Here the records become arrays, one for each
task, plan and metric, in which the same place is always the same item.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from math import inf, isnan
from typing import Any

import numpy as np
import pandas as pd

from impasto.analysis.confidence import LEVEL
from impasto.analysis.curves import BASELINE, Row, frame_of, table_rows
from impasto.analysis.paired import Comparison, Differences
from impasto.error import UserError
from impasto.tasks.metrics import metric_of

Record = Mapping[str, Any]
Key = tuple[str, str, str]  # task, the plan's digest, metric

LABELS = ("task", "title", "strategy", "k", "seed", "parameters", "plan", "digest", "metric")
AS_BASELINE = {"answers_original": "exact_match"}  # what a baseline that injects nothing calls it
ROUNDING = 1e-6


def item_scores(records: Iterable[Record]) -> dict[Key, np.ndarray]:
    """Return every item's value, by task, plan digest and metric; items in the records' order.

    Arrays are (items,), or (items, 2) for metrics such as a perplexity per word, whose items are
    log p in nats and of how many words. Metrics whose items have neither are left out. Raises
    UserError where two plans were not put to the same items in the same order, since then nothing
    can be paired.
    """
    ids: dict[Key, list[str]] = {}
    values: dict[Key, list[Any]] = {}
    for record in records:
        for metric, value in record["metrics"].items():
            if isinstance(value, bool | int | float) or _is_weighted(metric, value):
                key = (record["task"], record["digest"], metric)
                ids.setdefault(key, []).append(record["item"])
                values.setdefault(key, []).append(value)
    first: dict[tuple[str, str], list[str]] = {}
    for (task, digest, metric), items in ids.items():
        if items != first.setdefault((task, metric), items):
            raise UserError(f"{task}: the plan {digest[:12]} was put to other items than others")
    return {key: np.array(found, float) for key, found in values.items()}


def _is_weighted(metric: str, value: Any) -> bool:
    """Say whether an item's value is log p, and of how many words, tokens or bytes."""
    if not isinstance(value, list | tuple) or len(value) != 2 or metric_of(metric).is_bounded:
        return False
    return all(isinstance(number, int | float) for number in value) and value[1] > 0


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
        while group and values.ndim == 1:
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
    frame: pd.DataFrame, records: Iterable[Record], *, level: float = LEVEL
) -> pd.DataFrame:
    """Return every plan of a study's table compared with the baseline, item by item.

    One row per task, plan and metric, with the columns of `Comparison`; `mean` and `baseline_mean`
    are over items. For a metric that is no mean over items, such as a perplexity, they and the
    difference are in the items' unit, log p in nats. Rows without a value, or whose items have no
    single number, are left out, and groups as `pooled_scores` says.
    """
    scores = pooled_scores(frame, item_scores(records))
    baseline = baseline_digest(frame)
    rows = [
        row
        for row in table_rows(frame)
        if row.strategy != BASELINE and not isnan(row.value) and _is_single(scores, row, baseline)
    ]
    wanted: dict[tuple[str, str], dict[str, None]] = {}
    for row in rows:
        wanted.setdefault((row.task, row.metric), {})[row.digest] = None
    found: dict[Key, Comparison] = {}
    for (task, metric), digests in wanted.items():
        kind, theirs = metric_of(metric), of_baseline(scores, (task, "", metric), baseline)
        assert theirs is not None
        reach = kind.high - kind.low if kind.is_bounded else inf
        items = [scores[task, digest, metric] for digest in digests]
        compared = Differences.of(theirs, items, reach).comparisons(level)
        found |= {(task, d, metric): c for d, c in zip(digests, compared, strict=True)}
    columns = [*LABELS, "mean", "baseline_mean", *Comparison.__dataclass_fields__]
    return frame_of([_compared(row, found, scores, baseline) for row in rows], columns)


def _compared(
    row: Row, found: Mapping[Key, Comparison], scores: Mapping[Key, np.ndarray], baseline: str
) -> dict[str, Any]:
    theirs = of_baseline(scores, _key(row), baseline)
    assert theirs is not None
    means = {"mean": scores[_key(row)].mean(), "baseline_mean": theirs.mean()}
    return {name: getattr(row, name) for name in LABELS} | means | asdict(found[_key(row)])


def _is_single(scores: Mapping[Key, np.ndarray], row: Row, baseline: str) -> bool:
    """Say whether a row's items and the baseline's have a single number each."""
    ours, theirs = scores.get(_key(row)), of_baseline(scores, _key(row), baseline)
    return ours is not None and theirs is not None and ours.ndim == theirs.ndim == 1


def baseline_digest(frame: pd.DataFrame) -> str:
    """Return the baseline's digest; raises UserError where there is no baseline."""
    digests = {row.digest for row in table_rows(frame) if row.strategy == BASELINE}
    if len(digests) != 1:
        raise UserError("the table has no baseline to compare with")
    return digests.pop()


def of_baseline(scores: Mapping[Key, np.ndarray], key: Key, digest: str) -> np.ndarray | None:
    """Return the baseline's items to compare those of a task and metric with, where it has any."""
    task, _, metric = key
    return scores.get((task, digest, AS_BASELINE.get(metric, metric)))


def _key(row: Row) -> Key:
    return row.task, row.digest, row.metric
