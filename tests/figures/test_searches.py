"""Figures of a search: single edits, pairs, the front; and what they say where they lack data."""

import json
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest
from made_up import TASKS, assert_legible, chart_lines, drawn, found, painters, study_frame
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from typer.testing import CliRunner

from impasto.cli import app
from impasto.error import UserError
from impasto.figures import Found, MissingError, save_all, style_of
from impasto.figures.catalogue import entries_of
from impasto.searching.edits import MOVES, Edit, Move
from searching.made_search import ITEMS, searched
from thinning import thinned

STYLES = [style_of(width="8.8"), style_of(width="16cm"), style_of("slide")]


def of(search):
    return Found(None, None, {}, search=search)


def alone(search):
    return {next(iter(o.edits)): o.objective for o in search.tried if len(o.edits) == 1}


def axes_of(figure) -> Axes:
    return figure.axes[0]


def values_of(figure):
    [image] = axes_of(figure).get_images()
    return np.ma.filled(np.ma.asarray(image.get_array(), float), np.nan)


def legend(figure):
    return [text.get_text().replace("\n", " ") for text in figure.legends[0].get_texts()]


def test_a_scan_has_a_line_for_each_move_and_the_full_model_as_a_level():
    search = searched("scan")
    figure = drawn("scan", of(search))["scan"]
    lines = chart_lines(axes_of(figure))
    assert list(lines) == ["Full model 0", "Attention left out", "MLP left out"]
    labels: dict[Move, str] = {"attention": "Attention left out", "mlp": "MLP left out"}
    for move, label in labels.items():
        expected = [alone(search)[Edit(move, layer)] for layer in range(6)]
        assert lines[label].get_ydata() == pytest.approx(expected)
    low, high = axes_of(figure).get_ylim()
    assert low > high  # less is better, and on top


def test_a_search_that_went_on_from_single_edits_says_what_they_were_asked():
    search = searched("scan")
    search = replace(search, tried=[replace(one, asked=0.125) for one in search.tried])
    texts = [text.get_text() for text in drawn("scan", of(search))["scan"].findobj(match=_is_text)]
    assert any(f"12.5 % of {ITEMS} items" in text for text in texts)


def _is_text(artist):
    return hasattr(artist, "get_text") and artist.get_text()


def test_a_cell_of_the_pairs_is_what_both_come_to_beyond_the_sum_of_each_alone():
    search = searched("pairs", base=2.0)
    single = {edit: value - 2.0 for edit, value in alone(search).items()}
    values = values_of(drawn("pairs", of(search))["pairs"])
    edits = sorted(single, key=lambda edit: (MOVES.index(edit.move), edit.layer))
    assert values.shape == (12, 12)
    assert np.diag(values) == pytest.approx([single[edit] for edit in edits])
    assert np.allclose(values, values.T)
    both = {one.edits: one.objective - 2.0 for one in search.tried if len(one.edits) == 2}
    for row, column in ((0, 3), (2, 9), (7, 11)):
        pair = edits[row], edits[column]
        expected = both[frozenset(pair)] - single[pair[0]] - single[pair[1]]
        assert values[row, column] == pytest.approx(expected)


def test_pairs_that_cannot_be_made_together_have_no_value():
    search = searched("pairs", moves=("attention", "layer"))
    values = values_of(drawn("pairs", of(search))["pairs"])
    assert np.isnan(values[0, 6])  # a layer and its own attention
    assert np.isfinite(values[0, 7])


def test_the_front_has_what_was_held_out_and_says_that_what_was_tried_was_not():
    search = searched("greedy")
    figure = drawn("front", of(search))["front"]
    labels = legend(figure)
    assert "Tried, on the items that choose" in labels
    assert {"Front of the search", "Full model", "Best"} <= set(labels)
    assert {"Drop the last layers", "Greedy"} <= set(labels)
    lines = chart_lines(axes_of(figure))
    expected = sorted(1.1 * one.objective for one in search.front if one.plan != search.full.plan)
    assert sorted(lines["Front of the search"].get_ydata()) == pytest.approx(expected)
    tried = sorted(one.objective for one in search.tried)
    assert sorted(lines["Tried, on the items that choose"].get_ydata()) == pytest.approx(tried)
    [best] = lines["Best"].get_ydata()
    assert best == pytest.approx(1.1 * search.best.objective)
    texts = " ".join(t.get_text() for t in figure.findobj(match=_is_text)).replace("\xa0", " ")
    assert str(search.best.plan) in texts


