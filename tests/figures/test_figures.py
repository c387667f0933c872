"""The figures of a depth sweep: what they show, where its names stand, and that files repeat."""

import json
from math import exp

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Annotation, Text

from impasto.error import UserError
from impasto.figures import draw, draw_sweep, sweeps
from impasto.figures.style import LOOKS, SETTINGS
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
            | {"model": "demo", "layers": layers, "parameters": json.dumps({}), "plan": "p"}
            | {"digest": "d", "part_of": ""}
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
    return Results(Study("study", "demo", (), ()), frame)


def drawn(frame, name="capitals") -> Figure:
    with mpl.rc_context(SETTINGS):
        return draw_sweep(dict(sweeps(frame))[name])


def test_a_task_gets_a_figure_of_its_manipulations_and_one_of_injection(tmp_path):
    paths = draw(results(sweep_frame()), tmp_path / "figures")
    assert [path.name for path in paths] == [
        "capitals.png",
        "capitals.svg",
        "capitals-injection.png",
        "capitals-injection.svg",
    ]
    for path in paths:
        assert path.stat().st_size > 5000


def test_the_svg_holds_its_labels_as_text(tmp_path):
    manipulations, injection = [
        path.read_text(encoding="utf-8")
        for path in draw(results(sweep_frame()), tmp_path)
        if path.suffix == ".svg"
    ]
    for strategy in RISES:
        assert LOOKS[strategy].label in manipulations
    for label in ("Capitals", "Baseline 99.5 %", "Chance 0.5 %", "accuracy (%)", "194 questions"):
        assert label in manipulations
    for label in ("Injected answer", "Original answer", "Baseline 99.5 %"):
        assert label in injection


def test_every_strategy_is_one_line_in_its_own_colour():
    lines = {line.get_label(): line for line in drawn(sweep_frame()).axes[0].get_lines()}
    assert len(lines) == len(RISES) + 2  # and the baseline and chance
    for strategy in RISES:
        assert lines[LOOKS[strategy].label].get_color() == LOOKS[strategy].colour
        assert np.size(lines[LOOKS[strategy].label].get_xdata()) == LAYERS + 1


def test_no_two_strategies_of_a_figure_share_a_colour_a_dash_or_a_marker():
    looks = [LOOKS[strategy] for strategy in RISES]
    for trait in ("colour", "dash", "marker", "label"):
        assert len({getattr(look, trait) for look in looks}) == len(looks)


def test_strategies_with_seeds_have_a_band():
    assert len(drawn(sweep_frame()).axes[0].collections) == 2
    assert len(drawn(sweep_frame({"freeze": 4})).axes[0].collections) == 0


def test_names_stand_beside_lines_that_are_far_apart():
    rises = {"freeze": 2.0, "drop_attention_from": 9.0}
    figure = drawn(sweep_frame(rises))
    assert not figure.legends
    assert {"Freeze", "Skip attention", "Baseline 99.5 %"} <= set(names(figure))


def test_lines_that_lie_on_each_other_get_a_key():
    figure = drawn(sweep_frame(dict.fromkeys(RISES, 6.0)))
    [key] = figure.legends
    shown = [text.get_text() for text in key.get_texts()]
    assert shown[: len(RISES)] == [LOOKS[strategy].label for strategy in RISES]


@pytest.mark.parametrize("gap", [0.0, 0.3, 1.0, 2.0, 3.0])
@pytest.mark.parametrize("name", ["capitals", "capitals-injection"])
def test_no_name_covers_another_or_leaves_the_figure(gap, name):
    rises = {strategy: 1 + gap * i for i, strategy in enumerate(RISES)}
    figure = drawn(sweep_frame(rises), name)
    figure.draw_without_rendering()
    texts = [t for t in figure.findobj(Text) if isinstance(t, Text) and t.get_text()]
    boxes = [text.get_window_extent() for text in texts if text.get_visible()]
    boxes = [box for box in boxes if box.width > 1]
    for i, box in enumerate(boxes):
        assert figure.bbox.x0 <= box.x0
        assert box.x1 <= figure.bbox.x1
        assert figure.bbox.y0 <= box.y0
        assert box.y1 <= figure.bbox.y1
        assert not any(box.overlaps(other) for other in boxes[:i])


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
    [_, svg] = draw(results(frame), tmp_path)
    assert "A &lt;b&gt; &amp; $x$" in svg.read_text(encoding="utf-8")


def test_a_table_without_depths_has_no_figure(tmp_path):
    frame = sweep_frame().assign(k=pd.NA)
    assert draw(results(frame), tmp_path) == []


def test_a_folder_that_cannot_be_written_is_a_users_mistake(tmp_path):
    (tmp_path / "figures").write_text("")
    with pytest.raises(UserError, match="figures cannot be written"):
        draw(results(sweep_frame()), tmp_path / "figures")


def names(figure):
    return [text.get_text() for text in figure.axes[0].texts if isinstance(text, Annotation)]


def test_a_benchmark_is_drawn_by_its_main_metric_and_without_a_chance_that_it_lacks():
    frame = sweep_frame(inject=False)
    summaries = frame.assign(metric="rougeL", chance=float("nan"))
    figure = drawn(pd.concat([summaries, summaries.assign(metric="rouge1")]))
    [axes] = figure.axes
    assert axes.get_ylabel() == "ROUGE-L (%)"
    assert len(axes.lines) == len(RISES) + 1  # and the baseline
