"""Figures of edits beyond the papers: damped loops, pairs, narrowed attention, frozen prompts."""

import json
from math import exp

import numpy as np
import pytest
from made_up import TASKS, assert_legible, chart_lines, drawn, found, study_frame

from impasto.analysis import findings
from impasto.figures import ENTRIES, MissingError, style_of
from thinning import thinned

STYLES = [style_of(width="8.8"), style_of(width="16cm"), style_of("slide")]
LAYERS = 12


def looped(**choices):
    """Return a study of damped loops: each turn and each share of what it adds costs 2 points."""

    def score(strategy, parameters, task):
        _, _, _, baseline, _ = TASKS[task]
        if strategy != "half_step":
            return baseline
        own = parameters["times"] * parameters["scale"], parameters["j"] - parameters["i"]
        return baseline - min(0.3, 0.02 * abs(own[0] - 1) * own[1])

    return study_frame([("half_step", choices)], TASKS, LAYERS, score)


def paired(**choices):
    def score(strategy, parameters, task):
        _, _, _, baseline, _ = TASKS[task]
        return baseline - (0.3 if parameters["from"] == 0 else 0.0)

    chosen = {"from": "all", "to": "all", **choices}
    return study_frame([("pairs_parallel", chosen)], TASKS, LAYERS, score)


def swept():
    """Return a study of sweeps over depth: what sees less costs more, up to layer 6."""
    worth = {"drop_attention_from": 0.0, "freeze": 0.3, "freeze_prompt": 0.5}

    def score(strategy, parameters, task):
        _, _, chance, baseline, _ = TASKS[task]
        share = parameters["last"] / 10 if strategy == "reach" else worth[strategy]
        lost = (1 - share) * exp(-max(0, parameters["k"] - 2) / 2) * (parameters["k"] < 8)
        return chance + (baseline - chance) * (1 - lost)

    plans = [
        ("reach", {"k": "all", "first": 1, "last": [2, 4, 8]}),
        ("drop_attention_from", {"k": "all"}),
        ("freeze_prompt", {"k": "all"}),
        ("freeze", {"k": "all"}),
    ]
    return study_frame(plans, TASKS, LAYERS, score)


def cells(figure):
    """Return a matrix's values."""
    [image] = figure.axes[0].get_images()
    return np.ma.filled(np.ma.asarray(image.get_array(), float), np.nan)


def said(figure):
    texts = [text.get_text() for text in figure.findobj(lambda a: hasattr(a, "get_text"))]
    return " ".join(texts).replace("\xa0", " ").replace("\n", " ")


def test_a_damped_loop_is_drawn_by_turns_and_scale_for_each_block():
    frame = looped(i=[2, 4], j=8, times="all", scale=[0.25, 0.5, 1])
    pictures = drawn("half_step", found(frame))
    assert list(pictures) == ["half_step-2-7", "half_step-4-7"]
    values = cells(pictures["half_step-4-7"])
    assert values.shape == (4, 3)
    times, scales = np.arange(1, 5)[:, None], np.array([0.25, 0.5, 1.0])
    assert values == pytest.approx(-8 * abs(times * scales - 1), abs=0.2)
    assert "corrected for 24 plans" in said(pictures["half_step-4-7"])


def test_the_plan_that_is_the_model_itself_is_never_the_best_loop():
    frame = looped(i=4, j=8, times=[1, 2], scale=[0.5, 1])
    [figure] = drawn("half_step", found(frame)).values()
    [framed] = [patch for patch in figure.axes[0].patches if not patch.get_fill()]
    assert (round(framed.get_x()), round(framed.get_y())) == (0, 1)  # scale 0.5, two turns


def test_many_blocks_are_drawn_by_their_ends_for_each_loop():
    pictures = drawn("half_step", found(looped(i="all", j="all", scale=[0.5, 0.25])))
    assert list(pictures) == ["half_step-2x0.25", "half_step-2x0.5"]
    values = cells(pictures["half_step-2x0.25"])
    assert values.shape == (LAYERS, LAYERS)
    assert values[11, 6] == pytest.approx(-6, abs=0.2)  # layers 6 to 11
    assert np.isnan(values[4, 6])


def test_of_very_many_loops_some_are_drawn_and_the_rest_is_said():
    found_ = found(looped(i="all", j="all", times=[2, 3, 4], scale="all"))
    pictures = list(ENTRIES["half_step"].draw([found_]))
    assert len(pictures) == 6
    assert pictures[0].notes == ["half_step: 12 pictures, of which the first 6 are drawn"]


