"""Figures of paper B (*Transformer Layers as Painters*): a model whose layers are rearranged.

2 one layer skipped or two switched; 3 similarity of depths; 4 skip, 5 middle repeat, 6 reverse, 7
random order, 8 parallel, 9 looped parallel, each task and their median; 10 loops by layers; 11 all
families in one. Tasks are summed up by the median of normalised scores, but GLUE, which encoders
have, by the plain average, for each of its protocols; these, and several studies, are drawn below
each other.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from impasto.analysis import metric_name
from impasto.analysis.curves import Row
from impasto.analysis.inside.groups import layer_groups
from impasto.analysis.inside.saved import SIMILARITY
from impasto.analysis.scores import main_rows
from impasto.analysis.series import Series, Summary, TaskSet, summed_series, task_series, task_sets
from impasto.figures.chart import Chart, Line, draw_charts, percent_limits, references
from impasto.figures.found import Found, MissingError
from impasto.figures.matrix import Matrix, draw_matrix
from impasto.figures.picture import Picture, file_name
from impasto.figures.style import look_of
from impasto.look import GREY, numbered
from impasto.strategies import STRATEGIES, Strategy

TEXTS = "impasto similarity --model {model} --texts FILE --out {out}"
LOOPS = 3  # in the paper's Figures 9 and 11
NEIGHBOURS = {s.name: s.entry for s in STRATEGIES.values() if s.figure == "B2"}
MIDDLES = {s.figure: s for s in STRATEGIES.values() if s.paper == "B" and s.name not in NEIGHBOURS}
ENTRIES = {strategy.name: strategy.entry for strategy in MIDDLES.values()}
EVERY_LOOP = "looped_parallel: {n: all, loops: all}"
WANTED = (
    "{name: arc_challenge, num_fewshot: 0}",
    "{name: hellaswag, num_fewshot: 0}",
    "{name: lambada_openai, num_fewshot: 0}",
)
BANDS = "bands: 95 % intervals"
SUMMED: Mapping[Summary, str] = {
    "median": "Median",
    "average": "Average",
    "geometric mean": "Geometric mean",
}
SCORES: Mapping[Summary, str] = {
    "median": "normalised score",
    "average": "score",
    "geometric mean": "value",
}


def neighbours(found: Found) -> Iterator[Picture]:
    """Draw Figure 2, a picture for each task."""
    lacking = _lacking(found, NEIGHBOURS)
    drawn = 0
    for tasks in _sets(found):
        of_tasks = task_series(tasks.frame, "n", "value")
        series = [one for one in of_tasks if one.strategy in NEIGHBOURS]
        rows = {row.task: row for row in main_rows(tasks.frame, {})}
        for task in dict.fromkeys(one.task for one in series):
            row, lines = rows[task], [_line(one, 100) for one in series if one.task == task]
            chart = Chart(
                title=f"{row.title}: one layer skipped, or two switched",
                told=[_model(found), f"{row.n:,} questions", BANDS],
                x_label="layer n (switched: with layer n + 1)",
                y_label=f"{metric_name(row.metric)} (%)",
                lines=lines,
                places=range(row.layers),
                references=references([("Baseline", row.baseline), ("Chance", row.chance)]),
                limits=percent_limits(lines),
            )
            drawn += 1
            yield Picture(f"B2-{file_name(task)}", draw_charts([chart]))
    if not drawn:
        raise lacking


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
            value_label="mean cosine similarity",
            values=values.mean,
            rows=depths,
            columns=depths,
            limits=(min(0.0, float(values.mean.min())), 1.0),
            runs=[] if groups is None else list(groups.runs.items()),
        )
        ending = "" if measure == "tokens" else f"-{measure}"
        yield Picture(f"B3{ending}", draw_matrix(matrix))


def middle(name: str, founds: Sequence[Found]) -> Iterator[Picture]:
    """Draw Figure 4, 5, 6, 7, 8 or 9: one family, each task and what they come to."""
    strategy = MIDDLES[name]
    charts = [
        chart
        for found in founds
        for tasks in _sets(found)
        if (chart := _middle_chart(found, tasks, strategy))
    ]
    if not charts:
        raise _lacking(founds[0], {strategy.name: strategy.entry})
    yield Picture(name, draw_charts(charts))


def loops(found: Found) -> Iterator[Picture]:
    """Draw Figure 10: the score by loops and layers, the best number of loops framed."""
    drawn = 0
    for tasks in _sets(found):
        summed = summed_series(tasks.frame, "n", tasks.summary)
        series = [one for one in summed if one.strategy == "looped_parallel"]
        series.sort(key=lambda one: one.parameters["loops"])
        if len(series) > 1:
            ending = f"-{file_name(tasks.title)}" if drawn else ""
            drawn += 1
            yield Picture(f"B10{ending}", draw_matrix(_grid(found, tasks, series)))
    if not drawn:
        raise _lacking(found, {"looped_parallel of several loops": EVERY_LOOP})


def all_families(founds: Sequence[Found]) -> Iterator[Picture]:
    """Draw Figure 11: all families in one chart, study by study."""
    charts = []
    for found in founds:
        for tasks in _sets(found):
            summed = summed_series(tasks.frame, "n", tasks.summary)
            series = _looped_alike([one for one in summed if one.strategy in ENTRIES])
            if len({one.strategy for one in series}) > 1:
                title = "All ways to run the middle layers"
                lines = [_line(one, 1) for one in series]
                charts.append(_over_n(found, tasks, title, lines, series[0]))
    if not charts:
        raise _lacking(founds[0], ENTRIES)
    yield Picture("B11", draw_charts(charts))


def _middle_chart(found: Found, tasks: TaskSet, strategy: Strategy) -> Chart | None:
    """Return a family's chart for one set of tasks; None where the study lacks it."""
    summed = summed_series(tasks.frame, "n", tasks.summary)
    series = _looped_alike([one for one in summed if one.strategy == strategy.name])
    if not series:
        return None
    [one] = series
    several = f"{SUMMED[tasks.summary]} of {one.tasks} tasks"
    lines = [_line(one, 1, several if one.tasks > 1 else "")]
    if one.tasks > 1:
        unit = "normalised" if tasks.summary == "median" else "value"
        of_tasks = [
            of_task
            for of_task in task_series(tasks.frame, "n", unit)
            if (of_task.strategy, of_task.parameters) == (strategy.name, one.parameters)
            and _is_judged(of_task)
        ]
        said = tasks.title.removeprefix("GLUE")  # above the chart already
        lines += [_quiet(number, of_task, said) for number, of_task in enumerate(of_tasks)]
    times = f", {one.parameters['loops']} times" if "loops" in one.parameters else ""
    title = f"{strategy.title}: the middle layers {strategy.doing}{times}"
    return _over_n(found, tasks, title, lines, one)


