"""Figures and tables by name: what they show of made-up studies, and what they say is missing."""

import csv
import io
import json
from itertools import count
from math import exp
from statistics import median
from typing import Any

import numpy as np
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
    study_frame,
)
from matplotlib.figure import Figure

from impasto.analysis.costs import Timing
from impasto.analysis.inside import TextStates, similarities
from impasto.analysis.inside.entropy import Entropy
from impasto.analysis.inside.probes import Probed
from impasto.analysis.inside.saved import Inside, read_inside
from impasto.error import UserError
from impasto.figures import ENTRIES, Found, MissingError, entries_of
from impasto.figures.style import LOOKS
from impasto.study import Study
from impasto.table import Table

SLOW = pytest.mark.slow


def inside(layers=12) -> Any:
    rng = np.random.default_rng(0)
    base = rng.normal(size=(1, 6, 8))
    texts = [
        TextStates(
            base + rng.normal(size=(layers + 1, 6, 8)).cumsum(0) / 4, np.arange(6) > 0, cut=False
        )
        for _ in range(5)
    ]
    shares = tuple(0.3 + 0.5 * k / layers for k in range(layers + 1))
    return Inside(
        "org/demo",
        layers,
        "texts.txt",
        similarities(texts),
        Entropy(rng.uniform(0, 3, (layers, 6)), 2.5, 5, 30),
        Probed(shares, shares, shares, 0.3, 60, 3),
    )


@pytest.fixture
def folder(tmp_path):
    """Return a folder that holds what was found inside a model."""
    for name, content in inside().files().items():
        (tmp_path / name).write_text(content, encoding="utf-8")
    return tmp_path


# ---------------------------------------------------------------------- legible


@pytest.mark.parametrize("layers", [12, *(pytest.param(n, marks=SLOW) for n in (6, 32, 80))])
def test_every_picture_of_paper_b_is_legible(layers):
    pictures = all_drawn(found(painters(layers)))
    assert {"B4", "B5", "B6", "B7", "B8", "B9", "B10", "B11", "pareto"} <= pictures.keys()
    for figure in pictures.values():
        assert_legible(figure)


@pytest.mark.parametrize("layers", [12, pytest.param(40, marks=SLOW)])
def test_every_picture_of_paper_c_is_legible(layers):
    pictures = all_drawn(found(dropping(layers)))
    assert {"drop_last", "pareto", "CT1", "CT6"} <= pictures.keys()
    for content in pictures.values():
        if isinstance(content, Figure):
            assert_legible(content)


def test_every_picture_of_the_inside_is_legible(folder):
    pictures = all_drawn(Found(folder, None, read_inside(folder)))
    assert pictures.keys() == {"B3", "B3-flattened", "C1", "entropy", "probes"}
    for figure in pictures.values():
        assert_legible(figure)


def test_a_decoder_and_an_encoder_are_drawn_below_each_other():
    [figure] = drawn("B11", found(painters()), found(encoders())).values()
    above, below = figure.axes
    assert (above.get_ylabel(), below.get_ylabel()) == ("normalised score", "average score")
    assert_legible(figure)
    [figure] = drawn("B4", found(painters()), found(encoders())).values()
    assert "Median of 3 tasks" in chart_lines(figure.axes[0])
    assert "Average of 2 tasks" in chart_lines(figure.axes[1])
    assert {"SST-2", "CoLA"} <= chart_lines(figure.axes[1]).keys()
    assert_legible(figure)


@pytest.mark.slow
def test_every_picture_of_an_encoder_is_legible():
    pictures = all_drawn(found(encoders("frozen", "fine-tuned")))
    assert pictures.keys() >= {"B2-sst2_frozen", "B2-cola_fine-tuned", "B9", "B10", "pareto"}
    assert "B10-GLUE-fine-tuned-" in pictures
    for figure in pictures.values():
        assert_legible(figure)


