"""Figures of paper B (*Transformer Layers as Painters*): a model whose layers are rearranged.

2 one layer skipped or two switched; 3 similarity of depths; 4 skip, 5 middle repeat, 6 reverse, 7
random order, 8 parallel, 9 looped parallel, each task and their median; 10 loops by layers; 11 all
families in one. Decoders are summed up by the median of normalised scores, encoders, which have
GLUE's tasks, by the plain average; several studies are drawn below each other.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from impasto.analysis import main_metric, metric_name, over_tasks
from impasto.analysis.inside.groups import layer_groups
from impasto.analysis.inside.saved import SIMILARITY
from impasto.analysis.series import Series, Summary, summed_series, task_series
from impasto.figures.chart import Chart, Line, Reference, draw_charts, percent_limits
from impasto.figures.found import Found, MissingError
from impasto.figures.matrix import Matrix, draw_matrix
from impasto.figures.picture import Picture, file_name
from impasto.figures.style import GREY, look_of, task_look
from impasto.strategies import STRATEGIES

GLUE = re.compile(r"(glue[-_])?(cola|sst2?|sst_2|mrpc|stsb|qqp|mnli.*|qnli|rte|wnli)|glue")
TEXTS = "impasto similarity --model {model} --texts FILE --out {out}"
NEIGHBOURS = ("skip_one", "switch")
LOOPS = 3  # in the paper's Figures 9 and 11
MIDDLES = {
    "B4": "skip",
    "B5": "middle_repeat",
    "B6": "reverse",
    "B7": "random_order",
    "B8": "parallel",
    "B9": "looped_parallel",
}
ENTRIES = {
    "skip": "skip: {n: all}",
    "middle_repeat": "middle_repeat: {n: all}",
    "reverse": "reverse: {n: all}",
    "random_order": "random_order: {n: all, seed: all}",
    "parallel": "parallel: {n: all}",
    "looped_parallel": f"looped_parallel: {{n: all, loops: {LOOPS}}}",
}
DOING = {
    "skip": "are left out",
    "middle_repeat": "become as many runs of layer T/2",
    "reverse": "run in reverse",
    "random_order": "run in random order",
    "parallel": "run side by side and are averaged",
    "looped_parallel": "run side by side, fed back",
}
BANDS = "bands: 95 % intervals"
SUMMED = {"median": "Median", "average": "Average"}


def neighbours(found: Found) -> Iterator[Picture]:
    """Draw Figure 2, a picture for each task."""
    series = [s for s in _of_tasks(found, "n", "value") if s.strategy in NEIGHBOURS]
    if not series:
        raise MissingError(_tasks(found), ["skip_one: {n: all}", "switch: {n: all}"])
    rows: Any = found.frame
    for task in dict.fromkeys(one.task for one in series):
        here = [one for one in series if one.task == task]
        metrics = rows[rows["task"] == task]
        metric = main_metric(dict.fromkeys(metrics["metric"]))
        first = metrics[metrics["metric"] == metric].iloc[0]
        lines = [_line(one, 100) for one in here]
        levels = (("Baseline", first["baseline"]), ("Chance", first["chance"]))
        chart = Chart(
            title=f"{here[0].title}: one layer skipped, or switched with the next",
            told=[_model(found), f"{first['n']:,} questions", BANDS],
            x_label="layer n",
            y_label=f"{metric_name(str(metric))} (%)",
            lines=lines,
            places=range(int(first["layers"])),
            references=[Reference(f"{n} {100 * y:.1f} %", 100 * y) for n, y in levels if y == y],
            limits=percent_limits(lines),
        )
        yield Picture(f"B2-{file_name(task)}", draw_charts([chart]))


def similarity(found: Found) -> Iterator[Picture]:
    """Draw Figure 3: the similarity of all depths, by the paper's measure and the published one."""
    if SIMILARITY not in found.inside:
        raise MissingError(command=TEXTS)
    inside = found.inside[SIMILARITY]
    for measure, values in (inside.similarity or {}).items():
        groups = layer_groups(values.mean)
        runs = (
            []
            if groups is None
            else [("beginning", groups.beginning), ("middle", groups.middle), ("end", groups.end)]
        )
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
            value_label="mean cosine similarity",
            values=values.mean,
            rows=depths,
            columns=depths,
            limits=(min(0.0, float(values.mean.min())), 1.0),
            runs=runs,
        )
        ending = "" if measure == "tokens" else f"-{measure}"
        yield Picture(f"B3{ending}", draw_matrix(matrix))


