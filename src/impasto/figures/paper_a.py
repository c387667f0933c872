"""Figures of paper A (*Attend First, Consolidate Later*): what a model answers, by depth.

2 Capitals, 3 math exercises, 4 SQuAD, 6 CNN/DailyMail under freeze, noise and skipped attention;
5 which answer an injection brings out. Any other task's sweep over depth looks the same. Several
models are drawn on the tasks that they have in common.
"""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from impasto.analysis import DepthCurve, depth_curves, main_metric, metric_name
from impasto.analysis.words import variant
from impasto.figures.chart import Chart, Charts, Line, Places, references
from impasto.figures.found import Found, MissingError
from impasto.figures.models import asked, common, is_relative, named, panels
from impasto.figures.picture import Picture, file_name
from impasto.figures.scale import SHARES, Scale, scale_of
from impasto.figures.style import lighter, look_of
from impasto.look import Look
from impasto.strategies import STRATEGIES
from impasto.tasks.metrics import metric_of

INJECTION = ("answers_injected", "answers_original")
SHOWN = {  # by main metric
    "exact_match": ("exact_match", "f1"),
    "rougeL": ("rouge1", "rougeL"),
    "perplexity": ("perplexity", "kl", "agreement"),
}
MANIPULATIONS = {s.name: s.entry for s in STRATEGIES.values() if s.figure == "A2"}
MATH = re.compile(r"arithmetic\b.*")
OWN = re.compile(r"capitals\b.*|squad\b.*|cnn_dailymail\b.*|arithmetic\b.*")
BY_DEPTH, BY_SHARE = "depth k", "depth k as a share of the layers"


@dataclass(frozen=True, slots=True)
class Sweep:
    """Families that are drawn together by the depth from which they manipulate a model.

    Attributes:
        entries: What a study file says to have each; one of them at least is drawn.
        how: What they do, for titles.
        at: How the axis of depths begins.
        beside: Families that are drawn with them where a study has them.
    """

    entries: Mapping[str, str]
    how: str = "manipulated from depth k on"
    at: str = "manipulated from "
    beside: Collection[str] = ()

    @property
    def drawn(self) -> set[str]:
        """All families that are drawn."""
        return {*self.entries, *self.beside}

    def is_in(self, founds: Sequence[Found]) -> bool:
        """Whether some study has one of the families that the figure is about."""
        return any(found.strategies & self.entries.keys() for found in founds)


PAPER = Sweep(MANIPULATIONS)
SHADES = (0.0, 0.55)  # how much white is in the lines of a family's first and last variant
MARKERS = "s^vDoP"


def capitals(founds: Sequence[Found]) -> Iterator[Picture]:
    """Draw Figure 2."""
    return manipulated(founds, re.compile(r"capitals\b.*"), "A2", ["capitals"])


def exercises(founds: Sequence[Found]) -> Iterator[Picture]:
    """Draw Figure 3, a picture for each number of terms."""
    wanted = [f"{{name: arithmetic, terms: {terms}}}" for terms in (2, 3)]
    return manipulated(founds, MATH, "A3", wanted)


def squad(founds: Sequence[Found]) -> Iterator[Picture]:
    """Draw Figure 4: exact match and F1."""
    return manipulated(
        founds, re.compile(r"squad\b.*"), "A4", ["{name: squad, limit: 1000, shots: 1}"]
    )


def summaries(founds: Sequence[Found]) -> Iterator[Picture]:
    """Draw Figure 6: ROUGE-1 and ROUGE-L."""
    wanted = ["{name: cnn_dailymail, limit: 100}"]
    return manipulated(founds, re.compile(r"cnn_dailymail\b.*"), "A6", wanted)


def others(founds: Sequence[Found]) -> Iterator[Picture]:
    """Draw the sweep over depths of every task that the paper does not have."""
    names = [task for found in founds for task in found.tasks if not OWN.fullmatch(task)]
    if not names:
        plans = [] if PAPER.is_in(founds) else list(MANIPULATIONS.values())
        raise MissingError(tasks=["arc_easy"], plans=plans)
    return manipulated(founds, re.compile("|".join(map(re.escape, names))), "depth", [])


def injection(founds: Sequence[Found]) -> Iterator[Picture]:
    """Draw Figure 5: which answer comes out when another subject's states are injected."""
    having = {
        found.model: [c for c in depth_curves(found.frame) if c.metric in INJECTION]
        for found in founds
        if found.tasks
    }
    if not any(having.values()):
        every = {task for found in founds for task in found.tasks}
        tasks = [] if {"capitals", "arithmetic-2"} & every else ["capitals"]
        raise MissingError(tasks, plans=[STRATEGIES["inject"].entry])
    tasks, notes = common(_tasks(having))
    for task in tasks:
        here = [
            (found, [c for m in INJECTION for c in having[found.model] if _is(c, task, m)])
            for found in founds
            if any(curve.task == task for curve in having.get(found.model, ()))
        ]
        chart = _chart(here, SHARES, "another subject injected at depth k", "injected at ")
        yield Picture(f"A5-{file_name(task)}", Charts([chart]), notes)


def _is(curve: DepthCurve, task: str, metric: str) -> bool:
    return (curve.task, curve.metric) == (task, metric)