def test_glue_is_averaged_for_each_protocol_as_its_own_average_is():
    frame = encoders("frozen", "fine-tuned")
    [figure] = drawn("B4", found(frame)).values()
    assert len(figure.axes) == 2
    for axes, variant in zip(figure.axes, ("frozen", "fine-tuned"), strict=True):
        drawn_lines = chart_lines(axes)
        average: Any = frame[(frame["task"] == f"glue_{variant}") & (frame["strategy"] == "skip")]
        expected = {
            json.loads(row["parameters"])["n"]: row["value"] for _, row in average.iterrows()
        }
        line = drawn_lines["Average of 2 tasks"]
        assert dict(zip(*line.get_data(), strict=True)) == pytest.approx(expected)
        task = frame[(frame["task"] == f"cola_{variant}") & (frame["strategy"] == "skip")]
        quiet = drawn_lines["CoLA"]
        np.testing.assert_allclose(quiet.get_ydata(), task["value"])
        levels = {text: line.get_ydata()[0] for text, line in drawn_lines.items() if "0." in text}
        assert levels == {"Full model 0.75": 0.75, "Chance 0.25": 0.25}


# ---------------------------------------------------------------------- what they show


def test_the_median_line_is_the_median_of_normalised_scores():
    frame = painters()
    [figure] = drawn("B4", found(frame)).values()
    [axes] = figure.axes
    line = chart_lines(axes)["Median of 3 tasks"]
    for n, y in zip(*line.get_data(), strict=True):
        scores = []
        for task, (_, _, chance, baseline, _) in TASKS.items():
            row = frame[
                (frame["task"] == task)
                & (frame["strategy"] == "skip")
                & (frame["parameters"] == json.dumps({"n": int(n)}))
            ]
            scores.append((row["value"].item() - chance) / (baseline - chance))
        assert y == pytest.approx(median(scores))
    assert chart_lines(axes)["ARC easy"].get_linewidth() < line.get_linewidth()


def test_seeds_are_averaged():
    frame = painters()
    frame["value"] = frame["value"].where(frame["seed"] != 3, 0.3)
    [figure] = drawn("B7", found(frame)).values()
    line = chart_lines(figure.axes[0])["LAMBADA"]
    rows = frame[(frame["task"] == "lambada_openai") & (frame["strategy"] == "random_order")]
    mean = rows[rows["parameters"] == json.dumps({"n": 2})]["value"].mean()
    assert line.get_ydata()[1] == pytest.approx(mean / 0.7)


def test_the_best_number_of_loops_is_framed():
    [figure] = drawn("B10", found(painters())).values()
    axes = figure.axes[0]
    frames = [patch for patch in axes.patches if patch.get_height() < 1]
    assert [round(patch.get_y() + 0.47) for patch in frames] == [2] * 5  # 1, 2, [3], 5 loops
    assert [text.get_text() for text in axes.get_xticklabels()] == ["1", "3", "5", "7", "9"]


def test_all_equal_numbers_of_loops_are_framed_and_none_is_called_the_best():
    frame = painters()
    frame.loc[frame["strategy"] == "looped_parallel", ["value", "low", "high"]] = 0.6, 0.5, 0.7
    [figure] = drawn("B10", found(frame)).values()
    frames = [patch for patch in figure.axes[0].patches if patch.get_height() < 1]
    assert len(frames) == 4 * 5
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["highest of its column"]


def test_a_strategy_has_its_colour_in_every_picture():
    frame = painters()
    [together] = drawn("B11", found(frame)).values()
    lines = chart_lines(together.axes[0])
    for name, strategy in (("B4", "skip"), ("B6", "reverse"), ("B8", "parallel")):
        [alone] = drawn(name, found(frame)).values()
        colour = chart_lines(alone.axes[0])["Median of 3 tasks"].get_color()
        assert colour == LOOKS[strategy].colour == lines[LOOKS[strategy].label].get_color()


def test_looped_parallel_is_drawn_with_the_papers_three_loops():
    [figure] = drawn("B11", found(painters())).values()
    assert "Looped parallel ×3" in chart_lines(figure.axes[0])
    [figure] = drawn("B11", found(painters(loops=(1, 5)))).values()
    assert "Looped parallel ×1" in chart_lines(figure.axes[0])


def test_similarity_with_the_previous_layer_is_beside_the_matrixs_diagonal(folder):
    one = Found(folder, None, read_inside(folder))
    [figure] = drawn("C1", one).values()
    expected = np.diagonal(inside().similarity["tokens"].mean, 1)
    np.testing.assert_allclose(chart_lines(figure.axes[0])["per token"].get_ydata(), expected)
    image = drawn("B3", one)["B3"].axes[0].get_images()[0].get_array()
    np.testing.assert_allclose(image, inside().similarity["tokens"].mean)


