"""The rows of a data set: from a file that the user has, or from the hub.

A task says which columns it reads and how: a *reader* takes a column's value and returns what the
task uses, or raises UserError saying what the value should be. Whatever is wrong is answered with
the file, the row and the column. Rows count from 1; in a JSONL file a row's number is its line.
Nothing is sampled, shuffled or mended here.
"""

import csv
import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from impasto.error import UserError, shown
from impasto.paths import path_of

Row = dict[str, Any]
Reader = Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class HubSplit:
    """One split of a data set on the hub; `config` is None where the data set has only one."""

    dataset: str
    split: str
    config: str | None = None

    def __str__(self) -> str:
        """Return how errors name it: `rajpurkar/squad (validation)`."""
        return f"{self.dataset} ({self.split})"


def load_rows(
    split: HubSplit, columns: Mapping[str, Reader], data: Mapping[str, str] | None = None
) -> list[Row]:
    """Return a split's rows: from the file that `data` gives for it, else from the hub.

    `data` is what a study writes, `{validation: squad.jsonl}`; the file has the columns of the hub.
    Raises UserError for a file or a data set that is not there, and for a malformed row.
    """
    check_data(split, data)
    if data is None:
        local = f"or give a file with its columns: data: {{{split.split}: FILE.jsonl}}"
        return _checked(hub_rows(split, local), str(split), columns)
    return read_rows(data[split.split], columns)


def check_data(split: HubSplit, data: object) -> None:
    """Raise UserError unless `data` is None or the path of a file for this split."""
    form = f"data: {{{split.split}: FILE.jsonl}}"
    if data is None:
        return
    if not isinstance(data, Mapping) or set(data) != {split.split}:
        raise UserError(
            f"the {split.split} split is what is read, so data is {form}, not {shown(data)}"
        )
    if not isinstance(data[split.split], str | Path):
        raise UserError(f"data gives the path of a file, {form}, not {shown(data[split.split])}")


def read_rows(path: str | Path, columns: Mapping[str, Reader]) -> list[Row]:
    """Return the rows of a file, each with these columns, as read; other columns are left out.

    Raises UserError as `numbered_rows` does, and naming file, row and column where the file has no
    rows or a value is not right.
    """
    return _checked(iter(numbered_rows(path)), str(path), columns)


def numbered_rows(path: str | Path) -> "list[Numbered]":
    """Return what stands in the rows of a JSONL, JSON, CSV or Parquet file, with their numbers.

    Raises UserError, naming file and row, where the file is not there or not what its ending says.
    """
    return list(stream_rows(path))


