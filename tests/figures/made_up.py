"""Tables of made-up studies, one for each paper, and what is drawn of them."""

import json
from math import exp
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.text import Text

from impasto import strategies
from impasto.figures import ENTRIES, Found, pictures
from impasto.figures.style import USUAL_STYLE, Style
from impasto.plan import Plan
from impasto.study import Results, Study
from impasto.table import Table

SEEDED = {"shuffle", "gaussian", "random_order"}


def study_frame(plans, tasks, layers=12, score=None):
    """Return the table of a study; `score(strategy, parameters, task)` is a share right of n.

    `plans` are strategies with their choices, `tasks` name each task's title, n, chance, baseline.
    """
    score = score or (lambda strategy, parameters, task: 0.5)
    rows = []
    labelled = [("baseline", {}, strategies.baseline(layers))]
    for strategy, choices in plans:
        labelled += [
            (strategy, parameters, plan)
            for parameters, plan in strategies.expand(strategy, layers, **choices)
        ]
    for task, (title, n, chance, baseline, metric) in tasks.items():
        for strategy, parameters, plan in labelled:
            value = baseline if strategy == "baseline" else score(strategy, parameters, task)
            value = round(value * n) / n
            others = {k: v for k, v in parameters.items() if k not in ("k", "seed")}
            rows.append(
                {"study": "s", "model": "org/demo", "layers": layers, "task": task, "title": title}
                | {"part_of": "", "strategy": strategy, "k": parameters.get("k")}
                | {"seed": parameters.get("seed"), "parameters": json.dumps(others)}
                | {"plan": str(plan), "digest": plan.digest, "metric": metric, "value": value}
                | {"stderr": (value * (1 - value) / n) ** 0.5, "n": n, "chance": chance}
                | {"baseline": baseline, "truncated": 0, "not_finite": 0, "data": "d"}
                | {"weights": "w", "engine": "e"}
            )
    return pd.DataFrame(rows).astype({"k": "Int64", "seed": "Int64"})


TASKS = {
    "arc_easy": ("ARC easy", 400, 0.25, 0.75, "acc_norm"),
    "hellaswag": ("HellaSwag", 500, 0.25, 0.6, "acc_norm"),
    "lambada_openai": ("LAMBADA", 300, 0.0, 0.7, "acc"),
}
GLUE = {
    "sst2": ("SST-2", 400, 0.5, 0.9, "score"),
    "cola": ("CoLA", 400, 0.0, 0.6, "score"),
}
MIDDLES = ("skip", "middle_repeat", "reverse", "random_order", "parallel")


def painters(layers=12, tasks=TASKS, loops=(1, 2, 3, 5)):
    """Return a study of paper B: more edited layers are worse, some families more than others."""
    plans: list[Any] = [(name, {"n": "all"}) for name in ("skip_one", "switch", *MIDDLES)]
    if loops:
        plans.append(("looped_parallel", {"n": "all", "loops": list(loops)}))

    def score(strategy, parameters, task):
        _, _, chance, baseline, _ = tasks[task]
        if strategy in ("skip_one", "switch"):
            return baseline - 0.2 * exp(-parameters["n"])
        edited = layers - 2 * parameters["n"] - 1
        slope = 0.1 + 0.1 * [*MIDDLES, "looped_parallel"].index(strategy)
        best = 1 + abs(parameters.get("loops", 3) - 3) / 4
        return chance + (baseline - chance) * exp(-slope * best * edited / layers * 2)

    return study_frame(plans, tasks, layers, score)


def encoders(*variants):
    """Return a study of paper B on GLUE, as an encoder has it: its tasks, and their average."""
    frames = []
    for number, variant in enumerate(variants or ("frozen",)):
        whole, said = f"glue_{variant}", f" ({variant.replace('_', ', ')})"
        parts = painters(24, GLUE, loops=(1, 3))
        parts["value"] = parts["value"] - 0.1 * number
        parts["title"], parts["task"] = parts["title"] + said, parts["task"] + f"_{variant}"
        plan = ["strategy", "parameters", "seed", "k", "digest", "plan", "metric"]
        average = parts.groupby(plan, dropna=False, sort=False, as_index=False).agg(
            {"value": "mean", "stderr": "mean", "chance": "mean", "baseline": "mean", "n": "sum"}
            | dict.fromkeys(["study", "model", "layers", "truncated", "not_finite"], "first")
        )
        average = average.assign(task=whole, title=f"GLUE{said}", part_of="")
        accuracy = parts[parts["task"].str.startswith("sst2")].assign(metric="acc")
        frames += [parts.assign(part_of=whole), accuracy.assign(part_of=whole), average]
    return pd.concat(frames, ignore_index=True)