# ---------------------------------------------------------------------- tables


def quality(name="CT3", frame=None):
    [table] = drawn(name, found(dropping() if frame is None else frame)).values()
    assert isinstance(table, Table)
    return table


def test_a_table_has_the_papers_shares_with_average_and_change():
    frame = dropping()
    table = quality(frame=frame)
    assert [row[0] for row in table.rows] == [
        "0 (full model)",
        "1 of 12 (8 %)",
        "3 of 12 (25 %)",
        "4 of 12 (33 %)",
    ]
    [full, *_, last] = rows = list(csv.DictReader(io.StringIO(table.written("csv"))))
    assert list(full)[:5] == ["model", "dropped", "ARC easy", "ARC easy low", "ARC easy high"]
    choice = json.dumps({"part": "attention", "count": 4, "keep_last": False})
    values = frame[frame["parameters"] == choice]["value"]
    titles = ("ARC easy", "HellaSwag", "LAMBADA")
    assert [float(last[title]) for title in titles] == pytest.approx(list(values))
    before = np.mean([0.75, 0.6, 0.7])
    assert float(last["change"]) == pytest.approx(values.mean() - before)
    for row in rows[1:]:
        assert float(row["change low"]) < float(row["change"]) < float(row["change high"])
    low, high = (f"{100 * float(last[f'change {end}']):+.1f}" for end in ("low", "high"))
    shown = f"{100 * (values.mean() - before):+.1f} ({low} to {high})".replace("-", "−")
    assert table.rows[-1][5] == shown


def test_tables_differ_by_part_and_by_keeping_the_last_layer():
    texts = {quality(f"CT{number}").written("csv") for number in (1, 2, 3)}
    assert len(texts) == 3
    titles = {quality(f"CT{number}").title for number in range(1, 7)}
    assert len(titles) == 6


def test_latex_and_markdown_take_any_title():
    frame = dropping()
    frame["title"] = frame["title"].replace({"ARC easy": "A_b & c | 50 % {x} \\ $y$ <i>"})
    table = quality(frame=frame)
    tex = r"A\_b \& c | 50 \% \{x\} \textbackslash{} \$y\$ \textless{}i\textgreater{}"
    assert tex in table.written("tex")
    assert r"A_b & c \| 50 % {x} \\ $y$ \<i>" in table.written("md")
    lines = [line for line in table.written("md").splitlines() if line.startswith("|")]
    assert len({line.replace(r"\|", "").count("|") for line in lines}) == 1


def test_a_study_of_other_counts_lacks_the_papers():
    with pytest.raises(MissingError) as lacking:
        quality(frame=dropping(count=[2, 5]))
    assert "drop_last: {part: all, count: [10%, 25%, 33%], keep_last: all}" in lacking.value.plans


def test_tables_of_times_have_each_parts_time_and_improvement(tmp_path):
    frame = dropping()
    digests = dict.fromkeys(frame["digest"])
    timings = [
        Timing(digest, tokens, 0.01 * (1 + i / 100) * tokens / 50, 0.0002, i / 1000, 0.001)
        for tokens in (50, 100)
        for i, digest in enumerate(digests)
    ]
    results = found(frame).results
    [table] = drawn("CT8", Found(None, results, {}, timings)).values()
    assert table.rows[0][1:] == ["2.00 ± 0.02"] * 3
    rows = list(csv.DictReader(io.StringIO(table.written("csv"))))
    choice = json.dumps({"part": "mlp", "count": 3, "keep_last": False})
    place = list(digests).index(frame[frame["parameters"] == choice]["digest"].tolist()[0])
    assert float(rows[2]["MLPs improvement"]) == pytest.approx(place / 1000)
    assert float(rows[2]["MLPs seconds"]) == pytest.approx(0.02 * (1 + place / 100))
    assert float(rows[2]["MLPs improvement error"]) == pytest.approx(0.001)
    assert f"(+{place / 10:.1f} ± 0.1 %)" in table.rows[2][2]
    some = [timing for timing in timings if timing.digest != list(digests)[place]]
    with pytest.raises(MissingError) as untimed:
        drawn("CT8", Found(None, results, {}, some))
    [said, command] = untimed.value.told(Found(tmp_path, results, {}))
    assert said == "missing times to one token after 100: of 1 of 10 plans"
    assert command.endswith(f"impasto run {tmp_path}/study.yaml --out {tmp_path} --bench")
    pictures = drawn("pareto", Found(None, results, {}, timings))
    assert pictures["pareto"].axes[0].get_xlabel() == "time to one token after 100 (ms)"
    assert "in a prefill" in pictures["pareto-operations"].axes[0].get_xlabel()


