"""Charts of lines: values against a depth, a layer, or how many layers are edited.

A `Chart` is a value that says what one picture shows; most of the papers' figures are one, or
several below each other. Numbers are in the unit of the axis (percent, for shares).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure, SubFigure
from matplotlib.legend import Legend

from impasto.figures.headline import write_headline
from impasto.figures.placement import Named, name_lines
from impasto.figures.style import BAND_OPACITY, SIZE, darker
from impasto.look import FAINT, GREY, INK, Look

TICK_STEPS = (1, 2, 4, 5, 8, 10, 16, 20)
MOST_TICKS = 16
FAR_BELOW = 40.0  # of 100 %: an axis up to there would leave lines flat
LABEL_CHARACTERS = 30  # of a line's name; longer ones are cut, visibly


@dataclass(frozen=True, slots=True)
class Line:
    """One line: values at places, with a band from low to high where these are given.

    `look` says how it is drawn and called; a `quiet` line is thin, behind the others.
    """

    look: Look
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] = ()
    high: Sequence[float] = ()
    quiet: bool = False

    @classmethod
    def of(
        cls, look: Look, points: Mapping[int, tuple[float, float, float]], scale: float
    ) -> "Line":
        """Return the line through each place's value, low and high, all of them scaled."""
        value, low, high = ([scale * ends[at] for ends in points.values()] for at in range(3))
        return cls(look, list(points), value, low, high)


@dataclass(frozen=True, slots=True)
class Reference:
    """A level to compare with, such as the baseline's, drawn across."""

    label: str
    y: float


@dataclass(frozen=True, slots=True)
class Chart:
    """What one chart shows, and in `told` what was run.

    `places` are all whole numbers that the axis has, from first to last. `above` is a second axis
    for the same places: its label, and what it says at each place.
    """

    title: str
    told: Sequence[str]
    x_label: str
    y_label: str
    lines: Sequence[Line]
    places: range
    references: Sequence[Reference] = ()
    limits: tuple[float, float] | None = None
    above: "tuple[str, Sequence[int]] | None" = None


def references(
    levels: Iterable[tuple[str, float]], scale: float = 100, number: str = "{:.1f} %"
) -> list[Reference]:
    """Return the levels that are known, each named with its number."""
    return [
        Reference(f"{name} {number.format(scale * level)}".strip(), scale * level)
        for name, level in levels
        if level == level
    ]


def draw_charts(charts: Sequence[Chart]) -> Figure:
    """Return a figure of charts below each other; use it within the settings of `style`."""
    width, height = SIZE
    taller = 0.45 * max(bool(chart.above) for chart in charts)
    figure = Figure(figsize=(width, (height + taller) * len(charts)), layout="constrained")
    FigureCanvasAgg(figure)
    below: list[Any] = [figure] if len(charts) == 1 else [*figure.subfigures(len(charts), 1)]  # type: ignore[misc]
    for chart, part in zip(charts, below, strict=True):
        _draw(chart, part)
    return figure


def _draw(chart: Chart, figure: Figure | SubFigure) -> None:
    axes = figure.add_subplot()
    _frame(axes, chart)
    write_headline(figure, axes, chart.title, *chart.told)
    named = [draw_reference(axes, level, chart.places) for level in chart.references]
    loud = [_line(axes, line) for line in chart.lines if not line.quiet]
    quiet = [_line(axes, line) for line in chart.lines if line.quiet]
    lines = [*loud, *quiet]
    if not name_lines(axes, [*named, *lines]):
        key = _key(figure, axes, lines)
        if not name_lines(axes, named, besides=lines):
            key.remove()
            _key(figure, axes, [*lines, *named])


