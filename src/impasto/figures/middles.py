"""Paper B's families that change the middle layers: Figures 4 to 9, and 11 with all of them.

Tasks are summed up by the median of normalised scores, but GLUE, which encoders have, by the plain
average, for each of its protocols, and perplexities by their geometric mean.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

import pandas as pd

from impasto.analysis.scores import is_above_chance, main_rows
from impasto.analysis.series import Series, Summary, TaskSet, summed_series, task_series, task_sets
from impasto.figures.chart import Chart, Charts, Line, Places, references
from impasto.figures.found import Found, MissingError
from impasto.figures.models import alone, common, is_relative, named, panels
from impasto.figures.picture import Picture
from impasto.figures.scale import Scale, scale_of
from impasto.figures.style import lighter, look_of
from impasto.look import GREY, numbered
from impasto.strategies import STRATEGIES, Strategy

MOST_LOOPS = 6  # other numbers of loops that Figure 9 draws
SHADES = (0.65, 0.25)  # how much white is in the lines of the fewest and the most loops
LOOPS = 3  # in the paper's Figures 9 and 11
MIDDLES = {s.figure: s for s in STRATEGIES.values() if s.paper == "B" and s.figure != "B2"}
ENTRIES = {strategy.name: strategy.entry for strategy in MIDDLES.values()}
WANTED = (
    "{name: arc_challenge, num_fewshot: 0}",
    "{name: hellaswag, num_fewshot: 0}",
    "{name: lambada_openai, num_fewshot: 0}",
)
SUMMED: Mapping[Summary, str] = {
    "median": "Median",
    "average": "Average",
    "geometric mean": "Geometric mean",
}
BEFORE = "last layer before the middle (n)"
IN_MIDDLE = "layers in the middle (M = T − 2n − 1)"
SHARE_IN_MIDDLE = "layers in the middle, as a share of all (M / T)"

OfSet = Sequence[tuple[Found, TaskSet]]
Drawn = Sequence[tuple[Found, TaskSet, Sequence[Series]]]


def sets_of(
    founds: Sequence[Found], sets_in: Callable[[pd.DataFrame], list[TaskSet]] = task_sets
) -> tuple[list[OfSet], list[str]]:
    """Return every set of tasks with the models that have it, and what is left out, in sentences.

    Several models have it with the tasks that they share. Raises MissingError where sets of one
    kind share none.
    """
    groups: dict[tuple[str, str], list[tuple[Found, TaskSet]]] = {}
    for found in founds:
        for tasks in sets_in(found.frame) if found.tasks else ():
            groups.setdefault((tasks.title, tasks.summary), []).append((found, tasks))
    sets, notes = [], []
    for group in groups.values():
        names = {f.model: list(dict.fromkeys(tasks.frame["task"])) for f, tasks in group}
        shared, said = common(names)
        notes += said
        if len(group) == 1 < len(founds):
            notes += [alone(model, own) for model, own in names.items()]
        of_set = [(f, _only(tasks, shared)) for f, tasks in group]
        sets.append([(f, tasks) for f, tasks in of_set if not tasks.frame.empty])
    return sets, notes


def _only(tasks: TaskSet, names: Sequence[str]) -> TaskSet:
    return replace(tasks, frame=tasks.frame[tasks.frame["task"].isin(names)])


def middle(name: str, founds: Sequence[Found]) -> Iterator[Picture]:
    """Draw Figure 4, 5, 6, 7, 8 or 9: one family, each task and what they come to."""
    strategy = MIDDLES[name]
    sets, notes = sets_of(founds)
    charts = []
    for of_set in sets:
        drawn = _summed(of_set, {strategy.name})
        if drawn:
            charts.append(_middle_chart(drawn, strategy))
            notes += _undrawn(of_set, drawn)
    if not charts:
        raise lacking(founds, {strategy.name: strategy.entry})
    yield Picture(name, Charts(charts), notes)


def all_families(founds: Sequence[Found]) -> Iterator[Picture]:
    """Draw Figure 11: all families in one chart, for each set of tasks."""
    sets, notes = sets_of(founds)
    charts = []
    for of_set in sets:
        drawn = _summed(of_set, set(ENTRIES))
        loops = [said] if (said := _loops_said(of_set)) else []
        if len({one.strategy for _, _, series in drawn for one in series}) > 1:
            lines = [[series_line(one, _scale_of(drawn)) for one in series] for *_, series in drawn]
            chart = _over_n(drawn, "All ways to run the middle layers", lines)
            charts.append(replace(chart, told=[*chart.told, *loops]))
            notes += _undrawn(of_set, drawn)
    if not charts:
        raise lacking(founds, ENTRIES)
    yield Picture("B11", Charts(charts), notes)


def _summed(of_set: OfSet, strategies: set[str]) -> Drawn:
    """Return the models' series of some families, of looped ones that with the paper's loops."""
    found = []
    for model, tasks in of_set:
        every = summed_series(tasks.frame, "n", tasks.summary)
        series = _looped_alike([one for one in every if one.strategy in strategies])
        if series:
            found.append((model, tasks, series))
    return found


def _scale_of(drawn: Drawn) -> Scale:
    return set_scale(drawn[0][1])


def _undrawn(of_set: OfSet, drawn: Drawn) -> list[str]:
    """Say which models have a set of tasks but no line."""
    there = [found.model for found, *_ in drawn]
    return [
        f"{found.model} is not drawn: it has no such plans on tasks above chance"
        for found, _ in of_set
        if found.model not in there
    ]


def _middle_chart(drawn: Drawn, strategy: Strategy) -> Chart:
    """Return a family's chart for one set of tasks."""
    one = drawn[0][2][0]
    title = f"{strategy.title}: the middle layers {strategy.doing}"
    if len(drawn) > 1:
        lines = [[series_line(series[0], set_scale(tasks))] for _, tasks, series in drawn]
        return _over_n(drawn, title + _times(one), lines)
    [(_, tasks, _)] = drawn
    others = _other_loops(tasks, one)
    several = f"{SUMMED[tasks.summary]} of {one.tasks} tasks" if one.tasks > 1 else ""
    label = f"{several}, ×{one.parameters['loops']}" if others and several else several
    lines = [series_line(one, set_scale(tasks), label), *others]
    if one.tasks > 1:
        lines += _task_lines(tasks, one)
    return _over_n(drawn, title if others else title + _times(one), [lines])


