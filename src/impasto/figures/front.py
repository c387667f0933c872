"""Drawing plans by cost and quality, with the front and the names of those on it.

A plan of the front is named beside its point where there is room, else a letter stands there and
its name in a list below.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure, SubFigure

from impasto.analysis.costs import Priced
from impasto.analysis.curves import BASELINE
from impasto.analysis.words import spelled
from impasto.figures.axes import draw_intervals, draw_reference
from impasto.figures.chart import Reference, columns_of, panel_height
from impasto.figures.headline import Headline
from impasto.figures.key import key_height, place_key
from impasto.figures.naming import RING, SMALL, listed, names_of, write_name
from impasto.figures.scale import Scale, ratio_ticks
from impasto.figures.style import Style, look_of
from impasto.figures.text import wrapped
from impasto.look import FAINT, INK, VERMILION, Look

FAR_ABOVE = 2  # times the full model's cost, from which on costs are drawn by their ratios
LINE = 1.45  # the height of a line of the list, in its letters' heights
FRONT = "Pareto front"
MOST_DRAWN = 2_000  # points of a family that an SVG has as shapes; more are one image in it


@dataclass(frozen=True, slots=True)
class Cloud:
    """One model's plans, those of its front, and levels to compare with.

    Attributes:
        looks: How families are drawn that are none of `style.LOOKS`.
        faint: The family that is only a ground for the others: small, and without intervals.
        marked: What one plan is called that is pointed out, and its digest; it alone is named then.
    """

    title: str
    priced: Sequence[Priced]
    front: Sequence[Priced]
    references: Sequence[Reference]
    looks: Mapping[str, Look] = field(default_factory=dict)
    faint: str = ""
    marked: tuple[str, str] | None = None

    @property
    def named(self) -> list[Priced]:
        """The plans whose names stand in the picture: those of the front, or the one marked."""
        if self.marked is None:
            return [plan for plan in self.front if plan.family != BASELINE]
        loud = [plan for plan in self.priced if plan.family != self.faint]
        return [plan for plan in loud if plan.digest == self.marked[1]][:1]

    def is_loud(self, plan: Priced) -> bool:
        """Say whether a plan's interval is to be seen well: on the front, or before the ground."""
        return plan.family != self.faint if self.faint else plan in self.front

    def look(self, family: str) -> Look:
        """Return how a family is drawn."""
        return self.looks.get(family) or look_of(family)


@dataclass(frozen=True, slots=True)
class Front:
    """Quality against cost over one set of tasks, a cloud of plans for each model."""

    title: str
    told: Sequence[str]
    x_label: str
    y: Scale
    clouds: Sequence[Cloud]


@dataclass(frozen=True, slots=True)
class Fronts:
    """Fronts below each other, as one picture."""

    fronts: Sequence[Front]

    def figure(self, style: Style) -> Figure:
        """Return the picture; use it within the style's settings.

        It is drawn twice: first to see which names find room, then with a list of the others.
        """
        tried, every = _stack(self.fronts, [[] for _ in self.fronts], style)
        tried.draw_without_rendering()
        names = [
            names_of(front, axes, style) for front, axes in zip(self.fronts, every, strict=True)
        ]
        lists = [listed(front, own, style) for front, own in zip(self.fronts, names, strict=True)]
        figure, every = _stack(self.fronts, lists, style)
        for front, axes, own in zip(self.fronts, every, names, strict=True):
            for cloud, one, of_cloud in zip(front.clouds, axes, own, strict=False):
                for plan in cloud.named:
                    if plan.digest in of_cloud:
                        text, side = of_cloud[plan.digest]
                        write_name(one, plan, front.y, text, side, style)
        return figure


