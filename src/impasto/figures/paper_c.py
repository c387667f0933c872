"""Figures of paper C (*Attention Is All You Need But You Don't Need All Of It*).

Figure 1 is the similarity of each depth with the one before. Beside the paper's tables (`tables`),
which have three counts, a figure shows all.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from math import nan

import numpy as np

from impasto.analysis.inside.saved import SIMILARITY, Inside
from impasto.analysis.scores import main_rows
from impasto.analysis.series import Series, TaskSet, averaged_sets, summed_series
from impasto.figures.chart import Chart, Charts, Line, Panel, Places, Reference, references
from impasto.figures.found import Found, MissingError
from impasto.figures.middles import OfSet, over, sets_of
from impasto.figures.models import is_relative, named, panels
from impasto.figures.paper_b import TEXTS
from impasto.figures.picture import Picture
from impasto.figures.scale import Scale, scale_of
from impasto.figures.style import look_of
from impasto.figures.tables import TASKS
from impasto.look import BLUE, DASHED, PURPLE, Look
from impasto.strategies import STRATEGIES

EVERY_COUNT = "drop_last: {part: all, count: all, keep_last: all}"
SELECTED = [strategy.entry for strategy in STRATEGIES.values() if strategy.is_selector]
LOOKS = {
    "tokens": Look("per token", PURPLE),
    "flattened": Look("texts flattened", BLUE, DASHED, "s"),
}


def with_previous(founds: Sequence[Found]) -> Iterator[Picture]:
    """Draw Figure 1: how like the depth before each depth is."""
    having = [found for found in founds if SIMILARITY in found.inside]
    if not having:
        raise MissingError(command=TEXTS)
    insides = [found.inside[SIMILARITY] for found in having]
    relative = len({inside.layers for inside in insides}) > 1
    levels = [Reference("Nothing changed", 1.0)]
    lines = [
        (found, _similarities(inside, inside.layers if relative else 1), levels)
        for found, inside in zip(having, insides, strict=True)
    ]
    texts = dict.fromkeys(
        f"{first.texts:,} texts, {first.tokens:,} tokens"
        for inside in insides
        if (first := next(iter((inside.similarity or {}).values()), None))
    )
    label = "depth k, compared with depth k − 1 (what layer k − 1 reads)"
    places = Places(f"{label}, as a share of the layers (k / T)")
    chart = Chart(
        title="Similarity with the previous layer",
        told=[
            "; ".join(
                f"{found.model}, {inside.layers} layers"
                for found, inside in zip(having, insides, strict=True)
            ),
            "; ".join(texts),
        ],
        x=places if relative else Places(label, range(1, insides[0].layers + 1)),
        y=Scale("mean cosine similarity"),
        panels=panels(lines),
    )
    notes = [f"{found.model} has no similarities" for found in founds if found not in having]
    yield Picture("C1", Charts([chart]), notes)


def _similarities(inside: Inside, divisor: int) -> list[Line]:
    lines = []
    for measure, values in (inside.similarity or {}).items():
        half = np.nan_to_num(values.with_previous_half_width)
        pairs = enumerate(zip(values.with_previous, half, strict=True), 1)
        points = {
            depth / divisor: (mean, mean - width, mean + width) for depth, (mean, width) in pairs
        }
        lines.append(Line.of(LOOKS[measure], points, 1))
    return lines


def dropping(founds: Sequence[Found]) -> Iterator[Picture]:
    """Draw what tasks come to by how many of the last layers are dropped."""
    if not any(found.tasks for found in founds):
        raise MissingError(TASKS, [EVERY_COUNT])
    sets, notes = sets_of(founds, averaged_sets)
    charts = [
        chart
        for of_set in sets
        for how, is_wanted in (
            ("up to the last layer", _up_to_last),
            ("the last layer is kept", _kept),
        )
        if (chart := _dropping(of_set, f"Dropping the last layers: {how}", how, is_wanted))
    ]
    if not charts:
        raise MissingError([], [EVERY_COUNT])
    yield Picture("drop_last", Charts(charts), notes)


def selecting(founds: Sequence[Found]) -> Iterator[Picture]:
    """Draw what tasks come to by how many layers are dropped that a selector chose.

    The last whole layers are drawn beside them, where a study has them.
    """
    if not any(found.tasks for found in founds):
        raise MissingError(TASKS, SELECTED)
    sets, notes = sets_of(founds, averaged_sets)
    charts = []
    for of_set in sets:
        chart = _dropping(of_set, "Dropping layers that a selector chose", "", _is_compared)
        if chart and any(_series(tasks, _is_selected) for _, tasks in of_set):
            charts.append(_with_last(chart))
    if not charts:
        raise MissingError([], SELECTED)
    yield Picture("selectors", Charts(charts), notes)


def _with_last(chart: Chart) -> Chart:
    """Return a chart in which the last layers are called so, beside others that are dropped."""
    last = look_of("drop_last block")
    named = {last.label: replace(last, label="The last layers")}

    def of(panel: Panel) -> Panel:
        lines = (replace(one, look=named.get(one.look.label, one.look)) for one in panel.lines)
        return replace(panel, lines=list(lines))

    return replace(chart, panels=[of(panel) for panel in chart.panels])


def _up_to_last(one: Series) -> bool:
    return one.strategy == "drop_last" and one.parameters["keep_last"] is False


def _kept(one: Series) -> bool:
    return one.strategy == "drop_last" and one.parameters["keep_last"] is True


def _is_compared(one: Series) -> bool:
    return _is_selected(one) or (_up_to_last(one) and one.parameters["part"] == "block")


def _is_selected(one: Series) -> bool:
    return one.strategy in STRATEGIES and STRATEGIES[one.strategy].is_selector


def _dropping(
    of_set: OfSet, title: str, part: str, is_wanted: Callable[[Series], bool]
) -> Chart | None:
    """Return the chart of one set of tasks; None where no model has several counts."""
    drawn = [(found, tasks, _series(tasks, is_wanted)) for found, tasks in of_set]
    drawn = [(found, tasks, series) for found, tasks, series in drawn if series]
    if not drawn:
        return None
    founds, tasks = [found for found, *_ in drawn], drawn[0][1]
    relative = is_relative(founds)
    scale = _scale(tasks)
    lines = []
    for found, own, series in drawn:
        full = own.reference("baseline")
        of_model = [_dropped(one, full, scale, found.layers if relative else 1) for one in series]
        lines.append((found, of_model, references([("Full model", full)], scale)))
    label = "layers dropped, or run without this part"
    most = int(max(at for *_, series in drawn for one in series for at in one.points))
    places = Places(f"{label}, as a share of all")
    return Chart(
        title=title,
        told=[named(founds), over(drawn)],
        x=places if relative else Places(label, range(most + 1)),
        y=scale,
        panels=panels(lines),
        part=part,
    )


def _series(tasks: TaskSet, is_wanted: Callable[[Series], bool]) -> list[Series]:
    every = summed_series(tasks.frame, "count", tasks.summary)
    return [one for one in every if is_wanted(one) and len(one.points) > 1]


def _scale(tasks: TaskSet) -> Scale:
    row = next(iter(main_rows(tasks.frame, {})))
    scale = scale_of(row.metric)
    several = tasks.summary == "average" and len(set(tasks.frame["task"])) > 1
    return replace(scale, label="average score (%)") if several else scale


def _dropped(series: Series, full: float, scale: Scale, divisor: int) -> Line:
    """Return a part's line, which begins at the full model: there nothing is dropped."""
    known = all(at.low == at.low for at in series.points.values())
    points = {0.0: (full, full if known else nan, full if known else nan)}
    points |= {place / divisor: (at.value, at.low, at.high) for place, at in series.points.items()}
    look = look_of(f"{series.strategy} {series.parameters.get('part', '')}".strip())
    return Line.of(look, points, scale.factor)