def _tasks(having: Mapping[str, Sequence[DepthCurve]]) -> dict[str, list[str]]:
    """Return every model's tasks, in their order."""
    return {model: list(dict.fromkeys(c.task for c in curves)) for model, curves in having.items()}


def manipulated(
    founds: Sequence[Found],
    pattern: re.Pattern[str],
    name: str,
    wanted: Sequence[str],
    sweep: Sweep = PAPER,
) -> Iterator[Picture]:
    """Draw, for each matching task, its metrics under each manipulation."""
    founds = [found for found in founds if found.tasks]
    entries = list(sweep.entries.values())
    if not any(pattern.fullmatch(task) for found in founds for task in found.tasks):
        raise MissingError(wanted, [] if sweep.is_in(founds) else entries)
    having = {
        found.model: [c for c in depth_curves(found.frame) if c.strategy in sweep.drawn]
        for found in founds
        if sweep.is_in([found])
    }
    matching = {m: [c for c in cs if pattern.fullmatch(c.task)] for m, cs in having.items()}
    if not any(matching.values()):
        raise MissingError(plans=entries)
    if len(founds) > 1 and sum(map(bool, matching.values())) < 2:
        common({found.model: found.tasks for found in founds})  # which says what each has, if so
        [model] = [model for model, curves in matching.items() if curves]
        raise MissingError(reason=f"only {model} has a task and plans of this figure")
    tasks, notes = common(_tasks(matching))
    for task in tasks:
        of_task = [
            (found, [c for c in matching.get(found.model, ()) if c.task == task])
            for found in founds
        ]
        charts = [
            _chart(
                [(f, [c for c in cs if c.metric == metric]) for f, cs in of_task],
                None,
                sweep.how,
                sweep.at,
            )
            for metric in _metrics(of_task)
        ]
        yield Picture(f"{name}-{file_name(task)}", Charts(charts), notes)


def _metrics(of_task: Sequence[tuple[Found, Sequence[DepthCurve]]]) -> list[str]:
    """Return the metrics of a task that are shown: the main one, or those beside it."""
    there = list(dict.fromkeys(curve.metric for _, curves in of_task for curve in curves))
    main = main_metric(there) or there[0]
    return [metric for metric in SHOWN.get(main, ()) if metric in there] or [main]


def _chart(
    of_task: Sequence[tuple[Found, Sequence[DepthCurve]]], scale: Scale | None, how: str, at: str
) -> Chart:
    """Return the chart of a task's curves of one metric; of injection where a scale is given."""
    of_task = [(found, curves) for found, curves in of_task if curves]
    founds = [found for found, _ in of_task]
    every = [curve for _, curves in of_task for curve in curves]
    first, injects = every[0], scale is not None
    if scale is None:
        scale = scale_of(first.metric, (v for c in every for v in (c.baseline, *c.mean.values())))
    relative = is_relative(founds)
    lines = [
        (
            found,
            _lines(curves, injects, scale, curves[0].layers if relative else 1),
            # of injection that of the original answer; the injected one comes out by chance only
            references(
                [("Baseline", max(c.baseline for c in curves)), ("Chance", curves[0].chance)], scale
            ),
        )
        for found, curves in of_task
    ]
    items = metric_of(first.metric).items
    metric = "which answer comes out" if injects else metric_name(first.metric)
    label = at + (
        f"{BY_SHARE} (k / T)" if relative else f"{BY_DEPTH} on" if not injects else BY_DEPTH
    )
    return Chart(
        title=f"{first.title}: {how}",
        told=[named(founds), metric, asked([(f, c[0].n) for f, c in of_task], items)],
        x=Places(label, None if relative else range(first.layers + 1)),
        y=scale,
        panels=panels(lines),
        part=metric,
        intervals=_intervals(every),
    )


def _intervals(curves: Sequence[DepthCurve]) -> str:
    seeds = max(curve.seeds for curve in curves)
    return "95 % intervals" + (f", widest of {seeds} seeds" if seeds > 1 else "")


def _lines(curves: Sequence[DepthCurve], injects: bool, scale: Scale, divisor: int) -> list[Line]:
    """Return the curves as lines; variants of one strategy are told apart by name and shade."""
    keys = [curve.metric if injects else curve.strategy for curve in curves]
    lines = []
    for at, (curve, key) in enumerate(zip(curves, keys, strict=True)):
        look = look_of(key)
        if words := variant(curve.parameters):
            look = _varied(look, words, keys[:at].count(key), keys.count(key))
        points = {
            k / divisor: (curve.mean[k], curve.low[k], curve.high[k]) for k in sorted(curve.mean)
        }
        lines.append(Line.of(look, points, scale.factor))
    return lines


def _varied(look: Look, words: str, number: int, count: int) -> Look:
    """Return the look of one of several variants of a family, which their words tell apart."""
    shade = SHADES[0] + (SHADES[1] - SHADES[0]) * number / max(1, count - 1)
    marker = MARKERS[number % len(MARKERS)] if count > 1 else look.marker
    label = f"{look.label} {words}"
    return replace(look, label=label, colour=lighter(look.colour, shade), marker=marker)
