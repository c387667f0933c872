"""The figures of a depth sweep: what they show, where its names stand, and that files repeat."""

import json
from math import exp

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from made_up import assert_legible, chart_lines, drawn
from matplotlib.collections import FillBetweenPolyCollection
from matplotlib.figure import Figure
from matplotlib.text import Annotation

from impasto.error import UserError
from impasto.figures import Found, draw
from impasto.figures.style import LOOKS
from impasto.study import Results, Study

LAYERS = 12
RISES = {"freeze": 3.0, "shuffle": 6.0, "gaussian": 6.4, "drop_attention_from": 9.0}


def sweep_frame(rises=RISES, inject=True, title="Capitals", layers=LAYERS):
    """Return a table in which each strategy's accuracy rises around its own depth."""
    rows = []

    def add(strategy, k, value, metric="exact_match", seed=None):
        rows.append(
            {"strategy": strategy, "k": k, "seed": seed, "metric": metric, "value": value}
            | {"baseline": 0.995, "chance": 0.005, "n": 194, "task": "capitals", "title": title}
            | {"stderr": 0.01}
            | {"model": "demo", "layers": layers, "parameters": json.dumps({}), "plan": "0-11"}
            | {"digest": f"{strategy} {k} {seed}", "part_of": ""}
        )

    for strategy, middle in rises.items():
        for k in range(layers + 1):
            value = 0.995 / (1 + exp(2 * (middle - k)))
            for seed in (0, 1, 2) if strategy in {"shuffle", "gaussian"} else (None,):
                add(strategy, k, value * (1 - 0.02 * (seed or 0)), seed=seed)
    for k in range(layers + 1) if inject else ():
        original = 0.995 / (1 + exp(2 * (5 - k)))
        add("inject", k, original, "answers_original")
        add("inject", k, 0.9 - 0.9 * original, "answers_injected")
    return pd.DataFrame(rows).astype({"k": "Int64", "seed": "Int64"})


def results(frame):
    return Results(Study("study", ("demo",), (), ()), frame)


def sweep(frame, name="A2", task="capitals") -> Figure:
    return drawn(name, Found(None, results(frame), {}))[f"{name}-{task}"]


def test_a_task_gets_a_figure_of_its_manipulations_and_one_of_injection(tmp_path):
    paths = draw(results(sweep_frame()), tmp_path / "figures")
    assert [path.name for path in paths if path.name.startswith("A")] == [
        "A2-capitals.png",
        "A2-capitals.svg",
        "A5-capitals.png",
        "A5-capitals.svg",
    ]
    for path in paths:
        assert path.stat().st_size > 5000


def test_the_svg_holds_its_labels_as_text(tmp_path):
    manipulations, injection = [
        path.read_text(encoding="utf-8")
        for path in draw(results(sweep_frame()), tmp_path)
        if path.suffix == ".svg" and path.name.startswith("A")
    ]
    for strategy in RISES:
        assert LOOKS[strategy].label in manipulations
    for label in ("Capitals", "Baseline 99.5 %", "Chance 0.5 %", "accuracy (%)", "194 questions"):
        assert label in manipulations
    for label in ("Injected answer", "Original answer", "Baseline 99.5 %"):
        assert label in injection


def test_every_strategy_is_one_line_in_its_own_colour():
    lines = chart_lines(sweep(sweep_frame()).axes[0])
    assert len(lines) == len(RISES) + 2  # and the baseline and chance
    for strategy in RISES:
        assert lines[LOOKS[strategy].label].get_color() == LOOKS[strategy].colour
        assert np.size(lines[LOOKS[strategy].label].get_xdata()) == LAYERS + 1


def test_no_two_strategies_of_a_figure_share_a_colour_a_dash_or_a_marker():
    looks = [LOOKS[strategy] for strategy in RISES]
    for trait in ("colour", "dash", "marker", "label"):
        assert len({getattr(look, trait) for look in looks}) == len(looks)