def test_pairs_are_drawn_by_where_they_begin_and_how_many_they_are():
    pictures = drawn("pairs_parallel", found(paired(form=["parts", "mean"])))
    assert list(pictures) == ["pairs_parallel-parts", "pairs_parallel-mean"]
    values = cells(pictures["pairs_parallel-parts"])
    assert values.shape == (6, 11)
    assert np.isfinite(values[0]).all()
    assert np.flatnonzero(np.isfinite(values[5])).tolist() == [0]
    assert values[:, 0] == pytest.approx(-30, abs=0.2)
    framed = pictures["pairs_parallel-parts"].axes[0].patches
    assert {(round(patch.get_x()), round(patch.get_y())) for patch in framed} == {(1, 4), (2, 4)}


def test_every_reach_is_a_line_of_its_own_beside_skipped_attention():
    pictures = drawn("reach", found(swept()))
    assert list(pictures) == [f"reach-{task}" for task in TASKS]
    lines = chart_lines(pictures["reach-arc_easy"].axes[0])
    reaches = [f"Reach {{first=1, last={last}}}" for last in (2, 4, 8)]
    assert [name for name in lines if name in reaches] == reaches
    assert "Skip attention" in lines
    assert "Freeze the prompt" not in lines
    at_0 = [lines[name].get_ydata()[0] for name in (*reaches, "Skip attention")]
    assert at_0 == [*sorted(at_0[:3]), min(at_0)]
    drawn_as = {(lines[name].get_color(), lines[name].get_marker()) for name in reaches}
    assert len(drawn_as) == 3


def test_the_prompt_frozen_stands_beside_all_earlier_tokens_frozen():
    lines = chart_lines(drawn("freeze_prompt", found(swept()))["freeze_prompt-arc_easy"].axes[0])
    assert {"Freeze the prompt", "Freeze"} <= set(lines)
    assert not any("Reach" in name for name in lines)


def test_a_figure_of_paper_a_has_none_of_them():
    lines = chart_lines(drawn("depth", found(swept()))["depth-arc_easy"].axes[0])
    assert {"Skip attention", "Freeze"} <= set(lines)
    assert not any("Reach" in name or "prompt" in name for name in lines)


def test_sentences_tell_reaches_apart():
    about = [line for line in findings(swept()) if line.startswith("ARC easy: narrowing attention")]
    assert [line.split("{")[1].split("}")[0] for line in about] == [
        f"first=1, last={last}" for last in (2, 4, 8)
    ]
    assert any(line.startswith("ARC easy: freezing the prompt: ") for line in findings(swept()))


@pytest.mark.parametrize(
    ("name", "entry"),
    [
        ("half_step", "half_step: {i: 25%, j: 75%, times: all, scale: all}"),
        ("pairs_parallel", "pairs_parallel: {from: all, to: all}"),
        ("reach", "reach: {k: all, first: 1, last: [4, 16, 64]}"),
        ("freeze_prompt", "freeze_prompt: {k: all}"),
    ],
)
def test_without_its_family_a_figure_says_what_to_run(tmp_path, name, entry):
    frame = study_frame([("drop_attention_from", {"k": "all"}), ("freeze", {"k": "all"})], TASKS)
    with pytest.raises(MissingError) as raised:
        drawn(name, found(frame, tmp_path))
    assert raised.value.plans == (entry,)
    assert not raised.value.tasks


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("name", thinned(["half_step", "pairs_parallel", "reach", "freeze_prompt"]))
def test_each_is_legible_at_every_width(name, style):
    frames = {
        "half_step": looped(i="25%", j="75%", times="all", scale="all"),
        "pairs_parallel": paired(),
    }
    for figure in drawn(name, found(frames.get(name, swept())), style=style).values():
        assert_legible(figure)


def test_one_plan_alone_is_no_picture():
    with pytest.raises(MissingError):
        drawn("half_step", found(looped(i=4, j=8)))


def test_parameters_that_are_whole_and_decimal_stand_in_one_row():
    frame = looped(i=4, j=8, times=[2, 3], scale=[1, 0.5])
    frame["parameters"] = [
        json.dumps(json.loads(text) | {"scale": 1}) if '"scale": 1' in text else text
        for text in frame["parameters"]
    ]
    [figure] = drawn("half_step", found(frame)).values()
    assert np.isfinite(cells(figure)).all()
