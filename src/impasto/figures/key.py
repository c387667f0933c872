"""The key of a picture: beside its axes where that is wide enough, below them where it is not."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.legend import Legend
from matplotlib.lines import Line2D

from impasto.figures.style import Style
from impasto.figures.text import cut, width_of, wrapped
from impasto.look import INK, SOLID

if TYPE_CHECKING:
    from impasto.figures.chart import Line, Reference

# In letters' heights:
HANDLE = 2.8  # the length of a line in the key
BETWEEN = (0.6, 1.0)  # from it to its text, and from there to the next column
BELOW = 1.4  # from one line of a key below the axes to the next


def draw_key(
    figure: Figure | SubFigure,
    panels: Sequence[Axes],
    lines: "Sequence[Line]",
    levels: "Sequence[Reference]",
    style: Style,
) -> Legend:
    """Draw a key of lines and levels; where lines are of several models, of their dashes too."""
    drawn: dict[str, Any] = {}
    for axes in panels:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            drawn.setdefault(label, handle)
    wanted = {level.label for level in levels}
    if any(line.model for line in lines):
        handles = {line.look.label: _solid(line, style) for line in lines}
        handles |= {
            line.model: Line2D([], [], color=INK, linestyle=line.look.dash, linewidth=style.line)
            for line in lines
        }
    else:
        named = {cut(line.look.label) for line in lines}
        handles = {label: handle for label, handle in drawn.items() if label in named}
        handles = {cut(line.look.label): handles[cut(line.look.label)] for line in lines}
    handles |= {label: handle for label, handle in drawn.items() if label in wanted}
    return place_key(figure, handles, style, beside=style.is_wide and len(panels) == 1)


def place_key(
    figure: Figure | SubFigure, handles: dict[str, Any], style: Style, *, beside: bool
) -> Legend:
    """Draw a key of handles by their labels, beside the axes or below them."""
    labels, columns = _laid_out(list(handles), style, beside)
    return figure.legend(
        list(handles.values()),
        labels,
        loc="outside right center" if beside else "outside lower center",
        ncols=columns,
        frameon=False,
        handlelength=HANDLE,
        handletextpad=BETWEEN[0],
        labelspacing=0.7 if beside else BELOW - 1,
        columnspacing=BETWEEN[1],
        borderpad=0.2,
    )


def key_height(labels: Sequence[str], style: Style, *, beside: bool) -> float:
    """Return the room that a key takes below the axes, in inches."""
    if beside or not labels:
        return 0.0
    broken, columns = _laid_out(labels, style, beside)
    lines = max(label.count("\n") + 1 for label in broken)
    return style.ems(BELOW * lines * -(-len(broken) // columns) + 1)


def _laid_out(labels: Sequence[str], style: Style, beside: bool) -> tuple[list[str], int]:
    """Return the labels, broken where they are long, and in how many columns they fit."""
    around = (HANDLE + sum(BETWEEN)) * style.font
    whole = 72 * style.width * (0.36 if beside else 0.98)
    broken = [wrapped(label, whole - around, style.font) for label in labels]
    widest = max(width_of(line, style.font) for lines in broken for line in lines)
    columns = 1 if beside else max(1, min(len(labels), int(whole / (widest + around))))
    return ["\n".join(lines) for lines in broken], columns


def _solid(line: "Line", style: Style) -> Line2D:
    """Return a strategy's handle without a model's dash."""
    return Line2D(
        [],
        [],
        color=line.look.colour,
        linestyle=SOLID,
        marker=line.look.marker,
        markersize=3.4 * style.line,
        linewidth=1.6 * style.line,
    )