def test_every_strategy_has_a_band_that_holds_its_line_and_all_its_seeds():
    frame = sweep_frame()
    axes = sweep(frame).axes[0]
    bands = [part for part in axes.collections if isinstance(part, FillBetweenPolyCollection)]
    assert len(bands) == len(RISES)
    band = np.asarray(bands[1].get_paths()[0].vertices)  # of shuffle
    for k in range(LAYERS + 1):
        seeds = frame[(frame["strategy"] == "shuffle") & (frame["k"] == k)]["value"]
        at = band[np.isclose(band[:, 0], k), 1]
        assert at.min() < 100 * seeds.min()
        assert at.max() > 100 * seeds.max()


def test_names_stand_beside_lines_that_are_far_apart():
    rises = {"freeze": 2.0, "drop_attention_from": 9.0}
    figure = sweep(sweep_frame(rises))
    assert not figure.legends
    assert {"Freeze", "Skip attention", "Baseline 99.5 %"} <= set(names(figure))


def test_lines_that_lie_on_each_other_get_a_key():
    figure = sweep(sweep_frame(dict.fromkeys(RISES, 6.0)))
    [key] = figure.legends
    shown = [text.get_text() for text in key.get_texts()]
    assert shown[: len(RISES)] == [LOOKS[strategy].label for strategy in RISES]


@pytest.mark.parametrize("gap", [0.0, 0.3, 1.0, 2.0, 3.0])
@pytest.mark.parametrize("name", ["A2", "A5"])
def test_no_name_covers_another_or_leaves_the_figure(gap, name):
    rises = {strategy: 1 + gap * i for i, strategy in enumerate(RISES)}
    figure = sweep(sweep_frame(rises), name)
    assert_legible(figure)


def test_the_same_table_gives_the_same_files(tmp_path):
    frame = sweep_frame()
    for one, other in zip(
        draw(results(frame), tmp_path / "a"), draw(results(frame), tmp_path / "b"), strict=True
    ):
        assert one.read_bytes() == other.read_bytes()


def test_drawing_leaves_matplotlib_as_it_was(tmp_path):
    before = dict(mpl.rcParams)
    draw(results(sweep_frame({"freeze": 4}, inject=False)), tmp_path)
    assert dict(mpl.rcParams) == before


def test_a_deep_model_and_markup_in_a_title_are_drawn(tmp_path):
    frame = sweep_frame({"freeze": 40}, inject=False, title="A <b> & $x$", layers=80)
    svg = next(path for path in draw(results(frame), tmp_path) if path.suffix == ".svg")
    assert "A &lt;b&gt; &amp; $x$" in svg.read_text(encoding="utf-8")


def test_a_table_without_depths_has_no_figure(tmp_path):
    frame = sweep_frame().assign(k=pd.NA)
    assert not [path for path in draw(results(frame), tmp_path) if "A2" in path.name]


def test_a_folder_that_cannot_be_written_is_a_users_mistake(tmp_path):
    (tmp_path / "figures").write_text("")
    with pytest.raises(UserError, match="figures cannot be written"):
        draw(results(sweep_frame()), tmp_path / "figures")


def names(figure):
    return [text.get_text() for text in figure.axes[0].texts if isinstance(text, Annotation)]


def test_a_benchmark_is_drawn_by_the_papers_metrics_and_without_a_chance_that_it_lacks():
    frame = sweep_frame(inject=False)
    summaries = frame.assign(metric="rougeL", chance=float("nan"))
    frame = pd.concat([summaries, summaries.assign(metric="rouge1")]).assign(task="cnn_dailymail")
    figure = sweep(frame, "A6", "cnn_dailymail")
    assert [axes.get_ylabel() for axes in figure.axes] == ["ROUGE-1 (%)", "ROUGE-L (%)"]
    for axes in figure.axes:
        assert len(chart_lines(axes)) == len(RISES) + 1  # and the baseline
