"""Pictures that no paper has: quality against cost, and what a model is like inside."""

from collections.abc import Iterator, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from impasto.analysis import metric_name
from impasto.analysis.costs import Priced, pareto_front, priced_plans
from impasto.analysis.curves import BASELINE
from impasto.analysis.inside.saved import ENTROPY, PROBES
from impasto.analysis.scores import main_rows
from impasto.analysis.series import TaskSet
from impasto.figures.chart import (
    Chart,
    Line,
    cut,
    draw_charts,
    draw_reference,
    percent_limits,
    references,
)
from impasto.figures.found import Found, MissingError
from impasto.figures.headline import write_headline
from impasto.figures.matrix import Matrix, draw_matrix
from impasto.figures.picture import Picture
from impasto.figures.style import SIZE, look_of
from impasto.look import FAINT, GREEN, INK, Look
from impasto.strategies import STRATEGIES

TEXTS = "impasto similarity --entropy --model {model} --texts FILE --out {out}"
LABELLED = "impasto probe --model {model} --texts FILE.jsonl --label COLUMN --out {out}"
MOST_NAMES = 5  # plans of the front that are named
FAR_ABOVE = 2  # times the full model's cost, from which on costs are drawn by their ratios


def pareto(found: Found) -> Iterator[Picture]:
    """Draw every plan's quality against its cost, and the front that no plan is better than."""
    priced = priced_plans(found.frame, found.costs) if found.tasks else []
    if len(priced) < 3:
        raise MissingError(["capitals"], [STRATEGIES["skip_one"].entry])
    yield Picture("pareto", _draw_pareto(found, priced))


def entropy(found: Found) -> Iterator[Picture]:
    """Draw how widely each head looks."""
    if ENTROPY not in found.inside:
        raise MissingError(command=TEXTS)
    inside = found.inside[ENTROPY]
    values = inside.entropy
    assert values is not None
    layers, heads = values.mean.shape
    matrix = Matrix(
        title="Entropy of attention",
        told=[
            found.model,
            f"{values.texts:,} texts, {values.tokens:,} tokens",
            f"spread evenly it would be {values.even:.2f}",
        ],
        x_label="head",
        y_label="layer",
        value_label="mean entropy (nats)",
        values=values.mean,
        rows=range(layers),
        columns=range(heads),
        limits=(0.0, max(values.even, float(values.mean.max()))),
    )
    yield Picture("entropy", draw_matrix(matrix))


def probes(found: Found) -> Iterator[Picture]:
    """Draw what linear probes read off at each depth."""
    if PROBES not in found.inside:
        raise MissingError(command=LABELLED)
    inside = found.inside[PROBES]
    probed = inside.probed
    assert probed is not None
    points = dict(enumerate(zip(probed.accuracy, probed.low, probed.high, strict=True)))
    line = Line.of(Look("Linear probe", GREEN), points, 100)
    chart = Chart(
        title=f"What can be read off: {probed.labels} labels of {inside.source}",
        told=[
            f"{found.model}, {inside.layers} layers",
            f"{probed.texts:,} texts, the last token's state, cross-validated",
            "band: 95 % interval",
        ],
        x_label="depth",
        y_label="accuracy of the probe (%)",
        lines=[line],
        places=range(inside.layers + 1),
        references=references([("Chance", probed.chance)]),
        limits=percent_limits([line]),
    )
    yield Picture("probes", draw_charts([chart]))


def _draw_pareto(found: Found, priced: list[Priced]) -> Figure:
    figure = Figure(figsize=(SIZE[0], 4.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    families = list(dict.fromkeys(plan.family for plan in priced))
    families.sort(key=lambda family: family == BASELINE)  # the unchanged model is seen in any crowd
    for family in families:
        here = [plan for plan in priced if plan.family == family]
        look = look_of(family)
        axes.plot(
            [plan.cost for plan in here],
            [100 * plan.average for plan in here],
            linestyle="none",
            marker=look.marker,
            color=look.colour,
            markersize=8 if family == BASELINE else 5,
            fillstyle="none" if family == BASELINE else "full",
            alpha=1 if family == BASELINE else 0.7,
            markeredgewidth=1.4 if family == BASELINE else 0,
            label=look.label,
            clip_on=False,
        )
    front = pareto_front(priced)
    steps = np.array([(plan.cost, 100 * plan.average) for plan in front])
    axes.step(*steps.T, where="post", color=INK, linewidth=1.2, label="Pareto front", zorder=1)
    rows = {row.task: row for row in main_rows(found.frame, {})}
    average = TaskSet("", found.frame, "average").reference
    for level in references([("Full model", average("baseline")), ("Chance", average("chance"))]):
        draw_reference(axes, level, [plan.cost for plan in priced])
    [first, *others] = rows.values()
    write_headline(
        figure,
        axes,
        "Quality against cost",
        f"{found.model}, {first.layers} layers",
        f"{len(priced):,} plans",
        f"average of {len(rows)} tasks" if others else first.title,
        "cost measured" if found.costs else "cost predicted, none was measured",
    )
    axes.set_xlabel(priced[0].unit)
    axes.set_ylabel("average score (%)" if others else f"{metric_name(first.metric)} (%)")
    axes.grid(color=FAINT, linewidth=0.6)
    axes.set_axisbelow(True)
    _scale_costs(axes, priced)
    figure.legend(loc="outside right center", frameon=False)
    _name_front(axes, front)
    return figure


def _scale_costs(axes: Axes, priced: Sequence[Priced]) -> None:
    """Draw costs by their ratios where some are far above the full model's, to give others room."""
    costs = [plan.cost for plan in priced]
    full = next((plan.cost for plan in priced if plan.family == BASELINE), max(costs))
    low, high = min(costs), max(costs)
    if low <= 0 or high < FAR_ABOVE * full:
        return
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(lambda cost, _: f"{cost:g}")
    ticks = [step * 10.0**power for power in range(-6, 7) for step in (1, 2, 5)]
    axes.set_xticks([tick for tick in ticks if low <= tick <= high])
    axes.minorticks_off()


def _name_front(axes: Axes, front: list[Priced]) -> None:
    """Write some plans of the front beside their points, best first, where names do not touch."""
    figure = axes.get_figure(root=True)
    assert figure is not None
    taken: list[Bbox] = []
    level = axes.transData.transform((0, 100 * max(plan.average for plan in front)))[1]
    for plan in sorted(front, key=lambda plan: -plan.average)[: 3 * MOST_NAMES]:
        text = axes.annotate(
            cut(plan.plan),
            (plan.cost, 100 * plan.average),
            xytext=(-4, 2),
            textcoords="offset points",
            ha="right",
            va="bottom",
            fontsize=7,
            color=INK,
        )
        figure.draw_without_rendering()
        box = text.get_window_extent().padded(2)
        inside = axes.get_window_extent()
        free = box.x0 >= inside.x0 and box.y1 <= min(inside.y1, level)
        if len(taken) == MOST_NAMES or not free or any(box.overlaps(other) for other in taken):
            text.remove()  # and another may stand there
        else:
            taken.append(box)
