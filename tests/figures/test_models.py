"""Several models in one figure: who is which line, shares of layers, what they have in common."""

import numpy as np
import pandas as pd
import pytest
from made_up import (
    TASKS,
    all_drawn,
    assert_legible,
    chart_lines,
    drawn,
    dropping,
    encoders,
    found,
    painters,
    perplexities,
)
from matplotlib.figure import Figure
from matplotlib.text import Text
from test_figures import sweep_frame
from test_papers import inside

from impasto.figures import ENTRIES, Found, MissingError
from impasto.figures.style import LOOKS
from thinning import thinned

SMALL, LARGE = "org/small", "org/large"


def sweeps(*layers):
    return [found(sweep_frame(layers=count), model=f"org/m{at}") for at, count in enumerate(layers)]


def pair(study=painters, layers=(12, 12)):
    small, large = layers
    return found(study(small), model=SMALL), found(study(large), model=LARGE)


def key_of(figure):
    return [text.get_text() for key in figure.legends for text in key.get_texts()]


@pytest.mark.parametrize("study", [painters, dropping, perplexities])
@pytest.mark.parametrize("layers", thinned([((12, 12),), ((6, 12),)], 2))
def test_every_picture_of_two_models_is_legible_and_named_after_both(study, layers):
    pictures = all_drawn(*pair(study, layers))
    assert pictures
    for name, content in pictures.items():
        assert name.endswith(("-small-vs-large", "-small", "-large"))
        if isinstance(content, Figure):
            assert_legible(content)


def test_hue_is_the_strategys_and_dash_the_models():
    one, other = sweeps(12, 12)
    [figure] = drawn("A2", one, other).values()
    [axes] = figure.axes
    strategies = {look.label for look in LOOKS.values()}
    lines = [line for line in axes.get_lines() if line.get_label() in strategies]
    freeze = [line for line in lines if line.get_color() == LOOKS["freeze"].colour]
    assert len({line.get_linestyle() for line in freeze}) == 2
    colours = {line.get_color() for line in lines}
    assert len(lines) == 2 * len(colours)
    assert {"Freeze", "m0", "m1"} <= set(key_of(figure))
    assert_legible(figure)


def test_more_models_stand_side_by_side_with_the_same_axes():
    founds = sweeps(12, 12, 12)
    [figure] = drawn("A2", *founds).values()
    assert [axes.get_title() for axes in figure.axes if axes.get_visible()] == [
        "m0, 12 layers", "m1, 12 layers", "m2, 12 layers",
    ]  # fmt: skip
    assert len({axes.get_ylim() for axes in figure.axes}) == 1
    assert_legible(figure)


def test_models_of_other_depths_meet_at_shares_of_their_layers():
    [figure] = drawn("A2", *sweeps(12, 6)).values()
    ends = {tuple(np.array(line.get_xdata())[[0, -1]]) for line in figure.axes[0].get_lines()}
    assert (0, 1) in ends
    assert max(end for _, end in ends) == 1
    assert "share of the layers" in figure.axes[0].get_xlabel()
    [figure] = drawn("B4", *pair(layers=(12, 6))).values()
    lines = [line for line in figure.axes[0].get_lines() if line.get_label() == "Skip"]
    shares = {max(line.get_xdata()) for line in lines}
    assert shares == {9 / 12, 3 / 6}  # n = 1: all but three layers are in the middle


def test_levels_are_told_apart_or_drawn_once():
    one, other = pair()
    better = found(painters().assign(baseline=0.8), model=LARGE)
    [same, *_] = drawn("B2", one, other).values()
    assert any(text.startswith("Baseline 75.0") for text in levels(same))
    [figure, *_] = drawn("B2", one, better).values()
    assert {"Baseline small 75.0 %", "Baseline large 80.0 %"} <= levels(figure)
    assert "Chance 25.0 %" in levels(figure)


def levels(figure):
    return {line.get_label() for axes in figure.axes for line in axes.get_lines()}


