"""Drawing into one pair of axes: ticks and grid, levels, lines with bands and error bars."""

from math import ceil
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes

from impasto.figures.placement import Named
from impasto.figures.style import BAND_OPACITY, Style, darker
from impasto.figures.text import cut, wrapped
from impasto.look import FAINT, GREY, INK

if TYPE_CHECKING:
    from impasto.figures.chart import Line, Places, Reference

TICK_STEPS = (1, 2, 4, 5, 8, 10, 16, 20)
SHARE_TICKS = (0.0, 0.25, 0.5, 0.75, 1.0)
CAP = 1.5  # half the width of an error bar's cap, in points


def frame(axes: Axes, x: "Places", wide: float, style: Style, *, is_bottom: bool) -> None:
    """Set places, ticks and grid; axes are so many points wide."""
    first, last = x.ends
    space = 0.02 * ((last - first) or 25)
    limits = (first - space, last + space)
    axes.set_xlim(*(reversed(limits) if x.turned else limits))
    axes.grid(axis="y", color=FAINT, linewidth=0.6 * style.line)
    axes.set_axisbelow(True)
    if is_bottom:
        axes.set_xlabel("\n".join(wrapped(x.label, wide, style.font)))
        axes.tick_params(labelbottom=True)
    if x.whole is None:
        axes.set_xticks(SHARE_TICKS, [f"{100 * share:.0f} %" for share in SHARE_TICKS])
        return
    step = _step(last - first, wide / (2.6 * style.font))
    ticks = range(int(first), int(last) + 1, step)
    axes.set_xticks(ticks)
    if x.above:
        label, says = x.above
        top = axes.secondary_xaxis("top")
        top.set_xticks(ticks, [str(says[tick - int(first)]) for tick in ticks])
        top.set_xlabel("\n".join(wrapped(label, wide, style.font)), color=GREY)
        top.tick_params(colors=GREY)
        top.spines["top"].set_visible(False)


def _step(extent: float, most: float) -> int:
    return next((s for s in TICK_STEPS if extent / s <= most), max(1, ceil(extent / most)))


def draw_reference(
    axes: Axes, reference: "Reference", ends: tuple[float, float], style: Style
) -> Named:
    """Draw a level across the axes and return it as a line to be named between these places."""
    chance = reference.is_chance
    colour, dash = (GREY, (0, (1, 2))) if chance else (INK, reference.dash)
    axes.axhline(
        reference.y,
        color=colour,
        linestyle=dash,
        linewidth=style.line,
        label=reference.label,
        zorder=1.5,
    )
    along = np.linspace(*ends, 13).tolist()
    return Named(reference.label, colour, along, [reference.y] * len(along), clear=0.8)


def draw_line(axes: Axes, line: "Line", style: Style) -> Named:
    """Draw one line, with its band and the interval of every point where it has one."""
    x, y = np.asarray(line.x, float), np.asarray(line.y, float)
    look, label = line.look, cut(line.look.label)
    if len(line.low):
        axes.fill_between(
            x, line.low, line.high, color=look.colour, alpha=BAND_OPACITY, linewidth=0
        )
        draw_intervals(axes, x, y, line.low, line.high, look.colour, style)
    axes.plot(
        x,
        y,
        color=look.colour,
        linestyle=look.dash,
        marker=look.marker,
        markersize=(2.4 if line.quiet else 3.4) * style.line,
        linewidth=(0.8 if line.quiet else 1.6) * style.line,
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


def draw_intervals(
    axes: Axes,
    x: Any,
    y: Any,
    low: Any,
    high: Any,
    colour: str,
    style: Style,
    opacity: float = 1.0,
) -> None:
    """Draw the interval of every point, with caps; nothing where it is not known."""
    x, y, low, high = (np.asarray(values, float) for values in (x, y, low, high))
    known = np.isfinite(low) & np.isfinite(high) & (high > low)
    if known.any():
        x, y, low, high = x[known], y[known], low[known], high[known]
        axes.errorbar(
            x,
            y,
            np.maximum(0, [y - low, high - y]),
            fmt="none",
            ecolor=colour,
            elinewidth=0.6 * style.line,
            capsize=CAP * style.line,
            capthick=0.6 * style.line,
            alpha=0.6 * opacity,
            zorder=2.8,
        )
