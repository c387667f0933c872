"""The writer of tables: the same values in every form, and lines that people read."""

import csv
import io
import json

import pandas as pd
import pytest

from impasto.table import FORMS, Code, Table, aligned

NAN, INF = float("nan"), float("inf")
VALUES = Table(("plan", "score", "n"), [("[1 | 2]", 0.123456, 3), ('a "b"\n', NAN, None)])


def test_csv_is_that_of_pandas():
    frame = pd.DataFrame(
        {
            "text": ["a|b", 'c "d",\n'],
            "whole": pd.array([1, None], dtype="Int64"),
            "number": [0.1, NAN],
            "large": [INF, 1e-300],
            "flag": [True, False],
        }
    )
    ours = Table.of_frame(frame).written("csv")
    assert ours == frame.to_csv(index=False, lineterminator="\n")


def test_what_is_missing_or_no_finite_number_is_null_in_json():
    table = Table(("a", "b", "c"), [(NAN, INF, None), (1, 0.5, True)])
    assert json.loads(table.written("json")) == [
        {"a": None, "b": None, "c": None},
        {"a": 1, "b": 0.5, "c": True},
    ]


def test_markdown_keeps_bars_within_their_cells_and_leaves_empty_what_is_missing():
    head, rule, first, *_ = VALUES.written("md").splitlines()
    assert (head, rule) == ("| plan | score | n |", "| --- | --- | --- |")
    assert first == r"| [1 \| 2] | 0.1235 | 3 |"
    assert VALUES.written("md").endswith(" |  |  |\n")


def test_a_table_with_a_title_has_its_numbers_to_the_right_and_its_note_below():
    table = Table(("a", "b"), [("x", "50 %")], title="T", note="Of 100.")
    assert table.written("md") == "**T**\n\n| a | b |\n| --- | ---: |\n| x | 50 % |\n\nOf 100.\n"
    assert r"\begin{tabular}{lr}" in table.written("tex")
    assert r"x & 50 \% \\" in table.written("tex")


@pytest.mark.parametrize("form", ["csv", "json"])
def test_a_table_of_texts_has_its_numbers_in_full_where_they_are_computed_with(form):
    table = Table(("a",), [("0.1",)], numbers=[(0.123456, 7)], number_columns=("a", "more"))
    assert "0.123456" in table.written(form)
    assert "more" in table.written(form)
    assert "more" not in table.written("md") + table.written("tex")


def test_every_column_is_as_wide_as_its_widest_cell():
    lines = [["plan", "ms"], ["0-3", "12.5"], ["0-31", "7"]]
    assert list(aligned(lines)) == ["plan  ms", "0-3   12.5", "0-31  7"]
    assert list(aligned(lines, right=(1,))) == ["plan    ms", "0-3   12.5", "0-31     7"]
    assert list(Table(("a", "b"), [(0.5, None)], digits=".2f").lines()) == ["a     b", "0.50"]


def test_records_become_rows():
    table = Table.of_records([{"a": 1, "b": 2.0}, {"a": 3, "b": NAN}])
    assert table.written("csv") == "a,b\n1,2.0\n3,\n"
    assert set(FORMS) == {"csv", "html", "json", "md", "tex"}


FORMULAS = ["=1+1", "+cmd|' /C calc'!A0", "-2+3", "−2+3", "@SUM(1)", "\t=1"]


@pytest.mark.parametrize("text", FORMULAS)
def test_a_formula_is_a_text_in_a_spreadsheet(text):
    written = Table(("name", "n"), [(text, 1)]).written("csv")
    [row] = csv.DictReader(io.StringIO(written, newline=""))
    assert row == {"name": f"'{text}", "n": "1"}


def test_no_character_of_a_text_begins_a_row_of_its_own():
    written = Table(("name", "n"), [("a\r=1", 1), ("b\x1b[m", 2)]).written("csv")
    assert written == "name,n\na\\x0d=1,1\nb\\x1b[m,2\n"


def test_numbers_and_other_texts_are_read_back_as_they_are():
    frame = pd.DataFrame({"text": ["a", "0-3", "-1.5", "b=c"], "number": [-0.5, 1e-9, -3.0, NAN]})
    read = pd.read_csv(io.StringIO(Table.of_frame(frame).written("csv")))
    pd.testing.assert_frame_equal(read, frame, check_dtype=False)


def test_markup_is_text_in_markdown():
    cells = (
        "<img src=x>",
        "[a](http://b)",
        "a | b \\| c",
        "`code` *b* _c_ d_e",
        "a\n\n# b",
        "&lt;",
    )
    [*_, line] = Table(("x",) * 6, [cells]).written("md").splitlines()
    assert line == (
        r"| \<img src=x> | [a]\(http://b) | a \| b \\\| c "
        r"| \`code\` \*b\* \_c\_ d_e | a  # b | \&lt; |"
    )
    [*_, line] = Table(("x", "y"), [(Code("[1|2]"), Code("a`b"))]).written("md").splitlines()
    assert line == r"| `[1\|2]` | `` a`b `` |"


def test_latex_takes_any_text():
    text = Table(("x", "y"), [("[8-23]", "<a>\n\x1b%")], title="T").written("tex")
    assert r"{}[8-23] & \textless{}a\textgreater{} " in text
    assert "\x1b" not in text