def stream_rows(path: str | Path, *others: str) -> "Iterator[Numbered]":
    """Yield what `numbered_rows` returns, row by row where the format allows it.

    `others` are the endings of files that the caller reads by itself.
    """
    path = path_of(path, "a data file")
    if path.suffix not in _FORMATS:
        raise UserError(f"{path}: data files end in {', '.join((*others, *_FORMATS))}")
    with reading(path):
        yield from _FORMATS[path.suffix](path)


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Have a file that cannot be read in the block be a UserError that says why."""
    try:
        yield
    except FileNotFoundError:
        raise UserError(f"{path} does not exist") from None
    except UnicodeDecodeError:
        raise UserError(f"{path} is not a text file in UTF-8") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from None


def hub_rows(split: HubSplit, local: str) -> "Iterator[Numbered]":
    """Yield the rows of a split on the hub, or of the copy that `datasets` keeps of it.

    `local` ends the sentence of the UserError that it raises where neither can be had: what to give
    in its place.
    """
    try:
        from datasets import load_dataset
    except ImportError:
        raise UserError(
            f"{split} comes from the hub by the package datasets: pip install datasets, {local}"
        ) from None
    try:
        rows = load_dataset(split.dataset, split.config, split=split.split)
    except (OSError, ValueError) as error:  # not reached, not found, no such split
        reason = str(error).strip().split("\n")[0]
        raise UserError(
            f"{split} is not on this machine and could not be had from the hub ({reason}); unset "
            f"HF_HUB_OFFLINE if it is set, {local}"
        ) from None
    yield from enumerate(rows, 1)


def anything(value: Any) -> Any:
    """Read a column whatever it holds, as long as it is there."""
    return value


def text(value: Any) -> str:
    """Read a column that holds text with something in it."""
    if not isinstance(value, str) or not value.strip():
        raise UserError(f"must be text, not {_short(value)}")
    return value


def optional(row: Row, column: str, where: str) -> str | None:
    """Return the text of a column that a row may have; None where it is missing or empty.

    A whole number is a text, too. Raises UserError, naming row and column, for anything else.
    """
    value = row.get(column)
    if value is None or value == "":
        return None
    try:
        return text(_as_text(value)).strip()
    except ValueError as error:
        raise UserError(f"{where}, column {column!r}: {error}") from None


def needed(row: Row, column: str, where: str) -> str:
    """Return the text of a column that a row must have; raises UserError as `optional` does."""
    found = optional(row, column, where)
    if found is None:
        there = ", ".join(map(str, row)) or "none"
        raise UserError(f"{where}: the column {column!r} is missing; its columns are {there}")
    return found


def texts_of(row: Row, column: str, where: str) -> tuple[str, ...]:
    """Return the texts of a column that holds one, or a list of them, each once.

    A cell of a table has a list as JSON: `["Kyiv", "Kiev"]`. Raises UserError as `needed` does.
    """
    value = row.get(column)
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            value = json.loads(value)
        except (json.JSONDecodeError, RecursionError):
            value = row[column]  # a text that begins with a bracket
    if not isinstance(value, list):
        return (needed(row, column, where),)
    if not value:
        raise UserError(f"{where}, column {column!r}: must be a text or a list of texts, not []")
    return tuple(dict.fromkeys(needed({column: part}, column, where) for part in value))


def labelled(task: str, label: str) -> str:
    """Return a task's name with a label of the user's behind it, in letters that names may have."""
    plain = re.sub(r"[^\w.+-]+", "-", label).strip("-")
    return f"{task}-{plain}" if plain else task


def _as_text(value: Any) -> Any:
    return str(value) if type(value) is int else value


Numbered = tuple[int, Any]  # a row's number and what stands there


def _checked(rows: Iterator[Numbered], source: str, columns: Mapping[str, Reader]) -> list[Row]:
    """Return what the columns' readers make of every row."""
    checked = []
    for number, row in rows:
        where = f"{source}, row {number}"
        if not isinstance(row, Mapping):
            raise UserError(f"{where} is not a mapping of columns to values: {_short(row)}")
        checked.append({name: _read(row, name, columns, where) for name in columns})
    if not checked:
        raise UserError(f"{source} has no rows")
    return checked


def _read(row: Mapping[str, Any], name: str, columns: Mapping[str, Reader], where: str) -> Any:
    if name not in row or row[name] is None:
        there = ", ".join(str(column) for column in row) or "none"
        raise UserError(f"{where}: the column {name!r} is missing; its columns are {there}")
    try:
        return columns[name](row[name])
    except ValueError as error:
        raise UserError(f"{where}, column {name!r}: {error}") from None


def _jsonl(path: Path) -> Iterator[Numbered]:
    with path.open(encoding="utf-8-sig") as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                yield number, _parsed(line, f"{path}, row {number}")


def _json(path: Path) -> Iterator[Numbered]:
    rows = _parsed(path.read_text(encoding="utf-8-sig"), str(path))
    if not isinstance(rows, list):
        raise UserError(f"{path} must hold one list of rows: [{{…}}, {{…}}]")
    yield from enumerate(rows, 1)


def _parsed(source: str, where: str) -> Any:
    try:
        return json.loads(source)
    except (json.JSONDecodeError, RecursionError) as error:
        raise UserError(f"{where} is not JSON: {error}") from None


def _csv(path: Path) -> Iterator[Numbered]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file, strict=True)
        number = 0
        try:
            for number, row in enumerate(reader, 1):
                if None in row:
                    raise UserError(f"{path}, row {number} has more cells than there are columns")
                yield number, row
        except csv.Error as error:
            raise UserError(f"{path}, row {number + 1} is not CSV: {error}") from None


def _parquet(path: Path) -> Iterator[Numbered]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise UserError(
            f"reading {path} takes pyarrow: pip install pyarrow, or convert it to JSONL"
        ) from None
    try:
        rows = parquet.read_table(path).to_pylist()
    except pyarrow.ArrowInvalid as error:
        raise UserError(f"{path} is not a Parquet file: {error}") from None
    yield from enumerate(rows, 1)


_FORMATS: dict[str, Callable[[Path], Iterator[Numbered]]] = {
    ".jsonl": _jsonl,
    ".json": _json,
    ".csv": _csv,
    ".parquet": _parquet,
}


def _short(value: object) -> str:
    """Return a value as an error shows it."""
    shown = repr(value)
    return shown if len(shown) <= 60 else shown[:57] + "…"
