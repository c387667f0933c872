"""The picture of a depth sweep: shares against the depth k from which the model is manipulated.

Paper A's Figures 2 and 3 (accuracy under freeze, noise and skipped attention) and 5 (which answer
an injection brings out) have one form: lines over depth, with the baseline and chance to compare.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isnan

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.legend import Legend

from impasto.analysis import DepthCurve
from impasto.figures.placement import Named, name_lines
from impasto.figures.style import BAND_OPACITY, FAINT, GREY, INK, SIZE, Look, darker

TICK_STEPS = (1, 2, 4, 5, 8, 10, 16, 20)
MOST_TICKS = 16


@dataclass(frozen=True, slots=True)
class Sweep:
    """What one figure shows: curves of one task, each with its look, and the words around."""

    title: str
    curves: Sequence[tuple[DepthCurve, Look]]
    baseline: float
    depth_axis: str
    share_axis: str


def draw_sweep(sweep: Sweep) -> Figure:
    """Return the figure of a sweep; use it within the settings of `figures.style`."""
    figure = Figure(figsize=SIZE, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    first = sweep.curves[0][0]
    _frame(axes, sweep, first)
    references = _references(axes, sweep, first)
    curves = [_curve(axes, curve, look) for curve, look in sweep.curves]
    if not name_lines(axes, [*references, *curves]):
        key = _key(figure, axes, curves)
        if not name_lines(axes, references, besides=curves):
            key.remove()
            _key(figure, axes, [*curves, *references])
    return figure


def _frame(axes: Axes, sweep: Sweep, first: DepthCurve) -> None:
    """Set title, axes, ticks and grid."""
    layers = first.layers
    axes.set_title(sweep.title, loc="left", fontweight="bold", pad=20)
    axes.annotate(
        _subtitle(sweep, first),
        (0, 1),
        xytext=(0, 7),
        xycoords="axes fraction",
        textcoords="offset points",
        color=GREY,
    )
    step = next((s for s in TICK_STEPS if layers / s <= MOST_TICKS), layers)
    axes.set_xticks(range(0, layers + 1, step))
    axes.set_xlim(-0.02 * layers, 1.02 * layers)
    axes.set_ylim(-3, 109)
    axes.set_yticks(range(0, 101, 20))
    axes.set_xlabel(sweep.depth_axis)
    axes.set_ylabel(sweep.share_axis)
    axes.grid(axis="y", color=FAINT, linewidth=0.6)
    axes.set_axisbelow(True)


def _subtitle(sweep: Sweep, first: DepthCurve) -> str:
    """Say what was run: the model, how many questions, what the bands are."""
    name = first.model.rstrip("/").rsplit("/", 1)[-1]  # of a folder or a hub id
    parts = [f"{name}, {first.layers} layers", f"{first.n:,} questions"]
    seeds = max(curve.seeds for curve, _ in sweep.curves)
    if seeds > 1:
        parts.append(f"bands: range of {seeds} seeds")
    return "  ·  ".join(parts)


def _references(axes: Axes, sweep: Sweep, first: DepthCurve) -> list[Named]:
    """Draw the baseline, and chance where guessing has a meaning, as horizontal lines."""
    named = []
    for name, share, colour, dash in (
        ("Baseline", sweep.baseline, INK, (0, (4, 3))),
        ("Chance", first.chance, GREY, (0, (1, 2))),
    ):
        if isnan(share):
            continue
        label = f"{name} {100 * share:.1f} %"
        y = 100 * share
        axes.axhline(y, color=colour, linestyle=dash, linewidth=1, label=label, zorder=1.5)
        depths = range(first.layers + 1)
        named.append(Named(label, colour, depths, [y] * len(depths), clear=0.8))
    return named


def _curve(axes: Axes, curve: DepthCurve, look: Look) -> Named:
    """Draw one line, with its band where there are several seeds."""
    depths = sorted(curve.mean)
    mean, low, high = (
        [100 * values[depth] for depth in depths] for values in (curve.mean, curve.low, curve.high)
    )
    if curve.seeds > 1:
        axes.fill_between(depths, low, high, color=look.colour, alpha=BAND_OPACITY, linewidth=0)
    axes.plot(
        depths,
        mean,
        color=look.colour,
        linestyle=look.dash,
        marker=look.marker,
        markersize=3.6,
        linewidth=1.7,
        label=look.label,
        zorder=3,
        clip_on=False,
    )
    edges = (low, high) if curve.seeds > 1 else ()
    return Named(look.label, darker(look.colour), depths, mean, edges)


def _key(figure: Figure, axes: Axes, lines: Sequence[Named]) -> Legend:
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