def _stack(
    fronts: Sequence[Front], lists: Sequence[Sequence[str]], style: Style
) -> tuple[Figure, list[list[Axes]]]:
    """Return a figure of fronts with their lists below each other, and the fronts' axes."""
    heads = [Headline.of(front.title, tuple(front.told), style) for front in fronts]
    heights = []
    for front, head, below in zip(fronts, heads, lists, strict=True):
        columns = columns_of(len(front.clouds), style)
        rows = -(-len(front.clouds) // columns)
        beside = style.is_wide and len(front.clouds) == 1
        key = key_height(_labels(front), style, beside=beside)
        heights.append(rows * 1.15 * panel_height(columns, style) + head.height + key)
        heights.append(style.ems(SMALL * LINE * (len(below) + 1)) if below else 0.0)
    figure = Figure(figsize=(style.width, sum(heights)), layout="constrained")
    FigureCanvasAgg(figure)
    there = [height for height in heights if height]
    parts: list[Any] = [figure]
    if len(there) > 1:
        below_each_other: Any = figure.subfigures(len(there), 1, height_ratios=there)
        parts = list(below_each_other)
    every = []
    for front, head, below in zip(fronts, heads, lists, strict=True):
        every.append(_draw(front, head, parts.pop(0), style))
        if below:
            part = parts.pop(0)
            part.text(
                0.012,
                1,
                "\n".join(below),
                va="top",
                fontsize=SMALL * style.font,
                linespacing=LINE,
            )
    return figure, every


def _labels(front: Front) -> list[str]:
    """Return what the key says."""
    labels = [cloud.look(plan.family).label for cloud in front.clouds for plan in cloud.priced]
    labels += [cloud.marked[0] for cloud in front.clouds if cloud.marked]
    labels += [level.label for cloud in front.clouds for level in cloud.references]
    labels += [FRONT for cloud in front.clouds if not cloud.faint]
    return list(dict.fromkeys(labels))


def _draw(front: Front, head: Headline, figure: Figure | SubFigure, style: Style) -> list[Axes]:
    columns = columns_of(len(front.clouds), style)
    rows = -(-len(front.clouds) // columns)
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    every: list[Axes] = list(grid.ravel())
    for axes in every[len(front.clouds) :]:
        axes.set_visible(False)
    front.y.lay_out(every[0], _values(front))
    wide = 72 * style.width / columns - 8 * style.font
    high = 72 * panel_height(columns, style)
    head.write(figure, every[0])
    for at, (axes, cloud) in enumerate(zip(every, front.clouds, strict=False)):
        if at % columns == 0:
            axes.set_ylabel("\n".join(wrapped(front.y.label, high - 5 * style.font, style.font)))
        if at + columns >= len(front.clouds):
            axes.set_xlabel("\n".join(wrapped(front.x_label, wide, style.font)))
            axes.tick_params(labelbottom=True)
        if cloud.title:
            axes.set_title("\n".join(wrapped(cloud.title, wide, style.font)))
        axes.grid(color=FAINT, linewidth=0.6 * style.line)
        axes.set_axisbelow(True)
        _draw_cloud(axes, cloud, front.y, style)
    _scale_costs(every[0], [plan for cloud in front.clouds for plan in cloud.priced])
    handles: dict[str, Any] = {}
    for axes in every[: len(front.clouds)]:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    place_key(figure, handles, style, beside=style.is_wide and len(front.clouds) == 1)
    return every


def _values(front: Front) -> Iterator[float]:
    """Yield all values that the axis holds; of others than the front without their intervals."""
    for cloud in front.clouds:
        yield from (level.y for level in cloud.references)
        for plan in cloud.priced:
            ends = (plan.low, plan.high) if cloud.is_loud(plan) else ()
            yield from (front.y.factor * value for value in (plan.average, *ends))


def _draw_cloud(axes: Axes, cloud: Cloud, scale: Scale, style: Style) -> None:
    families = list(dict.fromkeys(plan.family for plan in cloud.priced))
    families.sort(key=lambda family: family == BASELINE)  # it is seen in any crowd
    for family in families:
        here = [plan for plan in cloud.priced if plan.family == family]
        look, full, faint = cloud.look(family), family == BASELINE, family == cloud.faint
        loud = [plan for plan in here if cloud.is_loud(plan)]
        others = [plan for plan in here if not faint and not cloud.is_loud(plan)]
        for plans, opacity in ((others, 0.35), (loud, 1.0)):
            _draw_errors(axes, plans, scale, look.colour, opacity, style)
        axes.plot(
            [plan.cost for plan in here],
            [scale.factor * plan.average for plan in here],
            linestyle="none",
            marker=look.marker,
            color=look.colour,
            markersize=(7 if full else 1.8 if faint else 4.2) * style.line,
            fillstyle="none" if full else "full",
            alpha=1 if full else 0.4 if faint else 0.7,
            markeredgewidth=1.3 * style.line if full else 0,
            label=look.label,
            clip_on=False,
            rasterized=len(here) > MOST_DRAWN,
        )
    steps = np.array([(plan.cost, scale.factor * plan.average) for plan in cloud.front])
    axes.step(
        *steps.T,
        where="post",
        color=INK,
        linewidth=1.1 * style.line,
        label=None if cloud.faint else FRONT,  # there the points of the front say it
        zorder=1,
    )
    if cloud.marked:
        axes.plot(
            [plan.cost for plan in cloud.named],
            [scale.factor * plan.average for plan in cloud.named],
            linestyle="none",
            marker="o",
            color=VERMILION,
            markersize=RING * style.line,
            fillstyle="none",
            markeredgewidth=0.2 * RING * style.line,
            label=cloud.marked[0],
            clip_on=False,
        )
    costs = [plan.cost for plan in cloud.priced]
    for level in cloud.references:
        draw_reference(axes, level, (min(costs), max(costs)), style)


def _draw_errors(
    axes: Axes, plans: Sequence[Priced], scale: Scale, colour: str, opacity: float, style: Style
) -> None:
    """Draw the intervals of averages, and those of costs where they are measured."""
    if not plans:
        return
    cost, value, low, high, error = (
        np.array([getattr(plan, of) for plan in plans], float)
        for of in ("cost", "average", "low", "high", "cost_error")
    )
    value, low, high = (scale.factor * ends for ends in (value, low, high))
    draw_intervals(axes, cost, value, low, high, colour, style, opacity)
    known = np.isfinite(error) & (error > 0)
    if known.any():
        axes.errorbar(
            cost[known],
            value[known],
            xerr=error[known],
            fmt="none",
            ecolor=colour,
            elinewidth=0.6 * style.line,
            alpha=0.6 * opacity,
            zorder=2.8,
        )


def _scale_costs(axes: Axes, priced: Sequence[Priced]) -> None:
    """Draw costs by their ratios where some are far above the full model's, to give others room."""
    costs = [plan.cost for plan in priced]
    full = next((plan.cost for plan in priced if plan.family == BASELINE), max(costs))
    low, high = min(costs), max(costs)
    if low <= 0 or high < FAR_ABOVE * full:
        return
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(lambda cost, _: spelled(cost))
    axes.set_xticks(ratio_ticks(low, high))
    axes.minorticks_off()