def _frame(axes: Axes, chart: Chart) -> None:
    """Set axes, ticks and grid."""
    first, last = chart.places[0], chart.places[-1]
    step = _step(last - first)
    axes.set_xticks(range(first, last + 1, step))
    room = 0.02 * max(1, last - first)
    axes.set_xlim(first - room, last + room)
    axes.set_ylim(*(chart.limits or _limits(chart)))
    axes.set_xlabel(chart.x_label)
    axes.set_ylabel(chart.y_label)
    axes.grid(axis="y", color=FAINT, linewidth=0.6)
    axes.set_axisbelow(True)
    if chart.above:
        label, says = chart.above
        top = axes.secondary_xaxis("top")
        ticks = range(first, last + 1, step)
        top.set_xticks(ticks, [str(says[tick - first]) for tick in ticks])
        top.set_xlabel(label, color=GREY)
        top.tick_params(colors=GREY)
        top.spines["top"].set_visible(False)


def _step(extent: int) -> int:
    return next((s for s in TICK_STEPS if extent / s <= MOST_TICKS), extent)


def _limits(chart: Chart) -> tuple[float, float]:
    """Return limits that hold all lines, bands and references, with a little room."""
    levels = [reference.y for reference in chart.references]
    for line in chart.lines:
        levels += [*line.y, *line.low, *line.high]
    levels = [level for level in levels if isfinite(level)]
    low, high = (min(levels), max(levels)) if levels else (0.0, 1.0)
    room = 0.08 * (high - low or 1)
    return low - room, high + room


def percent_limits(lines: Sequence[Line]) -> tuple[float, float]:
    """Return the limits of an axis of shares in percent.

    From 0 to 100, or to what there is where all lines stay far below; beyond where lines go.
    """
    found = [value for line in lines for value in (*line.y, *line.low, *line.high)]
    found = [value for value in found if isfinite(value)]
    low, high = min([0.0, *found]), max(found, default=100.0)
    high = max(high, 1.0) if high < FAR_BELOW else max(high, 100.0)
    return low - 0.03 * (high - low), high + 0.09 * (high - low)


def draw_reference(axes: Axes, reference: Reference, places: Sequence[float]) -> Named:
    """Draw a level across the axes and return it as a line to be named at these places."""
    chance = reference.label.startswith("Chance")
    colour, dash = (GREY, (0, (1, 2))) if chance else (INK, (0, (4, 3)))
    axes.axhline(
        reference.y, color=colour, linestyle=dash, linewidth=1, label=reference.label, zorder=1.5
    )
    return Named(reference.label, colour, places, [reference.y] * len(places), clear=0.8)


def _line(axes: Axes, line: Line) -> Named:
    """Draw one line, with its band where it has one."""
    x, y = np.asarray(line.x, float), np.asarray(line.y, float)
    look, label = line.look, cut(line.look.label)
    if len(line.low):
        axes.fill_between(
            x, line.low, line.high, color=look.colour, alpha=BAND_OPACITY, linewidth=0
        )
    axes.plot(
        x,
        y,
        color=look.colour,
        linestyle=look.dash,
        marker=look.marker,
        markersize=2.6 if line.quiet else 3.6,
        linewidth=0.9 if line.quiet else 1.9,
        alpha=0.75 if line.quiet else 1,
        label=label,
        zorder=2.5 if line.quiet else 3,
        clip_on=False,
    )
    there = np.isfinite(y)
    known = np.flatnonzero(there)
    whole = np.interp(np.arange(len(y)), known, y[there]) if len(known) else np.zeros(len(y))
    edges = (line.low, line.high) if len(line.low) else ()
    return Named(label, darker(look.colour), line.x, whole.tolist(), edges)


def cut(label: str) -> str:
    """Return a name that a figure has room for."""
    return label if len(label) <= LABEL_CHARACTERS else label[: LABEL_CHARACTERS - 1] + "…"


def _key(figure: Figure | SubFigure, axes: Axes, lines: Sequence[Named]) -> Legend:
    """Draw a key of these lines beside the axes."""
    handles = dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    return figure.legend(
        [handles[line.label] for line in lines],
        [line.label for line in lines],
        loc="outside right center",
        frameon=False,
        handlelength=3.2,
        labelspacing=0.8,
    )
