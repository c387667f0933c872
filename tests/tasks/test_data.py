"""Rows come from files or the hub, and what is wrong is named with file, row and column."""

import json

import pytest

from impasto.error import UserError
from impasto.tasks.data import HubSplit, anything, load_rows, read_rows, text

ROWS = [{"id": "a", "question": "Why?", "n": 1}, {"id": "b", "question": "Wer, Äh?", "n": 2}]
COLUMNS = {"id": text, "question": text}
WANTED = [{"id": "a", "question": "Why?"}, {"id": "b", "question": "Wer, Äh?"}]
SPLIT = HubSplit("someone/nothing-of-this-name", "validation")


def jsonl(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def parquet(path, rows):
    arrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet as files

    files.write_table(arrow.Table.from_pylist(rows), path)
    return path


def test_the_same_rows_come_from_every_format(tmp_path):
    (tmp_path / "rows.json").write_text(json.dumps(ROWS))
    (tmp_path / "rows.csv").write_text(
        'id,question,n\na,Why?,1\nb,"Wer, Äh?",2\n', encoding="utf-8"
    )
    paths = [
        jsonl(tmp_path / "rows.jsonl", ROWS),
        tmp_path / "rows.json",
        tmp_path / "rows.csv",
        parquet(tmp_path / "rows.parquet", ROWS),
    ]
    assert [read_rows(path, COLUMNS) for path in paths] == [WANTED] * 4


def test_nested_values_keep_their_form(tmp_path):
    rows = [{"answers": {"text": ["x", "y"], "answer_start": [1, 2]}}]
    for path in (
        jsonl(tmp_path / "r.jsonl", rows),
        parquet(tmp_path / "r.parquet", rows),
    ):
        assert read_rows(path, {"answers": anything}) == rows


def test_a_byte_order_mark_and_empty_lines_do_no_harm(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"id": "a"}\n\n{"id": ""}\n', encoding="utf-8-sig")
    with pytest.raises(UserError, match="row 3, column 'id'"):  # the line that an editor shows
        read_rows(path, {"id": text})
    assert read_rows(path, {"id": anything}) == [{"id": "a"}, {"id": ""}]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"id": "a", "question": "?"}, {"id": "b"}], "row 2: the column 'question' is missing"),
        ([{"id": None, "question": "?"}], "row 1: the column 'id' is missing"),
        ([{"id": 3, "question": "?"}], "row 1, column 'id': must be text, not 3"),
        ([{"id": "a", "question": " "}], "row 1, column 'question': must be text"),
        ([[1, 2]], "row 1 is not a mapping"),
        ([], "has no rows"),
    ],
)
def test_a_malformed_row_is_named_with_its_file_row_and_column(tmp_path, rows, message):
    path = jsonl(tmp_path / "rows.jsonl", rows)
    with pytest.raises(UserError, match=message) as caught:
        read_rows(path, COLUMNS)
    assert str(caught.value).startswith(str(path))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("r.jsonl", b'{"id": "a", "question": "?"}\n{"id":', "row 2 is not JSON"),
        ("r.jsonl", b'{"id": "\xff"}', "not a text file in UTF-8"),
        ("r.jsonl", b"[" * 100_000, "row 1 is not JSON"),
        ("r.json", b'{"id": "a"}', "one list of rows"),
        ("r.csv", b"id,question\na,b,c\n", "row 1 has more cells"),
        ("r.csv", b"id,question\na\n", "row 1: the column 'question' is missing"),
        ("r.csv", b'id,question\na,b\nc,"d', "row 2 is not CSV"),
        ("r.parquet", b"no parquet", "not a Parquet file"),
        ("r.txt", b"", r"data files end in \.jsonl, \.json, \.csv, \.parquet"),
    ],
)
def test_a_file_that_is_not_what_it_should_be_is_named(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        read_rows(path, COLUMNS)
    assert str(path) in str(caught.value)


def test_a_file_that_is_not_there_or_is_a_folder_is_named(tmp_path):
    with pytest.raises(UserError, match=r"none\.jsonl does not exist"):
        read_rows(tmp_path / "none.jsonl", COLUMNS)
    (tmp_path / "folder.jsonl").mkdir()
    with pytest.raises(UserError, match=r"folder\.jsonl cannot be read"):
        read_rows(tmp_path / "folder.jsonl", COLUMNS)


def test_a_split_is_read_from_the_file_that_stands_in_for_it(tmp_path):
    path = jsonl(tmp_path / "rows.jsonl", ROWS)
    assert load_rows(SPLIT, COLUMNS, {"validation": str(path)}) == WANTED


@pytest.mark.parametrize("data", [{"test": "x.jsonl"}, {}, "x.jsonl", {"validation": 3}])
def test_data_for_another_split_is_refused(data):
    with pytest.raises(UserError, match=r"data: \{validation: FILE\.jsonl\}"):
        load_rows(SPLIT, COLUMNS, data)


def test_a_data_set_that_cannot_be_had_says_what_to_give_instead(monkeypatch):
    datasets = pytest.importorskip("datasets")

    def load_dataset(*args, **options):
        raise ConnectionError("Couldn't reach it on the Hub (OfflineModeIsEnabled)")

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    with pytest.raises(UserError, match="is not on this machine") as caught:
        load_rows(SPLIT, COLUMNS)
    assert "someone/nothing-of-this-name (validation)" in str(caught.value)
    assert "data: {validation: FILE.jsonl}" in str(caught.value)


def test_rows_of_the_hub_are_checked_like_those_of_a_file(monkeypatch):
    datasets = pytest.importorskip("datasets")
    seen = []

    def load_dataset(*args, **options):
        seen.append((args, options))
        return datasets.Dataset.from_list(ROWS[:1])

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    assert load_rows(HubSplit("a/b", "test", "3.0.0"), COLUMNS) == WANTED[:1]
    assert seen == [(("a/b", "3.0.0"), {"split": "test"})]
    with pytest.raises(UserError, match=r"a/b \(test\), row 1: the column 'answer' is missing"):
        load_rows(HubSplit("a/b", "test"), {"answer": text})