def test_a_best_plan_that_is_not_on_the_front_is_marked_too():
    search = searched("greedy")
    off = next(o for o in search.tried if o.plan not in {f.plan for f in search.front})
    search = replace(search, best=replace(off, held_out=search.best.held_out))
    lines = chart_lines(axes_of(drawn("front", of(search))["front"]))
    assert search.best.held_out is not None
    [best] = lines["Best"].get_ydata()
    assert best == pytest.approx(search.best.held_out.value)


def test_plans_far_below_leave_an_even_axis_to_the_others():
    search = searched("greedy", base=5.0, title="log perplexity on Texts (notes)")
    search = replace(search, tried=[*search.tried, replace(search.tried[-1], objective=1e4)])
    figure = drawn("front", of(search))["front"]
    assert max(axes_of(figure).get_ylim()) < 100
    assert any(
        "1 of the plans tried are far below" in t.get_text() for t in figure.findobj(_is_text)
    )


@pytest.mark.parametrize("style", STYLES, ids=["column", "page", "slide"])
@pytest.mark.parametrize("name", thinned(["scan", "pairs", "front"]))
def test_no_text_is_cut_or_covered(name, style):
    for search in (searched("pairs"), searched("pairs", moves=MOVES[:4], base=3.0)):
        for figure in drawn(name, of(search), style=style).values():
            assert_legible(figure)


def test_many_layers_are_legible():
    search = searched("scan", layers=40, moves=("attention", "mlp", "swap"))
    for style in STYLES:
        assert_legible(drawn("scan", of(search), style=style)["scan"])
        assert_legible(drawn("front", of(search), style=style)["front"])


@pytest.mark.parametrize(
    ("name", "lacks", "told"),
    [
        ("scan", None, "impasto search SPEC.yaml --out OUT"),
        ("pairs", None, "impasto search SPEC.yaml --out OUT"),
        ("front", None, "impasto search SPEC.yaml --out OUT"),
        ("pairs", "scan", "method: pairs"),
        ("pairs", "raced", "method: pairs"),
        ("scan", "none", "method: scan"),
    ],
)
def test_what_lacks_says_how_to_get_it(name, lacks, told):
    search = None if lacks is None else searched("pairs" if lacks == "raced" else "scan")
    if search is not None and lacks == "raced":  # only some of the pairs were asked all items
        few = {Edit("attention", 0), Edit("attention", 1), Edit("mlp", 1)}
        asked = [replace(one, asked=1 if one.edits <= few else 0.5) for one in search.tried]
        search = replace(search, tried=asked)
    if search is not None and lacks == "none":
        search = replace(search, tried=[one for one in search.tried if len(one.edits) > 1])
    with pytest.raises(MissingError) as raised:
        drawn(name, of(search))
    assert told in "\n".join(raised.value.told(of(search)))


def test_a_folder_with_a_search_alone_is_drawn(tmp_path):
    searched("pairs").write(tmp_path)
    read = Found.read(tmp_path)
    assert (read.model_name, read.layers, read.tasks) == ("org/demo", 6, [])
    done = CliRunner().invoke(app, ["figures", str(tmp_path), "--format", "svg"])
    assert done.exit_code == 0, done.output
    there = {path.name for path in (tmp_path / "figures").glob("*.svg")}
    assert there == {"scan.svg", "pairs.svg", "front.svg"}
    again = CliRunner().invoke(app, ["figures", str(tmp_path), "--only", "B2"])
    assert again.exit_code == 1
    assert "skip_one" in again.output


