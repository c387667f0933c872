"""What a study that is not finished comes to so far, and what is missing.

The database holds no table of it yet, so its tasks are loaded and its answers summed up here.
"""

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from impasto.error import UserError
from impasto.study.database.reading import Cells, StudyRow, study_tasks
from impasto.study.file.study import WrittenStudy
from impasto.study.results.collecting import Collection

NAMED = 3  # plans of a gap that are named


@dataclass(frozen=True, slots=True)
class Gap:
    """Items `start` to `stop − 1` of a task that some plans were not asked yet."""

    task: str
    start: int
    stop: int
    plans: tuple[str, ...]

    def __str__(self) -> str:
        named = ", ".join(self.plans[:NAMED])
        rest = len(self.plans) - NAMED
        more = f" and {rest} more" if rest > 0 else ""
        return f"{self.task}: items {self.start + 1} to {self.stop} under {named}{more}"


def gaps(cells: Cells) -> list[Gap]:
    """Return what is missing, shards that miss the same plans together."""
    missing: dict[tuple[str, int, int], list[str]] = {}
    for cell in cells.every:
        if cell.finished is None:
            missing.setdefault((cell.task, cell.start, cell.stop), []).append(cell.plan)
    tasks = list(dict.fromkeys(task for task, _, _ in missing))
    found: list[Gap] = []
    for task, start, stop in sorted(missing, key=lambda at: (tasks.index(at[0]), at[1])):
        gap = Gap(task, start, stop, tuple(missing[task, start, stop]))
        last = found[-1] if found else None
        if last and (last.task, last.stop, last.plans) == (task, start, gap.plans):
            found[-1] = replace(last, stop=stop)
        else:
            found.append(gap)
    return found


def rows_so_far(
    connection: sqlite3.Connection, study: WrittenStudy, found: StudyRow, cells: Cells
) -> Iterator[dict[str, Any]]:
    """Yield the rows of the table that the finished cells come to.

    Raises UserError where a task is no longer the one that was asked.
    """
    suite = study.load_suite()
    asked = study_tasks(connection, found.id)
    for task in suite.tasks:
        _, parts = asked.get(task.name, ("", {}))
        if parts.get("definition") != task.digest:
            raise UserError(
                f"{task.name} has changed since the study ran, so what it came to cannot be summed "
                "up; run the study again"
            )
    data = {name: digest for name, (digest, _) in asked.items()}
    plans = study.labelled_plans(found.layers)
    yield from Collection(suite, plans, cells, data).rows()
