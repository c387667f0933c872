"""Matrices as pictures: similarity of depths, loops by layers, entropy by layer and head.

The colours are cividis, which grows evenly lighter for any colour vision and in print; a cell says
its number where there is room.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from impasto.figures.headline import write_headline
from impasto.figures.style import SIZE
from impasto.look import INK, VERMILION

COLOURS = "cividis"
MOST_NUMBERS = 14  # rows and columns up to which cells say their numbers
MOST_TICKS = 16
MARK = VERMILION  # which stands out from blue, grey and yellow alike


@dataclass(frozen=True)
class Matrix:
    """What one picture shows; `values` is (rows, columns), rows from the bottom up.

    Attributes:
        rows, columns: What the rows and columns are called.
        limits: The least and greatest value of the colours.
        marked: Cells (row, column) to be pointed out, and what that means.
        runs: Half-open runs of rows (and the same columns) to be framed, by name.
        number: How a cell says its number.
    """

    title: str
    told: Sequence[str]
    x_label: str
    y_label: str
    value_label: str
    values: np.ndarray
    rows: Sequence[object]
    columns: Sequence[object]
    limits: tuple[float, float]
    marked: "tuple[str, Sequence[tuple[int, int]]] | None" = None
    runs: Sequence[tuple[str, range]] = ()
    number: str = "{:.2f}"


def draw_matrix(matrix: Matrix) -> Figure:
    """Return the picture of a matrix; use it within the settings of `style`."""
    figure = Figure(figsize=_size(matrix), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    low, high = matrix.limits
    image = axes.imshow(
        matrix.values,
        cmap=COLOURS,
        vmin=low,
        vmax=high,
        origin="lower",
        aspect="equal" if len(matrix.rows) == len(matrix.columns) else "auto",
        interpolation="nearest",
    )
    bar = figure.colorbar(image, ax=axes, label=matrix.value_label, fraction=0.05, pad=0.02)
    bar.outline.set_visible(False)  # type: ignore[operator]
    write_headline(figure, axes, matrix.title, *matrix.told)
    axes.set_xlabel(matrix.x_label)
    axes.set_ylabel(matrix.y_label)
    for set_ticks, names in ((axes.set_xticks, matrix.columns), (axes.set_yticks, matrix.rows)):
        step = -(-len(names) // MOST_TICKS)
        places = range(0, len(names), step)
        set_ticks(places, [str(names[place]) for place in places])
    axes.tick_params(length=2)
    for spine in axes.spines.values():
        spine.set_visible(False)
    if max(matrix.values.shape) <= MOST_NUMBERS:
        _say_numbers(axes, matrix)
    if meaning := _frame(axes, matrix):
        mark = Rectangle((0, 0), 1, 1, fill=False, edgecolor=MARK, linewidth=1.8)
        figure.legend([mark], [meaning], loc="outside lower center", frameon=False)
    return figure


def spelled(run: range) -> str:
    """Return a run as it is read: `3–7`, or `3` alone."""
    return f"{run[0]}–{run[-1]}" if len(run) > 1 else f"{run[0]}"


def _size(matrix: Matrix) -> tuple[float, float]:
    rows, columns = matrix.values.shape
    if rows == columns:
        return 6.4, 5.6
    return SIZE[0], min(8.0, max(SIZE[1], 1.8 + 0.22 * rows))


def _say_numbers(axes: Axes, matrix: Matrix) -> None:
    low, high = matrix.limits
    for (row, column), value in np.ndenumerate(matrix.values):
        if np.isfinite(value):
            dark = (value - low) / ((high - low) or 1) < 0.55
            axes.text(
                column,
                row,
                matrix.number.format(value),
                ha="center",
                va="center",
                fontsize=6.2,
                color="white" if dark else INK,
            )


def _frame(axes: Axes, matrix: Matrix) -> str:
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
                corner, inner, inner, fill=False, edgecolor=MARK, linewidth=1.8, clip_on=False
            )
        )
    return ";  ".join(meanings)
