"""Matrices as pictures: similarity of depths, loops by layers, entropy by layer and head.

The colours are cividis, which grows evenly lighter for any colour vision and in print; the best
is light. Differences go from red (worse) over white (none) to blue. A cell says its number where
there is room.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, floor, log10
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LogNorm, Normalize, SymLogNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from impasto.figures.headline import Headline
from impasto.figures.key import place_key
from impasto.figures.scale import Scale, ratio_ticks
from impasto.figures.scale import spelled as spelled_number
from impasto.figures.style import Style
from impasto.figures.text import width_of, wrapped
from impasto.look import FAINT, GREY, INK, VERMILION
from impasto.table import MINUS

COLOURS, DIFFERENCES = "cividis", "RdBu"
NUMBERS = 0.8  # the size of a cell's number, in that of other letters
MARK = VERMILION  # which stands out from blue, grey and yellow alike; of differences ink does
BAR = 9.0  # the room of the colours' bar and its numbers, in letters' heights


@dataclass(frozen=True)
class Matrix:
    """What one picture shows; `values` is (rows, columns), rows from the bottom up.

    Attributes:
        rows, columns: What the rows and columns are called.
        scale: How values are coloured and said: by their ratios where it is logarithmic.
        limits: The least and greatest value of the colours.
        marked: Cells (row, column) to be pointed out, and what that means.
        runs: Half-open runs of rows (and the same columns) to be framed, by name.
        groups: Runs of rows, and the same columns, that have a name beside the axes.
        least: Where values are differences, which go both ways from 0: the least that is of
            interest. Below it colours are even, above they go by ratios; 0 for even ones.
        alike: Whether rows and columns count alike, so that as many of both make a square.
    """

    title: str
    told: Sequence[str]
    x_label: str
    y_label: str
    scale: Scale
    values: np.ndarray
    rows: Sequence[object]
    columns: Sequence[object]
    limits: tuple[float, float]
    marked: "tuple[str, Sequence[tuple[int, int]]] | None" = None
    runs: Sequence[tuple[str, range]] = ()
    groups: Sequence[tuple[str, range]] = ()
    least: float | None = None
    alike: bool = True

    @property
    def is_square(self) -> bool:
        """Whether cells are as wide as they are high."""
        return self.alike and len(self.rows) == len(self.columns)

    def figure(self, style: Style) -> Figure:
        """Return the picture; use it within the style's settings."""
        head = Headline.of(self.title, tuple(self.told), style)
        width, height = _size(self, style)
        figure = Figure(figsize=(width, height + head.height), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        norm = _norm(self)
        image = axes.imshow(
            self.values,
            cmap=(COLOURS if self.least is None else DIFFERENCES)
            + ("_r" if self.scale.turned else ""),
            norm=norm,
            origin="lower",
            aspect="equal" if self.is_square else "auto",
            interpolation="nearest",
        )
        label = "\n".join(wrapped(self.scale.label, 72 * 0.7 * height, style.font))
        bar = figure.colorbar(image, ax=axes, label=label, fraction=0.05, pad=0.02)
        bar.outline.set_visible(False)  # type: ignore[operator]
        if isinstance(norm, LogNorm):
            _tick(bar.ax, ratio_ticks(*self.limits))
        elif isinstance(norm, SymLogNorm):
            _tick(bar.ax, both_ways(norm.linthresh, self.limits[1]))
        if self.scale.turned:
            bar.ax.invert_yaxis()
        head.write(figure, axes)
        _frame(axes, self, style, width, height)
        if self.values.size and _has_room(self, style, width, height):
            _say_numbers(axes, self, style)
        if meaning := _point_out(axes, self, style):
            mark = Rectangle((0, 0), 1, 1, fill=False, edgecolor=_mark(self))
            mark.set_linewidth(1.8 * style.line)
            place_key(figure, {meaning: mark}, style, beside=False)
        return figure


def _tick(axes: Axes, ticks: Sequence[float]) -> None:
    """Set the numbers that stand at the bar of colours."""
    axes.yaxis.set_major_locator(FixedLocator(ticks))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _signed(value)))


def _signed(value: float) -> str:
    return (MINUS if value < 0 else "") + spelled_number(abs(value))