def middle(name: str, founds: Sequence[Found]) -> Iterator[Picture]:
    """Draw Figure 4, 5, 6, 7, 8 or 9: one family, each task and the median, study by study."""
    strategy = MIDDLES[name]
    charts = [chart for found in founds if (chart := _middle_chart(found, strategy))]
    if not charts:
        raise MissingError(_tasks(founds[0]), [ENTRIES[strategy]])
    yield Picture(name, draw_charts(charts))


def loops(found: Found) -> Iterator[Picture]:
    """Draw Figure 10: the score by loops and layers, the best number of loops framed."""
    wanted = MissingError(_tasks(found), ["looped_parallel: {n: all, loops: all}"])
    if not found.tasks:
        raise wanted
    summary = _summary(found)
    series = [
        s for s in summed_series(found.frame, "n", summary) if s.strategy == "looped_parallel"
    ]
    series.sort(key=lambda one: one.parameters["loops"])
    if len(series) < 2:
        raise wanted
    layers = int(found.frame["layers"].iloc[0])
    places = sorted({n for one in series for n in one.points}, reverse=True)
    values = np.array(
        [[one.points[n].value if n in one.points else np.nan for n in places] for one in series]
    )
    known = [column for column in range(len(places)) if np.isfinite(values[:, column]).any()]
    best = [(int(np.nanargmax(values[:, column])), column) for column in known]
    matrix = Matrix(
        title="Looped parallel: how many loops for how many layers",
        told=[_model(found), _over(series[0], summary)],
        x_label="layers side by side, M = T − 2n − 1",
        y_label="loops",
        value_label=_unit(summary),
        values=values,
        rows=[one.parameters["loops"] for one in series],
        columns=[layers - 2 * n - 1 for n in places],
        limits=(min(0.0, float(np.nanmin(values))), max(1.0, float(np.nanmax(values)))),
        marked=("best number of loops", best),
    )
    yield Picture("B10", draw_matrix(matrix))


def all_families(founds: Sequence[Found]) -> Iterator[Picture]:
    """Draw Figure 11: every family's median in one chart, study by study."""
    charts, lacking = [], list(ENTRIES.values())
    for found in founds:
        if not found.tasks:
            continue
        summary = _summary(found)
        series = _looped_alike(
            [s for s in summed_series(found.frame, "n", summary) if s.strategy in ENTRIES]
        )
        there = {one.strategy for one in series}
        if len(there) > 1:
            lines = [_line(one, 1) for one in series]
            chart = _over_n(found, "All ways to run the middle layers", lines, summary, series[0])
            charts.append(chart)
        lacking = [entry for name, entry in ENTRIES.items() if name not in there]
    if not charts:
        raise MissingError(_tasks(founds[0]), lacking)
    yield Picture("B11", draw_charts(charts))