def _over_n(found: Found, tasks: TaskSet, title: str, lines: Sequence[Line], one: Series) -> Chart:
    """Return a chart over n, which says above how many layers are edited."""
    layers = _layers(found)
    there = [int(place) for line in lines for place in line.x]
    places = range(min(there), max(there) + 1)
    levels = (("Full model", tasks.reference("baseline")), ("Chance", tasks.reference("chance")))
    number = "" if tasks.summary == "median" else "{:.2f}"
    return Chart(
        title=title,
        told=[_model(found), _over(one, tasks), BANDS],
        x_label="n (the middle: layers n+1 to T−n−1)",
        y_label=_unit(tasks),
        lines=lines,
        places=places,
        references=references(levels, 1, number),
        above=("layers in the middle, M = T − 2n − 1", [layers - 2 * n - 1 for n in places]),
    )


def _grid(found: Found, tasks: TaskSet, series: Sequence[Series]) -> Matrix:
    """Return the scores of as many loops (rows) for so many layers (columns)."""
    places = sorted({n for one in series for n in one.points}, reverse=True)
    values = np.array(
        [[one.points[n].value if n in one.points else np.nan for n in places] for one in series]
    )
    known = [column for column in range(len(places)) if np.isfinite(values[:, column]).any()]
    levels = [tasks.reference("chance"), tasks.reference("baseline")]
    return Matrix(
        title="Looped parallel: how many loops for how many layers",
        told=[_model(found), _over(series[0], tasks)],
        x_label="layers side by side, M = T − 2n − 1",
        y_label="loops",
        value_label=_unit(tasks),
        values=values,
        rows=[one.parameters["loops"] for one in series],
        columns=[_layers(found) - 2 * n - 1 for n in places],
        limits=(
            float(np.nanmin([levels[0], values.min()])),
            float(np.nanmax([levels[1], values.max()])),
        ),
        marked=(
            "best number of loops",
            [(int(np.nanargmax(values[:, column])), column) for column in known],
        ),
    )


def _looped_alike(series: Sequence[Series]) -> list[Series]:
    """Keep one series of the looped families: with the paper's 3 loops, or the nearest there is."""
    looped = [one for one in series if one.strategy == "looped_parallel"]
    if len(looped) < 2:
        return list(series)
    kept = min(looped, key=lambda one: abs(one.parameters["loops"] - LOOPS))
    return [one for one in series if one.strategy != "looped_parallel" or one is kept]


def _is_judged(series: Series) -> bool:
    return all(point.value == point.value for point in series.points.values())


def _line(series: Series, scale: int, label: str = "") -> Line:
    look = look_of(series.strategy)
    times = f" ×{series.parameters['loops']}" if "loops" in series.parameters else ""
    points = {place: (at.value, at.low, at.high) for place, at in series.points.items()}
    return Line.of(replace(look, label=label or look.label + times), points, scale)


def _quiet(number: int, series: Series, said: str) -> Line:
    """Return the thin grey line of one task beside what all come to."""
    look = replace(numbered(number, series.title.removesuffix(said)), colour=GREY)
    return replace(_line(series, 1), look=look, low=(), high=(), quiet=True)


def _unit(tasks: TaskSet) -> str:
    return "normalised score" if tasks.summary == "median" else "average score"


def _over(one: Series, tasks: TaskSet) -> str:
    """Say what was summed up, and how."""
    what = f"{tasks.title}: " if tasks.title else ""
    if one.tasks > 1:
        what += f"{tasks.summary} of the {SCORES[tasks.summary]}s of {one.tasks} tasks"
    else:
        what += f"{SCORES[tasks.summary]} of 1 task"
    return what + (f", mean of {one.seeds} seeds" if one.seeds > 1 else "")


def _model(found: Found) -> str:
    return f"{found.model}, {_layers(found)} layers"


def _layers(found: Found) -> int:
    return int(found.frame["layers"].iloc[0])


def _sets(found: Found) -> list[TaskSet]:
    return task_sets(found.frame) if found.tasks else []


def _lacking(found: Found, entries: Mapping[str, str]) -> MissingError:
    """Return what a study lacks: plans, and tasks where it has none that can be normalised."""
    plans = [entry for strategy, entry in entries.items() if strategy not in found.strategies]
    judged = [
        tasks
        for tasks in _sets(found)
        if any(_can_be_judged(tasks, row) for row in main_rows(tasks.frame, {}))
    ]
    return MissingError([] if judged else WANTED, plans)


def _can_be_judged(tasks: TaskSet, row: Row) -> bool:
    return tasks.summary == "average" or row.baseline > row.chance