def both_ways(least: float, most: float) -> list[float]:
    """Return round numbers from −most to most that stand well on an axis that is even near 0."""
    powers = range(ceil(log10(least)), floor(log10(most)) + 1)
    step = max(1, -(-len(powers) // 3))
    ticks = [10.0**power for power in powers[::-1][::step]]
    return [*(-tick for tick in ticks), 0.0, *reversed(ticks)]


def _norm(matrix: Matrix) -> Normalize:
    low, high = matrix.limits
    if matrix.least is not None:
        low, high = -high, high
        return (
            SymLogNorm(matrix.least, vmin=low, vmax=high) if matrix.least else Normalize(low, high)
        )
    if matrix.scale.form == "ratio" and low > 0:
        return LogNorm(low, high if high > low else 1.01 * low)
    return Normalize(low, high)


def _frame(axes: Axes, matrix: Matrix, style: Style, width: float, height: float) -> None:
    """Set labels and as many ticks as there is room for."""
    wide, high = 72 * width - BAR * style.font, 72 * height - 8 * style.font
    axes.set_xlabel("\n".join(wrapped(matrix.x_label, wide, style.font)))
    axes.set_ylabel("\n".join(wrapped(matrix.y_label, high, style.font)))
    for set_ticks, names, room in (
        (axes.set_xticks, matrix.columns, wide / (2.4 * style.font)),
        (axes.set_yticks, matrix.rows, high / (1.6 * style.font)),
    ):
        step = max(1, -(-len(names) // max(1, int(room))))
        runs = [run for _, run in matrix.groups] or [range(len(names))]
        places = [place for run in runs for place in run[::step]]
        set_ticks(places, [str(names[place]) for place in places])
    axes.tick_params(length=2)
    if matrix.least is not None:
        axes.set_facecolor(FAINT)  # where there is no value: white is no difference
    if matrix.groups:
        _name_groups(axes, matrix, style)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _name_groups(axes: Axes, matrix: Matrix, style: Style) -> None:
    """Write the names of groups between the numbers and the labels, and part them by lines."""
    numbers = max(width_of(str(name), style.font) for name in matrix.rows)
    below, beside = -2.1 * style.font, -numbers - 0.9 * style.font
    axes.xaxis.labelpad, axes.yaxis.labelpad = 1.9 * style.font, 2.2 * style.font
    for name, run in matrix.groups:
        middle = (run[0] + run[-1]) / 2
        x, y = axes.get_xaxis_transform(), axes.get_yaxis_transform()
        more: Any = {"textcoords": "offset points", "annotation_clip": False, "color": GREY}
        axes.annotate(name, (middle, 0), (0, below), x, ha="center", va="top", **more)
        axes.annotate(
            name, (0, middle), (beside, 0), y, rotation=90, ha="right", va="center", **more
        )
        if run[0]:
            for line in (axes.axhline, axes.axvline):
                line(run[0] - 0.5, color=INK, linewidth=0.8 * style.line)


def spelled(run: range) -> str:
    """Return a run as it is read: `3–7`, or `3` alone."""
    return f"{run[0]}–{run[-1]}" if len(run) > 1 else f"{run[0]}"


def _size(matrix: Matrix, style: Style) -> tuple[float, float]:
    """Return the width of the picture and its height without a headline, in inches."""
    rows = len(matrix.rows)
    if matrix.is_square:
        beside = BAR - 6 + (5 if matrix.groups else 0)
        return style.width, min(style.width - style.ems(beside), style.ems(52))
    return style.width, min(style.ems(70), max(0.5 * style.width, style.ems(11 + 2.2 * rows)))


def _has_room(matrix: Matrix, style: Style, width: float, height: float) -> bool:
    """Say whether every cell can hold its number."""
    rows, columns = matrix.values.shape
    size = NUMBERS * style.font
    widest = max(width_of(_said(matrix, value), size) for value in matrix.values.flat)
    wide, high = 72 * width - BAR * style.font, 72 * height - 9 * style.font
    if matrix.is_square:
        wide = min(wide, high)
    return widest + 2 <= 0.92 * wide / columns and 1.3 * size <= high / rows


def _said(matrix: Matrix, value: float) -> str:
    return matrix.scale.say(value).replace("-", MINUS) if np.isfinite(value) else ""


def _say_numbers(axes: Axes, matrix: Matrix, style: Style) -> None:
    norm = _norm(matrix)
    for (row, column), value in np.ndenumerate(matrix.values):
        if np.isfinite(value):
            share = float(norm(value))
            dark = (1 - share if matrix.scale.turned else share) < 0.55
            if matrix.least is not None:
                dark = abs(share - 0.5) > 0.35
            axes.text(
                column,
                row,
                _said(matrix, value),
                ha="center",
                va="center",
                fontsize=NUMBERS * style.font,
                color="white" if dark else INK,
            )


def _mark(matrix: Matrix) -> str:
    return MARK if matrix.least is None else INK


def _point_out(axes: Axes, matrix: Matrix, style: Style) -> str:
    """Frame the cells to be pointed out and the runs on the diagonal; return what frames mean."""
    meanings = []
    squares: list[tuple[float, float, int]] = []
    if matrix.marked is not None:
        meaning, cells = matrix.marked
        meanings.append(meaning)
        squares += [(column, row, 1) for row, column in cells]
    if matrix.runs:
        named = (f"{name} {spelled(run)}" for name, run in matrix.runs)
        meanings.append("  ·  ".join(named))
        squares += [(run.start, run.start, len(run)) for _, run in matrix.runs]
    for x, y, size in squares:
        corner = (x - 0.47, y - 0.47)
        inner = size - 0.06
        axes.add_patch(
            Rectangle(
                corner,
                inner,
                inner,
                fill=False,
                edgecolor=_mark(matrix),
                linewidth=1.8 * style.line,
                clip_on=False,
            )
        )
    return ";  ".join(meanings)
