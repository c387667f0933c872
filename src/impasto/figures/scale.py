"""The vertical axis: shares in percent, other numbers as they are, and what has no range by ratios.

Perplexities and the like double where shares fall by halves: their axis is logarithmic. Where less
of a metric is better the axis is turned over, so that the best is on top in every figure.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import floor, isfinite, log10
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from impasto.analysis import metric_name
from impasto.analysis.words import short, spelled
from impasto.tasks.metrics import metric_of

FAR_BELOW = 40.0  # of 100 %: an axis up to there would leave lines flat
ENOUGH_TICKS = 3
STEPS = ((1, 2, 5), (1, 3), (1,))
MOST_TICKS = 9
CLOSE = 4  # times as high as the lowest: beside 0 a logarithm shows no more of that


@dataclass(frozen=True, slots=True)
class Scale:
    """How values are drawn and said.

    Attributes:
        label: What the axis says.
        form: In percent from 0 to 100, as they are, or by their ratios.
        number: How a level says its value, after `factor`.
        factor: What values are multiplied by.
        turned: Whether less is better, and so on top.
    """

    label: str
    form: Literal["percent", "plain", "ratio"] = "plain"
    number: str = "{:.2f}"
    factor: float = 1.0
    turned: bool = False

    def say(self, value: float) -> str:
        """Return a value as a level says it."""
        if self.form == "ratio" and self.number:
            return short(value, 3)
        return self.number.format(self.factor * value)

    def lay_out(self, axes: Axes, values: Iterable[float]) -> None:
        """Set the axis so that it holds the values, which are scaled already."""
        there = [value for value in values if isfinite(value)]
        if self.form == "ratio":
            low, high = _by_ratios(axes, there)
        else:
            low, high = _percent(there) if self.form == "percent" else _limits(there)
        axes.set_ylim(*((high, low) if self.turned else (low, high)))


def scale_of(metric: str, values: Iterable[float] = ()) -> Scale:
    """Return how a metric is drawn.

    `values` are some of its values: where they exceed 1 they are no shares, whatever the metric.
    """
    kind, name = metric_of(metric), metric_name(metric)
    if not kind.is_bounded:
        unit = f"{kind.unit}; " if kind.unit and kind.unit not in name else ""
        label = f"{name} ({unit}log scale, {kind.better} is better)"
        return Scale(label, "ratio", "{:.3g}", turned=kind.lower_is_better)
    is_share = isfinite(kind.low) and kind.high <= 1 and not any(value > 1 for value in values)
    better = "lower is better" if kind.lower_is_better else ""
    if not is_share:
        return Scale(f"{name} ({better})" if better else name, turned=kind.lower_is_better)
    label = f"{name} ({', '.join(filter(None, ['%', better]))})"
    return Scale(label, "percent", "{:.1f} %", 100, kind.lower_is_better)


SHARES = Scale("share of answers (%)", "percent", "{:.1f} %", 100)


def _percent(there: Sequence[float]) -> tuple[float, float]:
    """Return limits from 0 to 100, or to what there is where all stays far below; beyond, if so."""
    low, high = min([0.0, *there]), max(there, default=100.0)
    high = max(high, 1.0) if high < FAR_BELOW else max(high, 100.0)
    return low - 0.03 * (high - low), high + 0.09 * (high - low)


def _limits(there: Sequence[float]) -> tuple[float, float]:
    """Return limits that hold all values, with a little room."""
    low, high = (min(there), max(there)) if there else (0.0, 1.0)
    room = 0.08 * (high - low or 1)
    return low - room, high + room


def _by_ratios(axes: Axes, there: Sequence[float]) -> tuple[float, float]:
    """Set a logarithmic axis and return its limits; one with zeros is linear close to them."""
    above = [value for value in there if value > 0] or [1.0]
    low, high = min(above), max(above)
    if len(above) < len(there) and high < CLOSE * low:
        return _limits(there)
    room = (high / low) ** 0.08 if high > low else 1.1
    first, last = low / room, high * room
    ticks = ratio_ticks(first, last)
    if len(above) < len(there):
        axes.set_yscale("symlog", linthresh=low, linscale=0.4)
        first, ticks = -0.15 * low, [0.0, *(tick for tick in ticks if tick >= low)]
    else:
        axes.set_yscale("log")
    axes.yaxis.set_major_locator(FixedLocator(ticks))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: spelled(value)))
    return first, last


def ratio_ticks(low: float, high: float) -> list[float]:
    """Return round numbers from low to high, above 0, that stand well on a logarithmic axis."""
    powers = range(floor(log10(low)) - 1, floor(log10(high)) + 2)
    ticks: list[float] = []
    for steps in STEPS:
        ticks = [step * 10.0**power for power in powers for step in steps]
        ticks = [tick for tick in ticks if low <= tick <= high]
        if len(ticks) <= MOST_TICKS:
            break
    ticks = ticks[:: -(-len(ticks) // MOST_TICKS)] if ticks else ticks
    if len(ticks) < ENOUGH_TICKS:
        close = MaxNLocator(4).tick_values(low, high)
        ticks = [float(tick) for tick in close if low <= tick <= high and tick > 0]
    return [float(np.format_float_scientific(tick, precision=12)) for tick in ticks]
