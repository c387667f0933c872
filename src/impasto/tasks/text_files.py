"""Texts from a file or the hub, one at a time, so that a file of any size takes no memory.

A `.txt` file is cut at its blank lines where it has some between its lines, else every line is a
text. JSONL, JSON, CSV and Parquet files, and data sets on the hub, have a column of texts. Rows
without a word in it are passed over, as blank lines are: WikiText's have many.
"""

from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

from impasto.error import UserError
from impasto.paths import path_of
from impasto.tasks.data import HubSplit, Numbered, Row, hub_rows, reading, stream_rows, text

COLUMN, PLAIN = "text", ".txt"


def read_texts(path: str | Path, column: str = COLUMN) -> Iterator[str]:
    """Yield the texts of a file; `column` is for formats that have columns.

    Raises UserError, with file, row and column, for what cannot be read, and where there are none.
    """
    path = path_of(path, "a file of texts")
    if path.suffix == PLAIN:
        return _some(_plain_texts(path), path)
    return _some(_column(_rows(stream_rows(path, PLAIN), path), column), path)


def hub_texts(split: HubSplit, column: str = COLUMN) -> Iterator[str]:
    """Yield the texts of a split on the hub, or of the copy of it on this machine.

    Raises UserError where it cannot be had, with row and column for what cannot be read.
    """
    rows = hub_rows(split, "or give a file of texts: file: FILE.jsonl")
    return _some(_column(_rows(rows, split), column), split)


def read_labelled(path: str | Path, column: str, label: str) -> Iterator[tuple[str, str]]:
    """Yield the texts of a file with columns, each with its label; raises UserError as above."""
    path = path_of(path, "a file of texts")
    if path.suffix == PLAIN:
        raise UserError(f"{path} has no labels: give a file with columns, such as JSONL")
    rows = _rows(stream_rows(path), path)
    pairs = ((_text(row, column, at), str(_value(row, label, at))) for at, row in rows)
    return _some(pairs, path)


def _plain_texts(path: Path) -> Iterator[str]:
    with reading(path), path.open(encoding="utf-8-sig") as lines:
        paragraphs = _has_paragraphs(lines)
        lines.seek(0)
        yield from _paragraphs(lines) if paragraphs else _lines(lines)


def _has_paragraphs(lines: Iterable[str]) -> bool:
    """Say whether a blank line stands between two lines."""
    kinds = [False, True, False]  # blank or not, as they must follow one another
    for blank, _ in groupby(lines, key=lambda line: not line.strip()):
        if blank == kinds[0]:
            kinds.pop(0)
        if not kinds:
            return True
    return False


def _lines(lines: Iterable[str]) -> Iterator[str]:
    yield from (line.strip() for line in lines if line.strip())


def _paragraphs(lines: Iterable[str]) -> Iterator[str]:
    for blank, block in groupby(lines, key=lambda line: not line.strip()):
        if not blank:
            yield "".join(block).strip()


def _column(rows: Iterator[tuple[str, Row]], column: str) -> Iterator[str]:
    for at, row in rows:
        value = _value(row, column, at)
        if not isinstance(value, str) or value.strip():
            yield _text(row, column, at)


def _rows(numbered: Iterator[Numbered], source: Path | HubSplit) -> Iterator[tuple[str, Row]]:
    for number, row in numbered:
        where = f"{source}, row {number}"
        if not isinstance(row, dict):
            raise UserError(f"{where} is not a mapping of columns to values")
        yield where, row


def _text(row: Row, column: str, where: str) -> str:
    try:
        return text(_value(row, column, where))
    except ValueError as error:
        raise UserError(f"{where}, column {column!r}: {error}") from None


def _value(row: Row, column: str, where: str) -> Any:
    if row.get(column) is None:
        there = ", ".join(map(str, row)) or "none"
        raise UserError(f"{where}: the column {column!r} is missing; its columns are {there}")
    return row[column]


def _some(found: Iterator[Any], source: Path | HubSplit) -> Iterator[Any]:
    """Yield what was found; raises UserError where that is nothing."""
    empty = True
    for value in found:
        empty = False
        yield value
    if empty:
        raise UserError(f"{source} has no texts")