# ---------------------------------------------------------------------- what is missing


def lacking(name, *founds):
    with pytest.raises(MissingError) as error:
        list(ENTRIES[name].draw(founds))
    return error.value


@pytest.mark.parametrize("name", list(ENTRIES))
def test_what_a_figure_lacks_can_be_run(name, tmp_path):
    missing = lacking(name, Found(tmp_path, None, {}))
    if not missing.plans:
        told = missing.told(found(painters(), tmp_path))
        assert any(line.startswith("make it by:  impasto ") for line in told)
        assert str(tmp_path) in told[0]
        return
    assert missing.tasks
    assert missing.plans
    tasks = "".join(f"  - {entry}\n" for entry in missing.tasks)
    plans = "".join(f"  - {entry}\n" for entry in missing.plans)
    study = Study.from_text(f"model: demo\ntasks:\n{tasks}plans:\n{plans}", checked=True)
    plans = [plan for entry in study.plans for plan in entry.standing_in(12).expand(12)]
    assert len(plans) > 1


def test_a_folder_without_a_study_lacks_one(tmp_path):
    told = lacking("B4", Found(tmp_path, None, {})).told(Found(tmp_path, None, {}))
    assert told[-1] == f"write a study file of them, then:  impasto run STUDY.yaml --out {tmp_path}"
    told = lacking("CT7", Found(tmp_path, None, {})).told(Found(tmp_path, None, {}))
    assert told[-1].endswith(f"impasto run STUDY.yaml --out {tmp_path} --bench")


def test_a_study_whose_tasks_cannot_be_normalised_lacks_some_that_can(tmp_path):
    missing = lacking("B4", found(at_chance(painters()), tmp_path))
    assert missing.tasks
    assert missing.plans == ()
    [first, *_] = missing.told(found(painters(), tmp_path))
    assert first.startswith("the full model is not above chance on ARC easy, HellaSwag, LAMBADA")


def test_no_front_is_drawn_of_tasks_at_chance():
    missing = lacking("pareto", found(at_chance(painters())))
    assert "the full model is not above chance on ARC easy" in missing.reason


def at_chance(frame):
    """Return a study whose full model only guesses."""
    guessed = frame.assign(chance=0.25, baseline=0.25)
    return guessed.assign(value=guessed["value"].where(guessed["strategy"] != "baseline", 0.25))


def test_a_study_with_tasks_lacks_only_plans_and_the_command_runs_it_again(tmp_path):
    missing = lacking("B4", found(dropping(), tmp_path))
    assert (missing.tasks, missing.plans) == ((), ("skip: {n: all}",))
    assert missing.told(found(dropping(), tmp_path)) == [
        "missing plans, as a study file has them:",
        "  - skip: {n: all}",
        f"add to {tmp_path / 'study.yaml'}, then:  "
        f"impasto run {tmp_path / 'study.yaml'} --out {tmp_path}",
    ]
    missing = lacking("A2", found(painters(), tmp_path))
    assert missing.tasks == ("capitals",)


def test_figures_are_named_in_any_letters_and_a_wrong_name_lists_them():
    assert [entry.name for entry in entries_of("b11, a2,B11")] == ["B11", "A2"]
    assert len(entries_of(None)) == len(ENTRIES)
    with pytest.raises(UserError, match="no figure 'B1'") as error:
        entries_of("B1")
    assert all(f"  {name} " in f"{error.value} " for name in ENTRIES)
    with pytest.raises(UserError, match="takes names"):
        entries_of(" , ")


