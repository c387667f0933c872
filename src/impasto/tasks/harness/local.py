"""A task's data from the user's files instead of the hub, in the columns of the hub.

Rows are checked for being alike before lm-eval sees them: a row that lacks a column, or has a text
where the others have a number, is answered with its file, row and column.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from impasto.error import UserError
from impasto.tasks.data import numbered_rows


@dataclass(slots=True)
class LocalData:
    """The files that stand in for the data sets of a task or a group's tasks.

    `paths` is the file of each split; `served` the tasks that have been given their data.
    """

    paths: Mapping[str, str]
    subset_column: str | None
    served: dict[str, Any] = field(default_factory=dict)  # the settings of each
    _rows: dict[str, list[tuple[int, dict[str, Any]]]] = field(default_factory=dict)

    def splits(self, name: str, config: Any) -> Any:
        """Return a task's data set, of the type that lm-eval reads; see lm-eval's TaskConfig.

        Splits that the task could read and that no file is given for are empty. Raises UserError
        for files that are not there or malformed, and where none is for the split that it asks.
        """
        from datasets import Dataset, DatasetDict

        known = _splits(config)
        for split in self.paths:
            if split not in known:
                raise UserError(f"{name} reads no split {split!r}; it reads {', '.join(known)}")
        asked = config.test_split or config.validation_split
        if asked not in self.paths:
            raise UserError(f"{name} asks its split {asked!r}, so data needs {{{asked}: FILE}}")
        given = {
            split: [row for _, row in self._subset(name, split, config.dataset_name)]
            for split in self.paths
        }
        found = {split: Dataset.from_list(rows) for split, rows in given.items()}
        empty = found[asked].select([])
        self.served[name] = config
        return DatasetDict({split: found.get(split, empty) for split in known})

    def place(self, name: str, config: Any, document: int) -> str:
        """Return where one of a task's documents was read: `arc.jsonl, row 12`."""
        split = config.test_split or config.validation_split
        numbers = [number for number, _ in self._subset(name, split, config.dataset_name)]
        row = f", row {numbers[document]}" if document < len(numbers) else ""
        return f"{self.paths[split]}{row}"

    def latest(self) -> str:
        """Return what an error begins with that came up at the task that was served last."""
        if not self.served:
            return ""
        name, config = list(self.served.items())[-1]
        rows = self._subset(name, config.test_split or config.validation_split, config.dataset_name)
        columns = ", ".join(rows[0][1])
        return f"{self.place(name, config, 0)} has the columns {columns}; with these "

    def _subset(
        self, name: str, split: str, subset: str | None
    ) -> Sequence[tuple[int, dict[str, Any]]]:
        """Return a split's numbered rows; of the task's own subset where the file holds several."""
        path = self.paths[split]
        if path not in self._rows:
            self._rows[path] = list(_checked(path))
        rows, column = self._rows[path], self.subset_column
        if column is None:
            return rows
        if column not in rows[0][1]:
            columns = ", ".join(rows[0][1])
            raise UserError(f"{path} has no column {column!r}; its columns are {columns}")
        mine = [(number, row) for number, row in rows if row[column] == subset]
        if not mine:
            raise UserError(f"{path} has no row whose {column} is {subset!r}, for {name}")
        return mine


def _splits(config: Any) -> list[str]:
    """Return the splits that a task may read, in the order of their use."""
    named = (
        config.test_split,
        config.validation_split,
        config.training_split,
        config.fewshot_split,
        getattr(config.fewshot_config, "split", None),
    )
    return list(dict.fromkeys(split for split in named if split))


def _checked(path: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield a file's numbered rows; raises UserError where one is unlike those before it."""
    kinds: dict[str, tuple[str, int]] = {}  # by column: its kind, and the row that showed it
    columns: Mapping[str, Any] | None = None
    rows = numbered_rows(path)
    for number, row in _typed(rows) if path.endswith(".csv") else rows:
        where = f"{path}, row {number}"
        if not isinstance(row, dict):
            raise UserError(f"{where} is not a mapping of columns to values")
        columns = row if columns is None else columns
        for column in columns:
            if column not in row:
                raise UserError(
                    f"{where}: the column {column!r} is missing; row {rows[0][0]} has it"
                )
        for column, kind in _kinds(row):
            known, first = kinds.setdefault(column, (kind, number))
            if kind != known:
                raise UserError(
                    f"{where}, column {column!r}: this is {kind}, and in row {first} {known}"
                )
        yield number, row
    if columns is None:
        raise UserError(f"{path} has no rows")


def _kinds(value: Any, column: str = "") -> Iterator[tuple[str, str]]:
    """Yield the kind of every value in a row, under its column: `choices.text` is a text."""
    if isinstance(value, Mapping):
        if column:
            yield column, "a mapping"
        for key, inner in value.items():
            yield from _kinds(inner, f"{column}.{key}" if column else str(key))
    elif isinstance(value, list):
        yield column, "a list"
        for inner in value:
            yield from _kinds(inner, f"{column}[]")
    elif isinstance(value, bool):
        yield column, "true or false"
    elif isinstance(value, int | float):
        yield column, "a number"
    elif value is not None:
        yield column, "a text"


def _typed(rows: Sequence[tuple[int, Any]]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the rows of a CSV file with whole columns of numbers read as numbers."""
    table = [row for _, row in rows]
    readers = {column: _reader([row[column] for row in table]) for column in table[0]}
    for number, row in rows:
        yield number, {column: readers[column](row[column]) for column in readers}


def _reader(cells: Sequence[str]) -> Any:
    """Return what reads all cells of a column: whole numbers, numbers, or text as it is."""
    for kind in (int, float):
        try:
            list(map(kind, cells))
        except (ValueError, TypeError):
            continue
        return kind
    return lambda cell: cell
