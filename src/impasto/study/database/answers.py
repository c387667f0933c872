"""The single answers of a study, read from its database as they are asked for."""

import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

from impasto.study.database.reading import Cell, Cells, study_tasks, whole
from impasto.study.database.records import Alike


class RecordedAnswers(Sequence[Mapping[str, Any]]):
    """A record of every task, plan and item of a study, read from the database when asked for."""

    def __init__(self, connect: Callable[[], sqlite3.Connection], study: int) -> None:
        self._connect, self._study, self._alike = connect, study, Alike()

    @cached_property
    def _sql(self) -> sqlite3.Connection:
        return self._connect()

    @cached_property
    def _finished(self) -> list[Cell]:
        found = Cells(self._sql, self._study).finished
        return [cell for cells in found.values() for cell in cells]

    @property
    def definitions(self) -> dict[str, str]:
        """The digests that the study's tasks had when they were asked, by name."""
        tasks = study_tasks(self._sql, self._study)
        return {name: parts["definition"] for name, (_, parts) in tasks.items()}

    def __len__(self) -> int:
        return sum(cell.stop - cell.start for cell in self._finished)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for cell in self._finished:
            yield from self._records(cell, cell.start, cell.stop)

    def __getitem__(self, at: Any) -> Any:
        if isinstance(at, slice):
            return [self[i] for i in range(*at.indices(len(self)))]
        wanted = at if at >= 0 else len(self) + at
        for cell in self._finished:
            count = cell.stop - cell.start
            if 0 <= wanted < count:
                return next(self._records(cell, cell.start + wanted, cell.start + wanted + 1))
            wanted -= count
        raise IndexError(f"there is no answer {at}: there are {len(self)}")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or len(self) != len(other):
            return NotImplemented if not isinstance(other, Sequence) else False
        return all(ours == theirs for ours, theirs in zip(self, other, strict=True))

    def __hash__(self) -> int:
        return id(self)

    def __repr__(self) -> str:
        return f"<{len(self):,} answers>"

    def _records(self, cell: Cell, start: int, stop: int) -> Iterator[dict[str, Any]]:
        rows = self._sql.execute(
            "SELECT position, name, responses, metrics FROM records JOIN items USING (position) "
            "WHERE cell = ? AND task = ? AND position >= ? AND position < ? ORDER BY position",
            [cell.id, cell.task_id, start, stop],
        )
        for item, *texts in whole(cell, rows, start, stop):
            responses, metrics = self._alike.answer(cell.task, *texts)
            yield {
                "task": cell.task,
                "digest": cell.digest,
                "plan": cell.plan,
                "item": item,
                "responses": responses,
                "metrics": metrics,
            }
