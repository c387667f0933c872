"""Pictures for print and screen: their width, their letters, error bars, and what a pdf holds."""

import re

import matplotlib as mpl
import numpy as np
import pytest
from made_up import (
    all_drawn,
    assert_legible,
    drawn,
    dropping,
    encoders,
    found,
    painters,
    perplexities,
)
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.text import Text
from test_figures import sweep_frame

from impasto.error import UserError
from impasto.figures import ENTRIES, style_of
from thinning import thinned

COLUMN, PAGE, SLIDE = style_of(width="8.8"), style_of(width="17cm"), style_of("slide")
STYLES = {
    "column": COLUMN,
    "page": PAGE,
    "slide": SLIDE,
    "untitled": style_of("paper", "12", False),
}
SLOW = pytest.mark.slow
STUDIES = {
    "sweep": lambda: [found(sweep_frame())],
    "painters": lambda: [found(painters(6))],
    "dropping": lambda: [found(dropping())],
    "encoders": lambda: [found(encoders("frozen", "fine-tuned"))],
    "perplexities": lambda: [found(perplexities(6))],
    "models": lambda: [found(painters(6)), found(painters(8), model="org/other")],
    "three": lambda: [found(sweep_frame(), model=f"org/m{at}") for at in range(3)],
}


@pytest.mark.parametrize(
    "style", ["column", "slide", *(pytest.param(s, marks=SLOW) for s in ("page", "untitled"))]
)
@pytest.mark.parametrize("study", thinned(list(STUDIES), 4))
def test_no_text_is_cut_or_covered_at_any_width(study, style):
    pictures = all_drawn(*STUDIES[study](), style=STYLES[style])
    assert pictures
    for content in pictures.values():
        if isinstance(content, Figure):
            assert content.get_size_inches()[0] == pytest.approx(STYLES[style].width)
            assert_legible(content)
            assert largest_axes(content) > 0.3 * STYLES[style].width


def largest_axes(figure):
    """Return the width of the widest axes in inches."""
    return max(axes.get_window_extent().width for axes in figure.axes) / figure.dpi


def sizes(figure):
    return {text.get_fontsize() for text in figure.findobj(Text) if text.get_text().strip()}


def test_letters_keep_their_size_whatever_the_width():
    [narrow] = drawn("A2", found(sweep_frame()), style=COLUMN).values()
    [wide] = drawn("A2", found(sweep_frame()), style=PAGE).values()
    [slide] = drawn("A2", found(sweep_frame()), style=SLIDE).values()
    assert sizes(narrow) == sizes(wide)
    assert min(sizes(slide)) > 1.5 * min(sizes(wide))


def test_without_a_title_the_axes_say_the_rest():
    [figure] = drawn("A2", found(sweep_frame()), style=style_of(titles=False)).values()
    texts = {text.get_text() for text in figure.findobj(Text)}
    assert not any("questions" in text or "Capitals" in text for text in texts)
    assert "accuracy (%)" in texts
    [figure] = drawn("drop_last", found(dropping()), style=style_of(titles=False)).values()
    assert [axes.get_title() for axes in figure.axes] == [
        "up to the last layer",
        "the last layer is kept",
    ]


def test_a_title_says_manipulation_task_metric_model_and_questions(tmp_path):
    [picture] = ENTRIES["A2"].draw([found(sweep_frame())])
    svg = picture.save(tmp_path, ["svg"])[0].read_text(encoding="utf-8")
    for said in (
        "Capitals: manipulated from depth k on",
        "demo, 12 layers",
        "accuracy",
        "194 questions",
    ):
        assert f">{said}" in svg or said in svg


def test_a_pdf_embeds_truetype_letters(tmp_path):
    [picture] = ENTRIES["A2"].draw([found(sweep_frame())])
    content = picture.save(tmp_path, ["pdf"])[0].read_bytes()
    assert b"/FontFile2" in content
    assert b"/Subtype /Type3" not in content


@pytest.mark.parametrize("name", ["B4", "B11", "B2", "A2", "drop_last"])
def test_every_point_shows_its_interval(name):
    frame = sweep_frame() if name == "A2" else dropping() if name == "drop_last" else painters()
    for figure in drawn(name, found(frame)).values():
        for axes in figure.axes:
            bars = [part for part in axes.collections if isinstance(part, LineCollection)]
            assert sum(len(part.get_segments()) for part in bars) > 3