def _times(one: Series) -> str:
    return f", {one.parameters['loops']} times" if "loops" in one.parameters else ""


def _other_loops(tasks: TaskSet, drawn: Series) -> list[Line]:
    """Return the lines of other numbers of loops, in other shades; some of them where many are."""
    every = [
        one
        for one in summed_series(tasks.frame, "n", tasks.summary)
        if one.strategy == drawn.strategy and one.parameters != drawn.parameters
    ]
    every.sort(key=lambda one: one.parameters["loops"])
    some = every[:: max(1, -(-len(every) // MOST_LOOPS))]
    lines = []
    for at, one in enumerate(some):
        line = series_line(one, set_scale(tasks))
        shade = SHADES[0] + (SHADES[1] - SHADES[0]) * at / max(1, len(some) - 1)
        look = replace(
            line.look,
            label=f"×{one.parameters['loops']}",
            colour=lighter(line.look.colour, shade),
            marker="1234+x"[at],
        )
        lines.append(replace(line, look=look, low=(), high=()))
    return lines


def _loops_said(of_set: OfSet) -> str:
    """Say which loops are drawn where a study has several."""
    loops = {
        one.parameters["loops"]
        for _, tasks in of_set
        for one in summed_series(tasks.frame, "n", tasks.summary)
        if one.strategy == "looped_parallel"
    }
    if len(loops) < 2:
        return ""
    kept = min(sorted(loops), key=lambda count: abs(count - LOOPS))
    paper = ", as in the paper" if kept == LOOPS else ""
    return f"looped parallel: {kept} loops{paper}; of others see B9 and B10"


def _task_lines(tasks: TaskSet, one: Series) -> Iterator[Line]:
    """Yield the thin line of each task that a series sums up."""
    unit = "normalised" if tasks.summary == "median" else "value"
    of_tasks = [
        series
        for series in task_series(tasks.frame, "n", unit)
        if (series.strategy, series.parameters) == (one.strategy, one.parameters)
        and all(point.value == point.value for point in series.points.values())
    ]
    said = tasks.title.removeprefix("GLUE")  # above the chart already
    for number, series in enumerate(of_tasks):
        line = series_line(series, set_scale(tasks))
        look = replace(numbered(number, series.title.removesuffix(said)), colour=GREY)
        yield replace(line, look=look, low=(), high=(), quiet=True)


def _over_n(drawn: Drawn, title: str, lines: Sequence[Sequence[Line]]) -> Chart:
    """Return a chart over n, which says above how many layers are edited.

    Where models differ in layers, it goes over the share of them that is in the middle.
    """
    founds = [found for found, *_ in drawn]
    scale, relative = _scale_of(drawn), is_relative(founds)
    of_models = []
    for (found, tasks, _), own in zip(drawn, lines, strict=True):
        levels = [
            ("Full model", tasks.reference("baseline")),
            ("Chance", tasks.reference("chance")),
        ]
        number = scale if tasks.summary != "median" else replace(scale, number="")
        moved = [_relative(line, found.layers) if relative else line for line in own]
        of_models.append((found, moved, references(levels, number)))
    x = Places(SHARE_IN_MIDDLE, turned=True)
    if not relative:
        layers, there = founds[0].layers, [int(at) for own in lines for one in own for at in one.x]
        places = range(min(there), max(there) + 1)
        x = Places(BEFORE, places, (IN_MIDDLE, [layers - 2 * n - 1 for n in places]))
    told = [named(founds), over(drawn)]
    return Chart(title, told, x, scale, panels(of_models), part=drawn[0][1].title)


def _relative(line: Line, layers: int) -> Line:
    """Return a line over n as one over the share of the layers in the middle."""
    return replace(line, x=[(layers - 2 * n - 1) / layers for n in line.x])


def _looped_alike(series: Sequence[Series]) -> list[Series]:
    """Keep one series of the looped families: with the paper's 3 loops, or the nearest there is."""
    looped = [one for one in series if one.strategy == "looped_parallel"]
    if len(looped) < 2:
        return list(series)
    kept = min(looped, key=lambda one: abs(one.parameters["loops"] - LOOPS))
    return [one for one in series if one.strategy != "looped_parallel" or one is kept]


def series_line(series: Series, scale: Scale, label: str = "") -> Line:
    """Return a family's line."""
    look = look_of(series.strategy)
    times = f" ×{series.parameters['loops']}" if "loops" in series.parameters else ""
    points = {place: (at.value, at.low, at.high) for place, at in series.points.items()}
    return Line.of(replace(look, label=label or look.label + times), points, scale.factor)


def set_scale(tasks: TaskSet) -> Scale:
    """Return how what a set of tasks comes to is drawn."""
    if tasks.summary == "geometric mean":
        return scale_of(next(iter(main_rows(tasks.frame, {}))).metric)
    return Scale("normalised score" if tasks.summary == "median" else "average score")


def over(drawn: Drawn) -> str:
    """Say what was summed up, and how, and what was left out."""
    tasks, one = drawn[0][1], drawn[0][2][0]
    said = {"median": "normalised score", "average": "score", "geometric mean": tasks.title}
    what = f"{tasks.title}: " if tasks.title and tasks.summary == "average" else ""
    if one.tasks > 1:
        what += f"{tasks.summary} of {one.tasks} tasks' {said[tasks.summary]}"
    else:
        titles = {row.task: row.title for row in main_rows(tasks.frame, {})}
        entered = [title for title in titles.values() if title not in one.left_out]
        what += f"{said[tasks.summary]} of {entered[0] if entered else '1 task'}"
    rows = {row.n for row in main_rows(tasks.frame, {})}
    what += f", {next(iter(rows)):,} {tasks.metric.items}" if len(rows) == 1 else ""
    seeds = max(series.seeds for *_, several in drawn for series in several)
    what += f", mean of {seeds} seeds" if seeds > 1 else ""
    out = dict.fromkeys(title for *_, several in drawn for s in several for title in s.left_out)
    return what + (f"; not above chance, left out: {', '.join(out)}" if out else "")


def lacking(founds: Sequence[Found], entries: Mapping[str, str]) -> MissingError:
    """Return what studies lack: plans, or tasks above chance, or both."""
    there = set().union(*(found.strategies for found in founds))
    plans = [entry for strategy, entry in entries.items() if strategy not in there]
    sets = [tasks for found in founds if found.tasks for tasks in task_sets(found.frame)]
    if not sets:
        return MissingError(WANTED, plans)
    rows = [
        row for tasks in sets for row in main_rows(tasks.frame, {}) if row.strategy == "baseline"
    ]
    if any(tasks.summary == "average" for tasks in sets) or any(map(is_above_chance, rows)):
        return MissingError([], plans)
    titles = ", ".join(dict.fromkeys(row.title for row in rows))
    reason = f"the full model is not above chance on {titles}, so no plan can be judged by that"
    return MissingError(WANTED, plans, reason=reason)