def test_studies_without_a_task_in_common_say_what_each_has():
    other = sweep_frame().assign(task="capitals-2")
    founds = found(sweep_frame(), model=SMALL), found(other, model=LARGE)
    with pytest.raises(MissingError) as missing:
        list(ENTRIES["A2"].draw(founds))
    assert missing.value.reason == (
        "these studies have no task in common: small has capitals, large has capitals-2"
    )
    assert missing.value.told(founds[0]) == [missing.value.reason]
    tasks = {"piqa": ("PIQA", 400, 0.5, 0.75, "acc")}
    founds = found(painters(), model=SMALL), found(painters(tasks=tasks), model=LARGE)
    for name in ("B4", "B11", "drop_last", "pareto"):
        with pytest.raises(MissingError, match="no task in common"):
            list(ENTRIES[name].draw(founds))


def test_models_whose_tasks_are_of_other_kinds_are_not_beside_each_other_and_that_is_said():
    founds = found(painters(6), model=SMALL), found(perplexities(6), model=LARGE)
    for name in ("B2", "B4", "B11", "pareto"):
        for picture in ENTRIES[name].draw(founds):
            said = [note for note in picture.notes if note.startswith("only ")]
            assert [note.split(" has ")[0] for note in said] == ["only small", "only large"]
            assert said[1].endswith("has wikitext: no other model is drawn beside it there")


def test_what_only_one_model_has_is_left_out_and_said():
    fewer = {name: task for name, task in TASKS.items() if name != "hellaswag"}
    founds = found(painters(), model=SMALL), found(painters(tasks=fewer), model=LARGE)
    [picture] = ENTRIES["B4"].draw(founds)
    assert picture.notes == ["hellaswag is not drawn: only small has it"]
    line = chart_lines(drawn("B4", *founds)[picture.name].axes[0])["Skip"]
    alone = found(painters(tasks=fewer))
    [single] = drawn("B4", alone).values()
    median = chart_lines(single.axes[0])["Median of 2 tasks"]
    np.testing.assert_allclose(line.get_ydata(), median.get_ydata())


def test_a_figure_of_one_model_is_drawn_for_each():
    assert set(drawn("B10", *pair())) == {"B10-small", "B10-large"}


def test_models_of_one_name_are_told_apart_by_their_whole_names_or_folders(tmp_path):
    names = drawn("B4", found(painters(), model="a/m"), found(painters(), model="b/m"))
    assert list(names) == ["B4-a-m-vs-b-m"]
    founds = [found(painters(), tmp_path / name) for name in ("first", "second")]
    assert list(drawn("B4", *founds)) == ["B4-demo-first-vs-demo-second"]


def test_tables_have_a_block_for_each_model():
    [table] = drawn("CT1", *pair(dropping)).values()
    assert table.blocks == [("small, 12 layers", 4), ("large, 12 layers", 4)]
    tex = table.written("tex")
    assert tex.count(r"\midrule") == 2
    assert tex.index(r"\emph{small, 12 layers}") < tex.index(r"\emph{large, 12 layers}")
    assert [line.split(",")[0] for line in table.written("csv").splitlines()[1:]] == (
        ["small"] * 4 + ["large"] * 4
    )
    assert table.written("md").count("**small, 12 layers**") == 1


def test_an_encoder_and_a_decoder_share_the_picture_but_no_axes():
    [figure] = drawn("B4", found(painters()), found(encoders(), model="org/bert")).values()
    assert [axes.get_ylabel() for axes in figure.axes] == ["normalised score", "average score"]


def test_costs_of_several_models_are_relative():
    [figure] = drawn("pareto", *pair(layers=(12, 6))).values()
    for axes in figure.axes:
        full = chart_lines(axes)["Baseline"]
        assert list(full.get_xdata()) == [100]
    told = " ".join(text.get_text() for text in figure.findobj(Text))
    assert "58 plans of small, 24 plans of large" in told
    assert_legible(figure)


def test_a_study_beside_what_is_inside_a_model_is_drawn_as_if_alone():
    other = Found(None, None, {"similarity": inside()})
    names = all_drawn(found(sweep_frame(), model="org/m"), other).keys()
    assert {"A2-capitals-m-vs-demo", "A5-capitals-m-vs-demo", "B3-demo"} <= names


def test_a_study_beside_one_without_data_for_a_figure_says_so():
    frame = pd.concat([painters(), dropping()], ignore_index=True)
    founds = found(frame, model=SMALL), found(painters(), model=LARGE)
    [picture] = ENTRIES["CT1"].draw(founds)
    assert "large lacks plans of CT1" in picture.notes
