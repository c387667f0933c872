"""The writer of tables: the same values in every form, and lines that people read."""

import json

import pandas as pd
import pytest

from impasto.table import FORMS, Table, aligned

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
    assert set(FORMS) == {"csv", "json", "md", "tex"}
