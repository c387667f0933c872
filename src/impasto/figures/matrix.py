"""Matrices as pictures: similarity of depths, loops by layers, entropy by layer and head.

The colours are cividis, which grows evenly lighter for any colour vision and in print; the best
is light. A cell says its number where there is room.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from impasto.figures.headline import Headline
from impasto.figures.key import place_key
from impasto.figures.scale import Scale, ratio_ticks
from impasto.figures.scale import spelled as spelled_number
from impasto.figures.style import Style
from impasto.figures.text import width_of, wrapped
from impasto.look import INK, VERMILION

COLOURS = "cividis"
NUMBERS = 0.8  # the size of a cell's number, in that of other letters
MARK = VERMILION  # which stands out from blue, grey and yellow alike
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
            cmap=COLOURS + ("_r" if self.scale.turned else ""),
            norm=norm,
            origin="lower",
            aspect="equal" if len(self.rows) == len(self.columns) else "auto",
            interpolation="nearest",
        )
        label = "\n".join(wrapped(self.scale.label, 72 * 0.7 * height, style.font))
        bar = figure.colorbar(image, ax=axes, label=label, fraction=0.05, pad=0.02)
        bar.outline.set_visible(False)  # type: ignore[operator]
        if isinstance(norm, LogNorm):
            bar.ax.yaxis.set_major_locator(FixedLocator(ratio_ticks(*self.limits)))
            bar.ax.yaxis.set_minor_locator(NullLocator())
            bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda v, _: spelled_number(v)))
        if self.scale.turned:
            bar.ax.invert_yaxis()
        head.write(figure, axes)
        _frame(axes, self, style, width, height)
        if self.values.size and _has_room(self, style, width, height):
            _say_numbers(axes, self, style)
        if meaning := _point_out(axes, self, style):
            mark = Rectangle((0, 0), 1, 1, fill=False, edgecolor=MARK, linewidth=1.8 * style.line)
            place_key(figure, {meaning: mark}, style, beside=False)
        return figure


def _norm(matrix: Matrix) -> Normalize:
    low, high = matrix.limits
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
        places = range(0, len(names), step)
        set_ticks(places, [str(names[place]) for place in places])
    axes.tick_params(length=2)
    for spine in axes.spines.values():
        spine.set_visible(False)


def spelled(run: range) -> str:
    """Return a run as it is read: `3–7`, or `3` alone."""
    return f"{run[0]}–{run[-1]}" if len(run) > 1 else f"{run[0]}"


def _size(matrix: Matrix, style: Style) -> tuple[float, float]:
    """Return the width of the picture and its height without a headline, in inches."""
    rows, columns = matrix.values.shape
    if rows == columns:
        return style.width, min(style.width - style.ems(BAR - 6), style.ems(52))
    return style.width, min(style.ems(70), max(0.5 * style.width, style.ems(11 + 2.2 * rows)))


def _has_room(matrix: Matrix, style: Style, width: float, height: float) -> bool:
    """Say whether every cell can hold its number."""
    rows, columns = matrix.values.shape
    size = NUMBERS * style.font
    widest = max(width_of(_said(matrix, value), size) for value in matrix.values.flat)
    wide, high = 72 * width - BAR * style.font, 72 * height - 9 * style.font
    if rows == columns:
        wide = min(wide, high)
    return widest + 2 <= 0.92 * wide / columns and 1.3 * size <= high / rows


def _said(matrix: Matrix, value: float) -> str:
    return matrix.scale.say(value) if np.isfinite(value) else ""


def _say_numbers(axes: Axes, matrix: Matrix, style: Style) -> None:
    norm = _norm(matrix)
    for (row, column), value in np.ndenumerate(matrix.values):
        if np.isfinite(value):
            share = float(norm(value))
            dark = (1 - share if matrix.scale.turned else share) < 0.55
            axes.text(
                column,
                row,
                _said(matrix, value),
                ha="center",
                va="center",
                fontsize=NUMBERS * style.font,
                color="white" if dark else INK,
            )


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
                edgecolor=MARK,
                linewidth=1.8 * style.line,
                clip_on=False,
            )
        )
    return ";  ".join(meanings)