def _middle_chart(found: Found, strategy: str) -> Chart | None:
    """Return a family's chart for one study; None where the study lacks it."""
    if not found.tasks:
        return None
    summary = _summary(found)
    summed = _looped_alike(
        [s for s in summed_series(found.frame, "n", summary) if s.strategy == strategy]
    )
    if not summed:
        return None
    [one] = summed
    unit = "normalised" if summary == "median" else "value"
    lines = [_line(one, 1, f"{SUMMED[summary]} of {one.tasks} tasks" if one.tasks > 1 else "")]
    if one.tasks > 1:
        of_tasks = [s for s in _of_tasks(found, "n", unit) if s.parameters == one.parameters]
        of_tasks = [s for s in of_tasks if s.strategy == strategy and _is_judged(s)]
        lines += [
            replace(
                _line(s, 1),
                look=replace(task_look(i), label=s.title, colour=GREY),
                low=(),
                high=(),
                quiet=True,
            )
            for i, s in enumerate(of_tasks)
        ]
    times = f" ({one.parameters['loops']} times)" if "loops" in one.parameters else ""
    title = f"{STRATEGIES[strategy].title}: the middle layers {DOING[strategy]}{times}"
    return _over_n(found, title, lines, summary, one)


def _over_n(
    found: Found, title: str, lines: Sequence[Line], summary: Summary, one: Series
) -> Chart:
    """Return a chart over n, which says above how many layers are edited."""
    layers = int(found.frame["layers"].iloc[0])
    there = [int(place) for line in lines for place in line.x]
    places = range(min(there), max(there) + 1)
    references = [Reference("Full model", 1.0), Reference("Chance", 0.0)]
    return Chart(
        title=title,
        told=[_model(found), _over(one, summary), BANDS],
        x_label="n (the middle: layers n+1 to T−n−1)",
        y_label=_unit(summary),
        lines=lines,
        places=places,
        references=references if summary == "median" else [_full_average(found)],
        above=("layers in the middle, M = T − 2n − 1", [layers - 2 * n - 1 for n in places]),
    )


def _full_average(found: Found) -> Reference:
    """Return what the unchanged model has on average over the tasks."""
    return Reference("Full model", float(over_tasks(found.frame)["baseline"].iloc[0]))


def _summary(found: Found) -> Summary:
    """Return how the paper sums up a study's tasks: GLUE's, which are an encoder's, by average."""
    return "average" if all(GLUE.fullmatch(task) for task in found.tasks) else "median"


def _looped_alike(series: Sequence[Series]) -> list[Series]:
    """Keep one series of the looped families: with the paper's 3 loops, or the nearest there is."""
    looped = [one for one in series if one.strategy == "looped_parallel"]
    if len(looped) < 2:
        return list(series)
    kept = min(looped, key=lambda one: abs(one.parameters["loops"] - LOOPS))
    return [one for one in series if one.strategy != "looped_parallel" or one is kept]


def _of_tasks(found: Found, parameter: str, unit: str) -> list[Series]:
    return task_series(found.frame, parameter, unit) if found.tasks else []  # type: ignore[arg-type]


def _is_judged(series: Series) -> bool:
    return all(point.value == point.value for point in series.points.values())


def _line(series: Series, scale: int, label: str = "") -> Line:
    look = look_of(series.strategy)
    times = f" ×{series.parameters['loops']}" if "loops" in series.parameters else ""
    places = list(series.points)
    value, low, high = (
        [scale * getattr(series.points[place], end) for place in places]
        for end in ("value", "low", "high")
    )
    return Line(replace(look, label=label or look.label + times), places, value, low, high)


def _unit(summary: Summary) -> str:
    return "normalised score" if summary == "median" else "average score"


def _over(one: Series, summary: Summary) -> str:
    what = "median of normalised scores" if summary == "median" else "average, not normalised"
    seeds = f", mean of {one.seeds} seeds" if one.seeds > 1 else ""
    return f"{what}, {one.tasks} tasks{seeds}"


def _model(found: Found) -> str:
    return f"{found.model}, {int(found.frame['layers'].iloc[0])} layers"


def _tasks(found: Found) -> list[str]:
    """Return the tasks that a study would need: none where it has some."""
    if found.tasks:
        return []
    names = ["{name: arc_challenge, num_fewshot: 0}", "{name: hellaswag, num_fewshot: 0}"]
    return [*names, "{name: lambada_openai, num_fewshot: 0}"]
