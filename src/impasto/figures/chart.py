"""Charts of lines: values against a depth, a layer, or how many layers are edited.

A `Chart` is a value that says what one picture shows, in one panel or in several with the same
axes; `Charts` are several below each other. Numbers are in the unit of the axis (percent, for
shares).
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, isfinite
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure, SubFigure

from impasto.figures.axes import draw_line, draw_reference, frame
from impasto.figures.headline import Headline
from impasto.figures.key import draw_key, key_height
from impasto.figures.placement import Named, name_lines
from impasto.figures.scale import Scale
from impasto.figures.style import Style
from impasto.figures.text import cut, wrapped
from impasto.look import Look

PANEL = 23.0  # the least width of one of several panels, in letters' heights


@dataclass(frozen=True, slots=True)
class Line:
    """One line: values at places, with a band from low to high where these are given.

    `look` says how it is drawn and called; a `quiet` line is thin, behind the others. A line of one
    of several `model`s in the same panel has that model's dash.
    """

    look: Look
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] = ()
    high: Sequence[float] = ()
    quiet: bool = False
    model: str = ""

    @classmethod
    def of(
        cls,
        look: Look,
        points: Mapping[Any, tuple[float, float, float]],
        scale: float,
        model: str = "",
    ) -> "Line":
        """Return the line through each place's value, low and high, all of them scaled."""
        value, low, high = ([scale * ends[at] for ends in points.values()] for at in range(3))
        return cls(look, list(points), value, low, high, model=model)


@dataclass(frozen=True, slots=True)
class Reference:
    """A level to compare with, such as the baseline's, drawn across; of chance it is dotted."""

    label: str
    y: float
    dash: Any = (0, (4, 3))

    @property
    def is_chance(self) -> bool:
        """Whether it is where guessing lies."""
        return self.label.startswith("Chance")


@dataclass(frozen=True, slots=True)
class Places:
    """The horizontal axis.

    Attributes:
        label: What it says.
        whole: All whole numbers that it has, from first to last; None: it goes from 0 to all of
            something, in percent.
        above: A second axis for the same places: its label, and what it says at each place.
        turned: Whether it falls from left to right.
    """

    label: str
    whole: range | None = None
    above: "tuple[str, Sequence[int]] | None" = None
    turned: bool = False

    @property
    def ends(self) -> tuple[float, float]:
        """The first and the last place."""
        return (self.whole[0], self.whole[-1]) if self.whole is not None else (0.0, 1.0)


@dataclass(frozen=True, slots=True)
class Panel:
    """Lines and levels in one pair of axes; `title` tells it from panels beside it."""

    lines: Sequence[Line]
    references: Sequence[Reference] = ()
    title: str = ""


@dataclass(frozen=True, slots=True)
class Chart:
    """What one chart shows, and in `told` what was run.

    `part` tells it from other charts of the picture where titles are left out. `intervals` says
    what bands and error bars are, where there are any.
    """

    title: str
    told: Sequence[str]
    x: Places
    y: Scale
    panels: Sequence[Panel]
    part: str = ""
    intervals: str = "95 % intervals"

    @property
    def heading(self) -> tuple[str, ...]:
        """What is told below the title."""
        ends = (end for panel in self.panels for line in panel.lines for end in line.low)
        return (*self.told, *([self.intervals] if any(map(isfinite, ends)) else []))

    @property
    def values(self) -> Iterator[float]:
        """All values, with bands and levels."""
        for panel in self.panels:
            yield from (reference.y for reference in panel.references)
            for line in panel.lines:
                yield from (*line.y, *line.low, *line.high)


@dataclass(frozen=True, slots=True)
class Charts:
    """Charts below each other, as one picture."""

    charts: Sequence[Chart]

    def figure(self, style: Style) -> Figure:
        """Return the picture; use it within the style's settings."""
        heads = [Headline.of(chart.title, chart.heading, style) for chart in self.charts]
        heights = [_height(*pair, style) for pair in zip(self.charts, heads, strict=True)]
        figure = Figure(figsize=(style.width, sum(heights)), layout="constrained")
        FigureCanvasAgg(figure)
        below: list[Any] = [figure]
        if len(self.charts) > 1:
            parts: Any = figure.subfigures(len(self.charts), 1, height_ratios=heights)
            below = list(parts)
        for chart, head, part in zip(self.charts, heads, below, strict=True):
            shown = chart.part if len(self.charts) > 1 and not style.titles else ""
            _draw(chart, head, part, style, shown)
        return figure


