"""Figures of paper B (*Transformer Layers as Painters*): a model whose layers are rearranged.

2 one layer skipped or two switched; 3 similarity of depths; 4 skip, 5 middle repeat, 6 reverse, 7
random order, 8 parallel, 9 looped parallel, each task and what they come to; 10 loops by layers; 11
all families in one. Sets of tasks (`analysis.series.task_sets`) are drawn below each other, several
models together.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from impasto.analysis import metric_name
from impasto.analysis.inside.groups import layer_groups
from impasto.analysis.inside.saved import SIMILARITY
from impasto.analysis.scores import main_rows
from impasto.analysis.series import Series, TaskSet, summed_series, task_series
from impasto.figures.chart import Chart, Charts, Line, Places, references
from impasto.figures.found import Found, MissingError
from impasto.figures.matrix import Matrix
from impasto.figures.middles import (
    ENTRIES,
    MIDDLES,
    OfSet,
    all_families,
    lacking,
    middle,
    over,
    series_line,
    set_scale,
    sets_of,
)
from impasto.figures.models import asked, is_relative, named, panels
from impasto.figures.picture import Picture, file_name
from impasto.figures.scale import Scale, scale_of
from impasto.strategies import STRATEGIES
from impasto.tasks.metrics import metric_of

__all__ = ["ENTRIES", "MIDDLES", "all_families", "loops", "middle", "neighbours", "similarity"]

TEXTS = "impasto similarity --model {model} --texts FILE --out {out}"
NEIGHBOURS = {s.name: s.entry for s in STRATEGIES.values() if s.figure == "B2"}
EVERY_LOOP = "looped_parallel: {n: all, loops: all}"


def neighbours(founds: Sequence[Found]) -> Iterator[Picture]:
    """Draw Figure 2, a picture for each task."""
    sets, notes = sets_of(founds)
    drawn = 0
    for of_set in sets:
        for task, of_models in _by_task(of_set).items():
            drawn += 1
            yield Picture(f"B2-{file_name(task)}", Charts([_neighbours(task, of_models)]), notes)
    if not drawn:
        raise lacking(founds, NEIGHBOURS)


OfTask = list[tuple[Found, tuple[TaskSet, list[Series]]]]


def _by_task(of_set: OfSet) -> dict[str, OfTask]:
    """Return the models' series of Figure 2 by task."""
    found: dict[str, OfTask] = {}
    for model, tasks in of_set:
        every = task_series(tasks.frame, "n", "value")
        series = [one for one in every if one.strategy in NEIGHBOURS]
        for name in dict.fromkeys(one.task for one in series):
            of_task = [one for one in series if one.task == name]
            found.setdefault(name, []).append((model, (tasks, of_task)))
    return found


def _neighbours(task: str, of_models: OfTask) -> Chart:
    founds = [found for found, _ in of_models]
    rows = [
        next(row for row in main_rows(tasks.frame, {}) if row.task == task)
        for _, (tasks, _) in of_models
    ]
    first, relative = rows[0], is_relative(founds)
    values = [at.value for _, (_, own) in of_models for one in own for at in one.points.values()]
    scale = scale_of(first.metric, [*values, *(row.baseline for row in rows)])
    lines = []
    for (found, (_, own)), row in zip(of_models, rows, strict=True):
        levels = references([("Baseline", row.baseline), ("Chance", row.chance)], scale)
        moved = [_moved(series_line(one, scale), found.layers if relative else 1) for one in own]
        lines.append((found, moved, levels))
    whole = range(first.layers)
    label = "layer i that is skipped, or switched with the next"
    items = metric_of(first.metric).items
    return Chart(
        title=f"{first.title}: one layer skipped, or two switched",
        told=[
            named(founds),
            metric_name(first.metric),
            asked([(f, row.n) for f, row in zip(founds, rows, strict=True)], items),
        ],
        x=Places(f"{label}, as a share of all (i / T)") if relative else Places(label, whole),
        y=scale,
        panels=panels(lines),
    )


def _moved(line: Line, divisor: int) -> Line:
    return replace(line, x=[at / divisor for at in line.x])


def similarity(found: Found) -> Iterator[Picture]:
    """Draw Figure 3: the similarity of all depths, by the paper's measure and the published one."""
    if SIMILARITY not in found.inside:
        raise MissingError(command=TEXTS)
    inside = found.inside[SIMILARITY]
    for measure, values in (inside.similarity or {}).items():
        groups = layer_groups(values.mean)
        per = "per token" if measure == "tokens" else "texts flattened"
        depths = range(inside.layers + 1)
        matrix = Matrix(
            title="Similarity of hidden states",
            told=[
                f"{found.model}, {inside.layers} layers",
                f"{values.texts:,} texts, {values.tokens:,} tokens",
                f"cosine, {per}",
            ],
            x_label="depth",
            y_label="depth",
            scale=Scale("mean cosine similarity"),
            values=values.mean,
            rows=depths,
            columns=depths,
            limits=(min(0.0, float(values.mean.min())), 1.0),
            runs=[] if groups is None else list(groups.runs.items()),
        )
        ending = "" if measure == "tokens" else f"-{measure}"
        yield Picture(f"B3{ending}", matrix)


def loops(found: Found) -> Iterator[Picture]:
    """Draw Figure 10: the score by loops and layers, the highest for so many layers framed."""
    drawn = 0
    for [(_, tasks)] in sets_of([found])[0]:
        summed = summed_series(tasks.frame, "n", tasks.summary)
        series = [one for one in summed if one.strategy == "looped_parallel"]
        series.sort(key=lambda one: one.parameters["loops"])
        if len(series) > 1:
            ending = f"-{file_name(tasks.title)}" if drawn else ""
            drawn += 1
            yield Picture(f"B10{ending}", _grid(found, tasks, series))
    if not drawn:
        raise lacking([found], {"looped_parallel of several loops": EVERY_LOOP})


def _grid(found: Found, tasks: TaskSet, series: Sequence[Series]) -> Matrix:
    """Return the scores of as many loops (rows) for so many layers (columns)."""
    places = sorted({n for one in series for n in one.points}, reverse=True)
    values = np.array(
        [[one.points[n].value if n in one.points else np.nan for n in places] for one in series]
    )
    known = [column for column in range(len(places)) if np.isfinite(values[:, column]).any()]
    scale = set_scale(tasks)
    best = np.nanmin if scale.turned else np.nanmax
    levels = [tasks.reference("chance"), tasks.reference("baseline")]
    return Matrix(
        title="Looped parallel: how many loops for how many layers",
        told=[found.named, over([(found, tasks, series)])],
        x_label="layers side by side (M = T − 2n − 1)",
        y_label="loops",
        scale=scale,
        values=values,
        rows=[one.parameters["loops"] for one in series],
        columns=[found.layers - 2 * n - 1 for n in places],
        limits=(
            float(np.nanmin([*levels, np.nanmin(values)])),
            float(np.nanmax([*levels, np.nanmax(values)])),
        ),
        marked=(
            f"{'lowest' if scale.turned else 'highest'} of its column",
            [
                (int(row), column)
                for column in known
                for row in np.flatnonzero(np.isclose(values[:, column], best(values[:, column])))
            ],
        ),
    )