def dropping(layers=12, count: Any = "all"):
    """Return a study of paper C."""

    def score(strategy, parameters, task):
        _, _, chance, baseline, _ = TASKS[task]
        slope = {"attention": 0.3, "mlp": 1.0, "block": 1.6}[parameters["part"]]
        return chance + (baseline - chance) * exp(-slope * parameters["count"] / layers)

    choices = {"part": "all", "count": count, "keep_last": "all"}
    return study_frame([("drop_last", choices)], TASKS, layers, score)


def perplexities(layers=12, tasks=("wikitext",), metric="perplexity", error=0.05):
    """Return a study of all three papers on texts: the more is edited, the higher it is, from 5."""
    plans: list[Any] = [(name, {"n": "all"}) for name in ("skip_one", "switch", *MIDDLES)]
    plans += [
        ("looped_parallel", {"n": "all", "loops": [1, 3, 5]}),
        ("drop_last", {"part": "all", "count": "all", "keep_last": "all"}),
        ("freeze", {"k": "all"}),
        ("gaussian", {"k": "all", "seed": [0, 1]}),
    ]
    named = {task: (task.title(), 10_000, float("nan"), 5.0, metric) for task in tasks}
    frame = study_frame(plans, named, layers)
    runs = [Plan.parse(plan).occurrences for plan in frame["plan"]]
    edited = [abs(2 * layers - run.attention - run.mlp) / 2 for run in runs]
    n = [json.loads(text).get("n", 0) for text in frame["parameters"]]
    looped = frame["strategy"] == "looped_parallel"
    edited = np.where(looped, layers - 2 * np.array(n) - 1, edited)
    depth = frame["k"].fillna(layers).astype(float)
    worse = edited + (layers - depth.to_numpy())
    loops = [json.loads(text).get("loops", 3) for text in frame["parameters"]]
    value = 5 * np.exp(0.3 * worse + 0.2 * np.abs(np.array(loops) - 3))
    value = np.where(frame["strategy"] == "baseline", 5.0, value)
    return frame.assign(value=value, stderr=error * value, baseline=5.0)


def found(frame, folder=None, model="org/demo"):
    """Return what figures are drawn from, given a study's table."""
    study = Study("study", (model,), (), ())
    return Found(folder, Results(study, frame.assign(model=model)), {})


def chart_lines(axes) -> dict[str, Any]:
    """Return the lines that a chart names, by their names."""
    lines = {line.get_label(): line for line in axes.get_lines()}
    return {label: line for label, line in lines.items() if not label.startswith("_")}


def drawn(name, *founds, style: Style = USUAL_STYLE) -> dict[str, Any]:
    """Return the pictures of an entry by their names; raises what the entry raises."""
    return {picture.name: shown(picture, style) for picture in ENTRIES[name].draw(founds)}


def all_drawn(*founds, style: Style = USUAL_STYLE) -> dict[str, Any]:
    """Return every picture that there is data for."""
    return {
        picture.name: shown(picture, style)
        for _, picture in pictures(founds, list(ENTRIES.values()))
        if not isinstance(picture, Exception)
    }


def shown(picture, style: Style) -> Any:
    """Return a picture's figure, or its table."""
    if isinstance(picture.content, Table):
        return picture.content
    with mpl.rc_context(style.settings):
        return picture.content.figure(style)


def assert_legible(figure):
    """Check that no text of a figure leaves it or covers another."""
    figure.draw_without_rendering()
    texts = [t for t in figure.findobj(Text) if isinstance(t, Text) and t.get_text().strip()]
    unseen = _outside(figure)
    texts = [t for t in texts if t.get_visible() and t not in unseen]
    titles = [t for t in texts if "\n " in t.get_text()]  # these hold the room of what is told
    boxes = [(t.get_text(), t.get_window_extent()) for t in texts if t not in titles]
    for title in titles:
        box = title.get_window_extent()
        assert figure.bbox.x0 <= box.x0 < box.x1 <= figure.bbox.x1, title.get_text()
        assert box.y1 <= figure.bbox.y1, title.get_text()
    for i, (text, box) in enumerate(boxes):
        assert figure.bbox.x0 - 1 <= box.x0, text
        assert box.x1 <= figure.bbox.x1 + 1, text
        assert figure.bbox.y0 - 1 <= box.y0, text
        assert box.y1 <= figure.bbox.y1 + 1, text
        for other, place in boxes[:i]:
            assert not box.overlaps(place), (text, other)


def _outside(figure):
    """Return the labels of ticks beyond an axis's ends, which are not drawn."""
    unseen = set()
    for axes in figure.findobj(Axes):
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            for tick in axis.get_major_ticks():
                if not low <= tick.get_loc() <= high:
                    unseen |= {tick.label1, tick.label2}
    return unseen