def references(levels: Iterable[tuple[str, float]], scale: Scale) -> list[Reference]:
    """Return the levels that are known, each named with its number.

    That of a guess is left out where it is no share: it is far from all that is worth looking at.
    """
    return [
        Reference(f"{name} {scale.say(level)}".strip(), scale.factor * level)
        for name, level in levels
        if level == level and not (scale.form == "ratio" and name.startswith("Chance"))
    ]


def columns_of(panels: int, style: Style) -> int:
    """Return how many panels stand beside each other."""
    return max(1, min(panels, int(style.width / style.ems(PANEL)), 3))


def panel_height(columns: int, style: Style) -> float:
    """Return the height of a panel with its axes, in inches."""
    return max(style.ems(22), min(0.56 * style.width, 0.78 * style.width / columns))


def _height(chart: Chart, head: Headline, style: Style) -> float:
    columns = columns_of(len(chart.panels), style)
    height = ceil(len(chart.panels) / columns) * panel_height(columns, style) + head.height
    lines = [line for panel in chart.panels for line in panel.lines]
    labels = [cut(line.look.label) for line in lines] + [line.model for line in lines if line.model]
    labels += [level.label for panel in chart.panels for level in panel.references]
    beside = style.is_wide and len(chart.panels) == 1
    key = key_height(list(dict.fromkeys(labels)), style, beside=beside)
    return height + style.ems(3.2 * bool(chart.x.above)) + key


def _draw(
    chart: Chart, head: Headline, figure: Figure | SubFigure, style: Style, shown: str
) -> None:
    columns = columns_of(len(chart.panels), style)
    rows = ceil(len(chart.panels) / columns)
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    every: list[Axes] = list(grid.ravel())
    room, wide = 72 * panel_height(columns, style), 72 * style.width / columns - 8 * style.font
    for at, (axes, panel) in enumerate(zip(every, chart.panels, strict=False)):
        frame(axes, chart.x, wide, style, is_bottom=at + columns >= len(chart.panels))
        if at % columns == 0:
            label = wrapped(chart.y.label, room - 6 * style.font, style.font)
            axes.set_ylabel("\n".join(label))
        if title := panel.title or (shown if at == 0 else ""):
            axes.set_title("\n".join(wrapped(title, 72 * style.width / columns - 60, style.font)))
    for axes in every[len(chart.panels) :]:
        axes.set_visible(False)
    chart.y.lay_out(every[0], chart.values)
    head.write(figure, every[0])
    named: list[list[Named]] = []
    drawn: list[list[Named]] = []
    for axes, panel in zip(every, chart.panels, strict=False):
        named.append(
            [draw_reference(axes, level, chart.x.ends, style) for level in panel.references]
        )
        loud = [draw_line(axes, line, style) for line in panel.lines if not line.quiet]
        drawn.append([*loud, *(draw_line(axes, line, style) for line in panel.lines if line.quiet)])
    _name(chart, figure, every, named, drawn, style)


def _name(
    chart: Chart,
    figure: Figure | SubFigure,
    every: Sequence[Axes],
    named: Sequence[Sequence[Named]],
    drawn: Sequence[Sequence[Named]],
    style: Style,
) -> None:
    """Write every line's name beside it, or in a key where there is no room for that."""
    panels = list(zip(every, named, drawn, strict=False))
    several = len(panels) > 1 or any(line.model for line in chart.panels[0].lines)
    axes, levels, lines = panels[0]
    if not several and style.is_wide and name_lines(axes, [*levels, *lines]):
        return
    key = draw_key(figure, every[: len(panels)], chart_lines(chart), [], style)
    if all(name_lines(axes, levels, besides=lines) for axes, levels, lines in panels):
        return
    key.remove()
    for axes, levels, _ in panels:
        for text in [text for text in axes.texts if text.get_text() in {n.label for n in levels}]:
            text.remove()
    every_level = [level for panel in chart.panels for level in panel.references]
    draw_key(figure, every[: len(panels)], chart_lines(chart), every_level, style)


def chart_lines(chart: Chart) -> list[Line]:
    """Return the lines of all panels, loud ones first."""
    lines = [line for panel in chart.panels for line in panel.lines]
    return sorted(lines, key=lambda line: line.quiet)