def test_a_single_point_shows_its_interval():
    frame = painters()
    only = frame[(frame["strategy"] != "skip") | (frame["parameters"] == '{"n": 2}')]
    [figure] = drawn("B4", found(only)).values()
    [bars] = [part for part in figure.axes[0].collections if isinstance(part, LineCollection)]
    [[(x, low), (_, high)]] = bars.get_segments()
    assert x == 2
    assert low < high


@pytest.mark.parametrize(
    ("text", "inches"),
    [("8.8", 8.8 / 2.54), ("8.8cm", 8.8 / 2.54), ("88 mm", 8.8 / 2.54), ("3.5in", 3.5)],
)
def test_a_width_is_read_in_three_units(text, inches):
    assert style_of(width=text).width == pytest.approx(inches)


@pytest.mark.parametrize("text", ["", "wide", "-3", "0", "1cm", "3000", "8.8pt", "nan"])
def test_what_is_no_width_is_refused(text):
    with pytest.raises(UserError, match="wide" if text in ("0", "1cm", "3000") else "a width is"):
        style_of(width=text)


def test_an_unknown_style_is_refused():
    with pytest.raises(UserError, match="paper or slide"):
        style_of("poster")


def test_styles_change_nothing_outside():
    before = dict(mpl.rcParams)
    drawn("B4", found(painters(6)), style=SLIDE)
    assert dict(mpl.rcParams) == before


def test_other_loops_are_drawn_in_other_shades_and_named():
    [figure] = drawn("B9", found(painters(loops=(1, 2, 3, 5)))).values()
    lines = {line.get_label(): line for line in figure.axes[0].get_lines()}
    shades = [lines[label].get_color() for label in ("Median of 3 tasks, ×3", "×1", "×2", "×5")]
    assert len(set(shades)) == 4
    [figure] = drawn("B11", found(painters(loops=(1, 3)))).values()
    told = " ".join(text.get_text() for text in figure.findobj(Text))
    assert "looped parallel: 3 loops, as in the paper" in told


def test_the_axes_of_one_figure_hold_one_n():
    for name in ("B2", "B4", "drop_last"):
        frame = dropping() if name == "drop_last" else painters()
        for figure in drawn(name, found(frame)).values():
            assert not figure.axes[0].get_xlabel().startswith("n")
            assert len(figure.axes[0].get_xlabel().split()) > 3


def test_a_front_names_its_plans_and_leaves_out_those_that_only_study():
    [figure] = drawn("pareto", found(sweep_frame_with_plans())).values()
    told = " ".join(text.get_text() for text in figure.findobj(Text))
    assert "which only study a model" in told
    families = {line.get_label() for line in figure.axes[0].get_lines()}
    assert "Gaussian noise" not in families
    assert np.isfinite(figure.axes[0].get_xlim()).all()


@pytest.mark.parametrize("style", [COLUMN, PAGE, SLIDE])
@pytest.mark.parametrize("study", thinned(["dropping", "perplexities", "models"]))
def test_a_letter_stands_at_its_plans_point_or_a_line_leads_there(study, style):
    [figure] = drawn("pareto", *STUDIES[study](), style=style).values()
    figure.draw_without_rendering()
    near = 1.5 * style.font * figure.dpi / 72
    for axes in figure.findobj(Axes):
        lines = {text.xy for text in axes.texts if not text.get_text()}
        for letter in (text for text in axes.texts if len(text.get_text()) == 1):
            x, y = axes.transData.transform(letter.xy)
            box = letter.get_window_extent()
            distance = np.hypot(max(box.x0 - x, x - box.x1, 0), max(box.y0 - y, y - box.y1, 0))
            assert distance <= near or letter.xy in lines, letter.get_text()


def test_the_letters_of_a_list_stand_apart_in_an_svg_too(tmp_path):
    [figure] = drawn("pareto", found(dropping()), style=COLUMN).values()
    figure.savefig(tmp_path / "pareto.svg")
    shown = re.sub(r"[ \n]+", " ", (tmp_path / "pareto.svg").read_text(encoding="utf-8"))
    spaces = [len(gap) for gap in re.findall("(\u00a0+)[a-z]\u00a0+[0-9]", shown)]
    assert min(spaces, default=0) >= 4


def sweep_frame_with_plans():
    """Return a study of freezes and noise whose plans are those of the strategies."""
    return perplexities()