def test_names_with_control_characters_leave_pictures_whole(tmp_path):
    search = replace(searched("scan"), model="a\x1b[31m\x07\ufffe & <b>")
    [picture] = entries_of("scan")[0].draw([of(search)])
    text = picture.svg().decode()
    assert "\x1b" not in text
    assert ElementTree.fromstring(text) is not None
    [path] = picture.save(tmp_path, ["svg"])
    assert ElementTree.parse(path) is not None


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("layers", "6"),
        ("layers", True),
        ("search", None),
        ("sentences", 3),
        ("items", 1.5),
        ("full", {"plan": "0-5"}),
        ("confirmed", [{"plan": "0-5", "task": 1}]),
        ("timed", [{"plan": "0-5", "estimated": "1"}]),
        ("references", {"a": [3]}),
    ],
)
def test_a_value_of_another_type_is_one_message(key, value, tmp_path):
    searched("scan").write(tmp_path)
    file = tmp_path / "search" / "found.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {key: value}))
    with pytest.raises(UserError, match="run the search again"):
        Found.read(tmp_path)


@pytest.mark.parametrize("text", ["[" * 100_000, "{", "\x00"])
def test_a_found_file_that_is_deep_or_cut_is_one_message(text, tmp_path):
    searched("scan").write(tmp_path)
    (tmp_path / "search" / "found.json").write_text(text)
    with pytest.raises(UserError, match="run the search again"):
        Found.read(tmp_path)


def test_a_search_that_cannot_be_read_is_one_message(tmp_path):
    searched("scan").write(tmp_path)
    (tmp_path / "search" / "found.json").write_text("{}")
    with pytest.raises(UserError, match="run the search again"):
        Found.read(tmp_path)


def test_a_study_beside_a_search_keeps_its_figures(tmp_path):
    both = replace(found(painters(6)), search=searched("scan"))
    names = {
        path.name
        for *_, paths in save_all([both], entries_of("B4,front,scan"), tmp_path, ["svg"])
        for path in paths
    }
    assert names == {"B4.svg", "front.svg", "scan.svg"}


# ---------------------------------------------------------------------- repeat_block


def repeated(tasks=TASKS, best=(1, 3)):
    def score(strategy, parameters, task):
        baseline = tasks[task][3]
        i, j = parameters["i"], parameters["j"]
        return baseline + (0.05 if (i, j) == best else -0.02 * (j - i))

    return study_frame([("repeat_block", {"i": "all", "j": "all"})], tasks, 4, score)


def test_blocks_are_drawn_as_changes_in_points_and_the_best_is_marked():
    figure = drawn("repeat_block", found(repeated()))["repeat_block"]
    values = values_of(figure)
    assert values[2, 1] == pytest.approx(5, abs=0.2)  # i = 1, j = 3: layers 1 and 2
    assert values[3, 0] == pytest.approx(-8, abs=0.2)
    assert np.isnan(values[0, 1])  # a block of no layers
    marked = [patch.get_bbox() for patch in axes_of(figure).patches if isinstance(patch, Rectangle)]
    assert [(round(box.x0), round(box.y0)) for box in marked] == [(1, 2)]
    assert "corrected for 10 plans" in " ".join(t.get_text() for t in figure.findobj(_is_text))
    for style in STYLES:
        assert_legible(drawn("repeat_block", found(repeated()), style=style)["repeat_block"])


def test_a_task_at_chance_is_left_out_and_said():
    at_chance = {**TASKS, "arc_easy": ("ARC easy", 400, 0.25, 0.26, "acc_norm")}
    figure = drawn("repeat_block", found(repeated(at_chance)))["repeat_block"]
    assert "left out: ARC easy" in " ".join(t.get_text() for t in figure.findobj(_is_text))
    with pytest.raises(MissingError, match="not above chance on ARC easy"):
        drawn("repeat_block", found(repeated({"arc_easy": at_chance["arc_easy"]})))


def test_a_study_without_blocks_says_what_to_run():
    with pytest.raises(MissingError) as raised:
        drawn("repeat_block", found(painters(6)))
    assert "repeat_block: {i: all, j: all}" in "\n".join(raised.value.told(found(painters(6))))
