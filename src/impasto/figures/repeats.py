"""A block of layers run twice (`repeat_block`): by how much that changes what tasks come to.

Each cell is a block, from layer i up to layer j: its plan's average over the tasks against the full
model's. Tasks whose full model is not above chance tell nothing of a plan, and are left out.
"""

import json
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd

from impasto.analysis.changes import Changes
from impasto.analysis.confidence import corrected
from impasto.analysis.curves import Row
from impasto.analysis.items import item_scores
from impasto.analysis.scores import main_rows, signed, tasks_above_chance
from impasto.analysis.series import TaskSet, averaged_sets
from impasto.analysis.table_changes import MOST_RECORDS
from impasto.figures.found import Found, MissingError
from impasto.figures.matrix import Matrix
from impasto.figures.middles import WANTED
from impasto.figures.models import asked
from impasto.figures.picture import Picture, file_name
from impasto.figures.scale import Scale
from impasto.strategies import STRATEGIES
from impasto.tasks.metrics import Metric, metric_of

FAMILY = STRATEGIES["repeat_block"]
FEWEST = 2  # blocks: of fewer there is nothing to compare

Block = tuple[int, int]  # from layer i up to, and without, layer j


def blocks(found: Found) -> Iterator[Picture]:
    """Draw by how much each block that is run twice changes the average over the tasks."""
    if FAMILY.name not in found.strategies:
        raise MissingError([] if found.tasks else ["capitals"], [FAMILY.entry])
    drawn, at_chance = 0, []
    for tasks in averaged_sets(found.frame):
        rows = main_rows(tasks.frame, {})
        above = tasks_above_chance(rows)
        judged = [row for row in rows if above.get(row.task)]
        out = list(dict.fromkeys(row.title for row in rows if not above.get(row.task)))
        at_chance += out
        plans = {_block(row): row.digest for row in judged if row.strategy == FAMILY.name}
        if len(plans) < FEWEST:
            continue
        ending = f"-{file_name(tasks.title)}" if drawn else ""
        drawn += 1
        yield Picture(f"repeat_block{ending}", _matrix(found, tasks, judged, plans, out))
    if not drawn and at_chance:
        titles = ", ".join(dict.fromkeys(at_chance))
        reason = f"the full model is not above chance on {titles}, so no plan can be judged by that"
        raise MissingError(WANTED, reason=reason)
    if not drawn:
        raise MissingError([], [FAMILY.entry])


def _block(row: Row) -> Block:
    parameters = json.loads(row.parameters)
    return int(parameters["i"]), int(parameters["j"])


def _matrix(
    found: Found,
    tasks: TaskSet,
    judged: Sequence[Row],
    plans: Mapping[Block, str],
    left_out: Sequence[str],
) -> Matrix:
    """Return the changes by first layer (columns) and the layer behind the last (rows)."""
    metrics = {row.task: row.metric for row in judged}
    kind, layers = metric_of(judged[0].metric), found.layers
    gains, low, high = _gains(found, tasks.frame, metrics, list(plans.values()))
    values = np.full((layers, layers), np.nan)
    for (i, j), gain in zip(plans, gains, strict=True):
        values[j - 1, i] = gain
    finite = gains[np.isfinite(gains)]
    best = float(min(finite) if kind.lower_is_better else max(finite)) if len(finite) else np.nan
    at = [int(place) for place in np.flatnonzero(gains == best)]
    ends = list(plans)
    unit = "points" if kind.is_bounded else f"% of the full model's {kind.title}"
    titles = list(dict.fromkeys(row.title for row in judged))
    told = [
        found.named,
        f"average of {len(titles)} tasks" if len(titles) > 2 else ", ".join(titles),
        asked([(found, judged[0].n)], kind.items) if len(titles) == 1 else f"{len(plans)} plans",
        *([f"not above chance, left out: {', '.join(left_out)}"] if left_out else []),
    ]
    if at and np.isfinite([low[at[0]], high[at[0]]]).all():
        interval = f"{signed(low[at[0]])} to {signed(high[at[0]])}"
        told.append(
            f"best {signed(best)}, 95 % interval {interval}, corrected for {len(plans)} plans"
        )
    return Matrix(
        title="A block of layers run twice",
        told=told,
        x_label="first layer of the block (i)",
        y_label="layer behind the block (j)",
        scale=_scale(kind, unit),
        values=values,
        rows=range(1, layers + 1),
        columns=range(layers),
        limits=(0.0, float(np.abs(finite).max(initial=0)) or 1.0),
        marked=("best block", [(ends[place][1] - 1, ends[place][0]) for place in at]),
        least=0.0,
    )


def _scale(kind: Metric, unit: str) -> Scale:
    """Return how changes are coloured and said: those of a perplexity are worse where they rise."""
    better = "higher" if not kind.lower_is_better else "lower"
    label = f"change against the full model ({unit}; {better} is better)"
    return Scale(label, number="{:+.1f}", turned=kind.lower_is_better)


def _gains(
    found: Found, frame: pd.DataFrame, metrics: Mapping[str, str], digests: Sequence[str]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return by how many points, or percent, plans change the average, with their intervals."""
    answers = found.results.answers if found.results else ()
    scores = item_scores(answers) if 0 < len(answers) <= MOST_RECORDS else {}
    members = [(digest,) for digest in digests]
    lost = Changes(frame, scores).average(metrics, members, corrected(len(members)))
    sign = 100 if metric_of(next(iter(metrics.values()))).lower_is_better else -100
    low, high = (sign * end for end in (lost.low, lost.high))
    return sign * lost.lost, np.minimum(low, high), np.maximum(low, high)
