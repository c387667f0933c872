"""Figures of paper A (*Attend First, Consolidate Later*): what a model answers, by depth.

2 Capitals, 3 math exercises, 4 SQuAD, 6 CNN/DailyMail under freeze, noise and skipped attention;
5 which answer an injection brings out. Any other task's sweep over depth looks the same.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

from impasto.analysis import DepthCurve, depth_curves, main_metric, metric_name
from impasto.figures.chart import Chart, Line, draw_charts, percent_limits, references
from impasto.figures.found import Found, MissingError, short_name
from impasto.figures.picture import Picture, file_name
from impasto.figures.style import look_of
from impasto.look import Look
from impasto.strategies import STRATEGIES

INJECTION = ("answers_injected", "answers_original")
SHOWN = {"exact_match": ("exact_match", "f1"), "rougeL": ("rouge1", "rougeL")}  # by main metric
MANIPULATIONS = {s.name: s.entry for s in STRATEGIES.values() if s.figure == "A2"}
MATH = re.compile(r"arithmetic\b.*")
OWN = re.compile(r"capitals\b.*|squad\b.*|cnn_dailymail\b.*|arithmetic\b.*")


def capitals(found: Found) -> Iterator[Picture]:
    """Draw Figure 2."""
    return _manipulated(found, re.compile(r"capitals\b.*"), "A2", ["capitals"])


def exercises(found: Found) -> Iterator[Picture]:
    """Draw Figure 3, a picture for each number of terms."""
    wanted = [f"{{name: arithmetic, terms: {terms}}}" for terms in (2, 3)]
    return _manipulated(found, MATH, "A3", wanted)


def squad(found: Found) -> Iterator[Picture]:
    """Draw Figure 4: exact match and F1."""
    return _manipulated(
        found, re.compile(r"squad\b.*"), "A4", ["{name: squad, limit: 1000, shots: 1}"]
    )


def summaries(found: Found) -> Iterator[Picture]:
    """Draw Figure 6: ROUGE-1 and ROUGE-L."""
    wanted = ["{name: cnn_dailymail, limit: 100}"]
    return _manipulated(found, re.compile(r"cnn_dailymail\b.*"), "A6", wanted)


def others(found: Found) -> Iterator[Picture]:
    """Draw the sweep over depths of every task that the paper does not have."""
    names = [task for task in found.tasks if not OWN.fullmatch(task)]
    if not names:
        raise MissingError(tasks=["arc_easy"], plans=list(MANIPULATIONS.values()))
    return _manipulated(found, re.compile("|".join(map(re.escape, names))), "depth", [])


def injection(found: Found) -> Iterator[Picture]:
    """Draw Figure 5: which answer comes out when another subject's states are injected."""
    curves = [c for c in depth_curves(found.frame) if c.metric in INJECTION] if found.tasks else []
    if not curves:
        tasks = [] if {"capitals", "arithmetic-2"} & set(found.tasks) else ["capitals"]
        raise MissingError(tasks, plans=[STRATEGIES["inject"].entry])
    for task in dict.fromkeys(curve.task for curve in curves):
        here = [c for metric in INJECTION for c in curves if (c.task, c.metric) == (task, metric)]
        # that of the original answer; the injected one comes out of nothing by chance only
        chart = _chart(here, max(curve.baseline for curve in here), "injected at depth k")
        chart = replace(
            chart,
            title=f"{here[0].title}: another subject injected",
            y_label="share of answers (%)",
            lines=_lines(here, [curve.metric for curve in here]),
        )
        yield Picture(f"A5-{file_name(task)}", draw_charts([chart]))


def _manipulated(
    found: Found, tasks: re.Pattern[str], name: str, wanted: Sequence[str]
) -> Iterator[Picture]:
    """Draw, for each matching task, its metrics under each manipulation."""
    there = [task for task in found.tasks if tasks.fullmatch(task)]
    if not there:
        lacking = [] if found.strategies & MANIPULATIONS.keys() else list(MANIPULATIONS.values())
        raise MissingError(wanted, lacking)
    curves = [c for c in depth_curves(found.frame) if c.strategy in MANIPULATIONS]
    drawn = [task for task in there if any(curve.task == task for curve in curves)]
    if not drawn:
        raise MissingError(plans=list(MANIPULATIONS.values()))
    for task in drawn:
        here = [curve for curve in curves if curve.task == task]
        main = main_metric(curve.metric for curve in here) or here[0].metric
        metrics = [m for m in SHOWN.get(main, ()) if any(c.metric == m for c in here)] or [main]
        charts = []
        for metric in metrics:
            of_metric = [curve for curve in here if curve.metric == metric]
            lines = _lines(of_metric, [curve.strategy for curve in of_metric])
            chart = _chart(of_metric, of_metric[0].baseline, "manipulated from depth k on")
            charts.append(replace(chart, lines=lines))
        yield Picture(f"{name}-{file_name(task)}", draw_charts(charts))


def _chart(curves: Sequence[DepthCurve], baseline: float, x_label: str) -> Chart:
    """Return the chart of a task's curves, all of one metric, yet without its lines."""
    first = curves[0]
    scale = _scale(first)
    levels = [("Baseline", baseline), ("Chance", first.chance)]
    unit = " %" if scale == 100 else ""
    return Chart(
        title=first.title,
        told=_told(curves),
        x_label=x_label,
        y_label=f"{metric_name(first.metric)}{' (%)' if unit else ''}",
        lines=(),
        places=range(first.layers + 1),
        references=references(levels, scale, "{:.1f}" + unit),
        limits=percent_limits(_lines(curves, [""] * len(curves))) if unit else None,
    )


def _told(curves: Sequence[DepthCurve]) -> list[str]:
    """Say what was run: the model, how many questions, what the bands are."""
    first = curves[0]
    seeds = max(curve.seeds for curve in curves)
    bands = "bands: 95 % intervals" + (f", widest of {seeds} seeds" if seeds > 1 else "")
    return [f"{short_name(first.model)}, {first.layers} layers", f"{first.n:,} questions", bands]


def _scale(curve: DepthCurve) -> int:
    """Return 100 for shares, which are shown in percent, and 1 for what can exceed 1."""
    return 100 if max([curve.baseline, *curve.mean.values()]) <= 1 else 1


def _lines(curves: Sequence[DepthCurve], keys: Sequence[str]) -> list[Line]:
    """Return the curves as lines; variants of one strategy are told apart by name."""
    lines = []
    for curve, key in zip(curves, keys, strict=True):
        look = look_of(key)
        if list(keys).count(key) > 1:
            look = replace(look, label=f"{look.label} {curve.parameters}")
        lines.append(_line(curve, look, _scale(curves[0])))
    return lines


def _line(curve: DepthCurve, look: Look, scale: int) -> Line:
    points = {k: (curve.mean[k], curve.low[k], curve.high[k]) for k in sorted(curve.mean)}
    return Line.of(look, points, scale)
