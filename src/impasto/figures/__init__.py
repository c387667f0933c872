"""The papers' figures, drawn from a study's results with no plotting code of the user's own.

`style` is how everything looks, `sweep` one depth figure, `placement` names lines where they are.
Figures are made without pyplot, so drawing changes nothing outside, and the same table gives the
same files.
"""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import matplotlib as mpl
import pandas as pd
from matplotlib.figure import Figure

from impasto.analysis import DepthCurve, depth_curves, main_metric, metric_name
from impasto.error import UserError
from impasto.figures.style import DPI, SETTINGS, Look, look_of
from impasto.figures.sweep import Sweep, draw_sweep
from impasto.study import Results

__all__ = ["Sweep", "draw", "draw_sweep", "sweeps"]

INJECTION = ("answers_injected", "answers_original")


def draw(results: Results, out: str | Path) -> list[Path]:
    """Draw every figure that the results have data for into the folder, as PNG and SVG.

    Returns the files' paths. Raises UserError where they cannot be written.
    """
    out = Path(out)
    paths = []
    with mpl.rc_context(SETTINGS):
        for name, sweep in sweeps(results.frame()):
            paths += _save(draw_sweep(sweep), out, name)
    return paths


def sweeps(frame: pd.DataFrame) -> Iterator[tuple[str, Sweep]]:
    """Yield each depth figure of a table with its name: per task the manipulations, the injection.

    They are paper A's Figures 2 (Capitals), 3 (math exercises) and 5 (injection), per task.
    """
    curves = depth_curves(frame)
    for task in dict.fromkeys(curve.task for curve in curves):
        here = [curve for curve in curves if curve.task == task]
        main = main_metric(curve.metric for curve in here)
        manipulated = [curve for curve in here if curve.metric == main]
        if manipulated:
            yield _file_name(task), _manipulations(manipulated)
        injected = [c for metric in INJECTION for c in here if c.metric == metric]
        if injected:
            yield f"{_file_name(task)}-injection", _injection(injected)


def _manipulations(curves: list[DepthCurve]) -> Sweep:
    """Return what paper A's Figures 2 and 3 show: the main metric under each manipulation."""
    return Sweep(
        title=curves[0].title,
        curves=_looks(curves, [curve.strategy for curve in curves]),
        baseline=curves[0].baseline,
        depth_axis="manipulated from depth k on",
        share_axis=f"{metric_name(curves[0].metric)} (%)",
    )


def _injection(curves: list[DepthCurve]) -> Sweep:
    """Return what paper A's Figure 5 shows: which answer an injection brings out."""
    return Sweep(
        title=f"{curves[0].title}: another subject injected",
        curves=_looks(curves, [curve.metric for curve in curves]),
        baseline=max(curve.baseline for curve in curves),  # that of the original answer
        depth_axis="injected at depth k",
        share_axis="share of answers (%)",
    )


def _looks(curves: list[DepthCurve], keys: list[str]) -> list[tuple[DepthCurve, Look]]:
    """Return the curves with their looks; variants of one strategy are told apart by name."""
    looks = []
    for curve, key in zip(curves, keys, strict=True):
        look = look_of(key)
        if keys.count(key) > 1:
            look = replace(look, label=f"{look.label} {curve.parameters}")
        looks.append((curve, look))
    return looks


def _save(figure: Figure, out: Path, name: str) -> list[Path]:
    """Write one figure as PNG and SVG, without the date or version that would change the file."""
    paths = [out / f"{name}.png", out / f"{name}.svg"]
    try:
        out.mkdir(parents=True, exist_ok=True)
        figure.savefig(paths[0], dpi=DPI, metadata={"Software": None})
        figure.savefig(paths[1], metadata={"Date": None, "Creator": None})
    except OSError as error:
        raise UserError(f"figures cannot be written to {out}: {error.strerror}") from None
    return paths


def _file_name(task: str) -> str:
    return re.sub(r"[^\w.-]+", "-", task)