def test_what_was_written_of_the_inside_reads_as_it_was(folder):
    back: Any = read_inside(folder)
    for measure, similarity in inside().similarity.items():
        read = back["similarity"].similarity[measure]
        np.testing.assert_array_equal(read.mean, similarity.mean)
        np.testing.assert_array_equal(read.half_width, similarity.half_width)
        assert (read.texts, read.tokens) == (5, 25)
    np.testing.assert_array_equal(back["entropy"].entropy.mean, inside().entropy.mean)
    assert back["probes"].probed == inside().probed
    table = list(csv.reader(io.StringIO((folder / "similarity.csv").read_text())))
    assert len(table) == 1 + 2 * 13 * 13


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"model": "m", "layers": 3, "source": "s", "texts": 1}', "\x00"]
)
def test_files_that_are_not_ours_are_users_mistakes(content, tmp_path):
    (tmp_path / "similarity.json").write_text(content)
    with pytest.raises(UserError, match="not what impasto wrote"):
        read_inside(tmp_path)


def test_a_matrix_of_another_size_is_refused(folder):
    content = json.loads((folder / "similarity.json").read_text())
    (folder / "similarity.json").write_text(json.dumps(content | {"layers": 5}))
    with pytest.raises(UserError, match="not what impasto wrote"):
        read_inside(folder)


def test_tasks_without_a_level_of_chance_are_left_out_of_the_median():
    frame = painters()
    frame.loc[frame["task"] == "hellaswag", "chance"] = float("nan")
    [figure] = drawn("B4", found(frame)).values()
    assert "Median of 2 tasks" in chart_lines(figure.axes[0])
    assert "HellaSwag" not in chart_lines(figure.axes[0])


def test_many_tasks_have_each_a_line_that_can_be_told():
    names = count()
    tasks = {f"t{i}": (f"A task with number {next(names)}", 200, 0.2, 0.8, "acc") for i in range(8)}
    [figure] = drawn("B4", found(painters(tasks=tasks))).values()
    assert_legible(figure)
    lines = chart_lines(figure.axes[0])
    styles = {(line.get_linestyle(), line.get_marker()) for line in lines.values()}
    assert len(styles) >= 6


@pytest.mark.parametrize("study", [painters, dropping])
def test_scores_that_are_no_numbers_stop_no_picture(study):
    frame = study()
    some = frame["task"] == "hellaswag"
    frame.loc[some & (frame.index % 3 == 0), "value"] = float("nan")
    assert all_drawn(found(frame)).keys() >= {"pareto"}
    frame["value"] = float("nan")
    all_drawn(found(frame))
    frame["metric"] = "perplexity"
    all_drawn(found(frame))


# ---------------------------------------------------------------------- selectors


def selected(strategies=("block_influence", "one_shot", "drop_last")):
    """Return a study of chosen layers; what selectors choose harms less than the last layers."""
    order = " ".join(map(str, (3, 1, 2, 4, 0, 5)))
    choices = {
        "block_influence": {"count": "all", "order": order},
        "one_shot": {"part": "all", "count": "all", "order": order},
        "drop_last": {"part": ["block", "mlp"], "count": "all"},
    }
    slope = {"block_influence": 0.2, "one_shot": 0.4, "drop_last": 1.0}
    frame = study_frame(
        [(name, choices[name]) for name in strategies],
        TASKS,
        6,
        lambda strategy, parameters, task: 0.7 * exp(-slope[strategy] * parameters["count"] / 6),
    )
    parameters = [json.loads(text) for text in frame["parameters"]]
    without = [json.dumps({k: v for k, v in one.items() if k != "order"}) for one in parameters]
    return frame.assign(parameters=without)


def test_selectors_are_series_by_count_beside_the_last_layers():
    lines = chart_lines(drawn("selectors", found(selected()))["selectors"].axes[0])
    parts = ["Attention, one-shot", "MLPs, one-shot", "Layers, one-shot"]
    assert [label for label in lines if not label.startswith("Full")] == [
        "Layers by block influence",
        *parts,
        "The last layers",
    ]
    assert list(lines["Layers by block influence"].get_xdata()) == list(range(6))
    above = zip(
        lines["Layers by block influence"].get_ydata()[1:],
        lines["The last layers"].get_ydata()[1:],
        strict=True,
    )
    assert all(one > other for one, other in above)


def test_without_a_selector_the_figure_says_what_to_run(tmp_path):
    missing = lacking("selectors", found(selected(["drop_last"]), tmp_path))
    assert missing.plans[0] == "block_influence: {count: all, texts: {file: FILE.txt}}"
