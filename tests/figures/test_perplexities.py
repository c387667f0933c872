"""Studies of metrics without a range: logarithmic axes with the best on top, geometric means."""

import csv
import io
from math import log

import numpy as np
import pandas as pd
import pytest
from made_up import (
    all_drawn,
    assert_legible,
    chart_lines,
    drawn,
    found,
    painters,
    perplexities,
)
from matplotlib.figure import Figure

from impasto.figures.scale import ratio_ticks, scale_of, spelled
from thinning import thinned

TEXTS = ("wikitext", "lambada")
LINES = ("depth-wikitext", "B2-wikitext", *(f"B{n}" for n in (4, 5, 6, 7, 8, 9, 11)), "drop_last")


@pytest.mark.parametrize("tasks", [TEXTS[:1], TEXTS])
def test_every_figure_of_a_perplexity_is_logarithmic_with_the_best_on_top(tasks):
    pictures = all_drawn(found(perplexities(tasks=tasks)))
    tables = {f"CT{n}" for n in range(1, 7)}
    assert pictures.keys() >= {*LINES, "B10", "pareto", *tables}
    for name in (*LINES, "pareto"):
        for axes in pictures[name].axes:
            assert axes.get_yscale() == "log"
            assert axes.yaxis_inverted()
            assert axes.get_ylabel().replace("\n", " ") == (
                "perplexity (log scale, lower is better)"
            )
            levels = {label for label in chart_lines(axes) if label.endswith(" 5")}
            assert levels <= {"Baseline 5", "Full model 5"}
            assert levels
    for content in pictures.values():
        if isinstance(content, Figure):
            assert_legible(content)


@pytest.mark.parametrize("metric", thinned(["bits_per_byte", "kl", "byte_perplexity"]))
def test_a_divergence_of_none_is_drawn_too(metric):
    frame = perplexities(metric=metric)
    if metric == "kl":
        frame = frame.assign(value=frame["value"] - 5, baseline=0.0)
    pictures = all_drawn(found(frame))
    assert pictures.keys() >= {*LINES, "B10", "CT1"}
    for content in pictures.values():
        if isinstance(content, Figure):
            assert_legible(content)
    [axes] = pictures["depth-wikitext"].axes
    line = chart_lines(axes)["Freeze"]
    best = axes.transData.transform((12, line.get_ydata()[-1]))[1]
    assert best > axes.transData.transform((0, line.get_ydata()[0]))[1]
    if metric == "kl":
        assert line.get_ydata()[-1] == 0
        assert "0" in [text.get_text() for text in axes.get_yticklabels()]


def test_several_perplexities_come_to_their_geometric_mean():
    frame = perplexities(tasks=TEXTS)
    frame["value"] = frame["value"].where(frame["task"] == "wikitext", frame["value"] ** 2)
    [figure] = drawn("B4", found(frame)).values()
    line = chart_lines(figure.axes[0])["Geometric mean of 2 tasks"]
    alone = chart_lines(figure.axes[0])["Wikitext"]
    np.testing.assert_allclose(line.get_ydata(), np.array(alone.get_ydata()) ** 1.5)


def test_the_best_loops_are_those_of_the_lowest_perplexity():
    [figure] = drawn("B10", found(perplexities())).values()
    frames = [patch for patch in figure.axes[0].patches if patch.get_height() < 1]
    assert {round(patch.get_y() + 0.47) for patch in frames} == {1}  # of 1, [3], 5 loops


def test_tables_say_by_which_share_a_perplexity_grows():
    [table] = drawn("CT1", found(perplexities())).values()
    assert table.columns == ["dropped", "Wikitext", "change of perplexity"]
    rows = list(csv.DictReader(io.StringIO(table.written("csv"))))
    for row in rows[1:]:
        value, change = float(row["Wikitext"]), float(row["change of perplexity"])
        assert change == pytest.approx(value / 5 - 1)
        assert float(row["change of perplexity low"]) < change
        assert change < float(row["change of perplexity high"])
    assert "%" not in table.rows[0][1]
    first, last = (float(row["change of perplexity"]) for row in (rows[1], rows[-1]))
    assert table.rows[1][2].startswith(f"+{100 * first:.1f} % (+")
    assert table.rows[-1][2].startswith(f"×{1 + last:.3g} (×")


def test_shares_and_perplexities_are_drawn_below_each_other():
    frame = pd.concat([painters(), perplexities()], ignore_index=True)
    for name in ("B4", "B11", "pareto"):
        [figure] = drawn(name, found(frame)).values()
        above, below = (axes for axes in figure.axes if axes.get_ylabel())
        assert above.get_yscale() == "linear"
        assert below.get_yscale() == "log"
        assert_legible(figure)


def test_what_is_measured_of_texts_is_shown_beside_their_perplexity():
    frame = perplexities()
    kl = frame.assign(metric="kl", value=[log(value / 5) for value in frame["value"]], baseline=0.0)
    agrees = frame.assign(metric="agreement", value=5 / frame["value"], baseline=1.0, stderr=0.01)
    [figure] = drawn("depth", found(pd.concat([agrees, kl, frame], ignore_index=True))).values()
    perplexity, divergence, agreement = figure.axes
    assert (perplexity.get_yscale(), divergence.get_yscale()) == ("log", "symlog")
    assert agreement.get_yscale() == "linear"
    assert agreement.get_ylabel() == "agreement with the full model (%)"
    assert_legible(figure)


@pytest.mark.parametrize(
    ("low", "high"), [(5, 6), (1.01, 1.02), (3, 40), (1, 1e4), (2, 1e20), (1e-9, 1e-3)]
)
def test_a_logarithmic_axis_has_some_round_ticks(low, high):
    ticks = ratio_ticks(low, high)
    assert 2 <= len(ticks) <= 10
    assert all(low <= tick <= high for tick in ticks)
    assert len({spelled(tick) for tick in ticks}) == len(ticks)
    assert max(len(spelled(tick)) for tick in ticks) <= 7


def test_numbers_are_spelled_as_they_are_read():
    assert [spelled(number) for number in (0, 0.5, 20, 20_000, 3e6, 1e12, 1e-7)] == [
        "0", "0.5", "20", "20,000", "3×10⁶", "10¹²", "10⁻⁷",
    ]  # fmt: skip
    assert scale_of("perplexity").say(1234.5) == "1,230"
    assert scale_of("acc").say(0.5) == "50.0 %"
    assert scale_of("bleu", [24.5]).label == "bleu"


def test_a_lower_share_can_be_better_too():
    brier = scale_of("brier_score", [0.2, 0.4])
    assert (brier.form, brier.turned) == ("plain", True)
    assert brier.label == "Brier score (lower is better)"


def test_without_errors_no_interval_is_claimed():
    frame = perplexities().assign(stderr=float("nan"))
    for name in ("B4", "drop_last", "depth", "pareto"):
        for figure in drawn(name, found(frame)).values():
            told = " ".join(t.get_text() for t in figure.findobj() if hasattr(t, "get_text"))
            assert "95 %" not in told
