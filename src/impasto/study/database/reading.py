"""Reading a results database: a study's cells and records, its table, and how far it is.

Nothing here writes, and records are read as they are asked for.
"""

import json
import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

from impasto.error import UserError, shown
from impasto.study.database.checking import LARGEST, plan_fault
from impasto.study.database.engines import parts_today
from impasto.study.database.records import Alike, metrics_of, parsed, tuples_of
from impasto.study.database.saving import ROW
from impasto.tasks.metrics import metric_of

CELLS = """
    SELECT cells.id, tasks.name, plans.digest, plans.line, shards.start, tasks.id,
           cells.finished, cells.truncated, cells.not_finite, cells.exact, shards.stop
    FROM study_cells
    JOIN cells ON cells.id = study_cells.cell
    JOIN shards ON shards.id = cells.shard
    JOIN tasks ON tasks.id = shards.task
    JOIN plans ON plans.id = cells.plan
    WHERE study_cells.study = ? ORDER BY study_cells.number
"""


@dataclass(frozen=True, slots=True)
class Cell:
    """One plan on items `start` to `stop − 1` of a task; `finished` is None before it has run."""

    id: int
    task: str
    digest: str
    plan: str
    start: int
    task_id: int
    finished: float | None
    truncated: int | None
    not_finite: int | None
    exact: bool | None
    stop: int


class Cells:
    """A study's cells, and what was said to the items of those that are finished."""

    def __init__(self, connection: sqlite3.Connection, study: int) -> None:
        self._sql, self._study, self._alike = connection, study, Alike()

    @cached_property
    def every(self) -> Sequence[Cell]:
        """All cells as they are now, finished or not, in the study's order."""
        return [Cell(*row) for row in self._sql.execute(CELLS, [self._study])]

    @cached_property
    def finished(self) -> Mapping[tuple[str, str], Sequence[Cell]]:
        """The finished cells by task and plan's digest, in the study's order, each list by items.

        Only what has any is there.
        """
        found: dict[str, dict[str, list[Cell]]] = defaultdict(lambda: defaultdict(list))
        for cell in self.every:
            if cell.finished is not None:
                found[cell.task][cell.digest].append(cell)
        return {
            (task, digest): sorted(cells, key=lambda cell: cell.start)
            for task, plans in found.items()
            for digest, cells in plans.items()
        }

    def positions(self, task: str, digest: str) -> list[int]:
        """Return which of a task's items a plan was asked, by their places in the task."""
        return [i for cell in self.finished[task, digest] for i in range(cell.start, cell.stop)]

    def is_exact(self, task: str, digest: str) -> bool:
        """Say whether the saved metrics are the judged ones to the last bit."""
        return all(cell.exact for cell in self.finished[task, digest])

    def metrics(self, task: str, digest: str) -> Iterator[dict[str, Any]]:
        """Yield each item's metrics as they were saved."""
        for cell in self.finished[task, digest]:
            query = "SELECT position, metrics FROM records WHERE cell = ? ORDER BY position"
            for [text] in whole(cell, self._sql.execute(query, [cell.id])):
                yield metrics_of(self._alike.metrics(task, text))

    def responses(self, task: str, digest: str) -> Iterator[tuple[Any, ...]]:
        """Yield what was said to each item's requests."""
        for cell in self.finished[task, digest]:
            query = "SELECT position, responses FROM records WHERE cell = ? ORDER BY position"
            for [text] in whole(cell, self._sql.execute(query, [cell.id])):
                yield tuples_of(self._alike.responses(task, text))

    def truncated(self, task: str) -> int:
        """Return how many of a task's items did not fit the model's context."""
        for (name, _), cells in self.finished.items():
            if name == task:
                return sum(cell.truncated or 0 for cell in cells)
        return 0

    def not_finite(self, task: str, digest: str) -> int:
        """Return how many items have a score that is no finite number."""
        return sum(cell.not_finite or 0 for cell in self.finished.get((task, digest), ()))


def whole(
    cell: Cell, rows: Iterable[tuple[Any, ...]], start: int | None = None, stop: int | None = None
) -> Iterator[tuple[Any, ...]]:
    """Yield what rows have behind their position; raises UserError unless a cell has all of them.

    Those of its items from `start` up to `stop`, or of all.
    """
    expected = cell.start if start is None else start
    for position, *rest in rows:
        if position != expected:
            break
        expected += 1
        yield (*rest,)
    if expected != (cell.stop if stop is None else stop):
        raise UserError(
            f"the answer to item {expected + 1} of {cell.task} under {shown(cell.plan)} is "
            "missing, though the database says that all were answered: it is damaged"
        )


@dataclass(frozen=True)
class StudyRow:
    """A study of one model as the database knows it."""

    id: int
    name: str
    file: str
    finished: float | None
    memory: int | None
    model: str
    layers: int
    model_digest: str
    model_parts: Mapping[str, str]
    engine: str


def study_row(connection: sqlite3.Connection, study: int | str) -> StudyRow | None:
    """Return a study of one model by its row's id or its digest; None where there is none."""
    row = connection.execute(
        f"""
        SELECT studies.id, studies.name, file, finished, memory, model_name, layers,
               models.digest, models.parts, engines.digest
        FROM studies JOIN models ON models.id = model JOIN engines ON engines.id = engine
        WHERE studies.{"id" if isinstance(study, int) else "digest"} = ?
        """,
        [study],
    ).fetchone()
    if row is None:
        return None
    names = [field.name for field in fields(StudyRow)]
    found = dict(zip(names, row, strict=True))
    return StudyRow(**found | {"model_parts": parsed(found["model_parts"])})


def table_rows(connection: sqlite3.Connection, study: StudyRow) -> list[dict[str, Any]]:
    """Return the rows of a finished study's table, with what they can be traced by.

    Raises UserError where one's plan is none, or not the one that its digest tells, and for a
    value that its metric cannot have.
    """
    query = f"SELECT number, {', '.join(ROW)} FROM results WHERE study = ? ORDER BY number"
    numbered = connection.execute(query, [study.id]).fetchall()
    rows: list[dict[str, Any]] = [dict(zip(ROW, row, strict=True)) for _, *row in numbered]
    fault = next(filter(None, map(_fault, rows)), "") or _unlike(rows)
    if [number for number, *_ in numbered] != list(range(len(rows))):
        fault = "rows are missing"
    if fault:
        raise UserError(f"the table of the study {study.name} is damaged: {fault}")
    return [traces(study) | row for row in rows]


def _fault(row: Mapping[str, Any]) -> str:
    """Say what is wrong with a row of a table; nothing where it is right."""
    values = [row[name] for name in ("value", "baseline", "chance") if row[name] is not None]
    if metric_of(row["metric"]).is_bounded and not all(abs(each) <= LARGEST for each in values):
        return f"{shown(row['metric'])} has a value without end"
    return plan_fault(row["plan"], row["digest"])


def _unlike(rows: Sequence[Mapping[str, Any]]) -> str:
    """Say which plan has rows that are not alike under all its labels; nothing where none has."""
    labels: dict[tuple[str, str], dict[str, list[Any]]] = {}
    for row in rows:
        label = tuple(row[name] for name in ("strategy", "k", "seed", "parameters", "plan"))
        by_metric = labels.setdefault((row["task"], row["digest"]), {})
        by_metric.setdefault(row["metric"], []).append(label)
    for (task, _), by_metric in labels.items():
        if len({frozenset(found) for found in by_metric.values()}) > 1:
            return f"not all rows of {shown(task)} under a plan are of the same labels"
        if any(len(set(found)) < len(found) for found in by_metric.values()):
            return f"a plan has a metric of {shown(task)} twice"
    return ""


def traces(study: StudyRow) -> dict[str, Any]:
    """Return what every row of a study's table can be traced by."""
    return {
        "study": study.name,
        "model": study.model,
        "layers": study.layers,
        "weights": study.model_parts.get("weights", study.model_digest),
        "engine": study.engine,
    }


def study_tasks(connection: sqlite3.Connection, study: int) -> dict[str, tuple[str, Any]]:
    """Return each of a study's tasks by name: its digest, and its parts, as when it was asked."""
    query = "SELECT name, digest, parts FROM study_tasks JOIN tasks ON tasks.id = task "
    rows = connection.execute(query + "WHERE study = ?", [study])
    return {name: (digest, parsed(parts)) for name, digest, parts in rows}


def last_run(connection: sqlite3.Connection, studies: Sequence[int]) -> dict[str, Any] | None:
    """Return the last run of some studies: command, versions, host, pid and times."""
    names = ("study", "command", "versions", "host", "pid", "began", "ended", "outcome")
    row = connection.execute(
        f"SELECT {', '.join(names)} FROM runs WHERE study IN (SELECT value FROM json_each(?)) "
        "ORDER BY id DESC LIMIT 1",
        [json.dumps(list(studies))],
    ).fetchone()
    if row is None:
        return None
    run = dict(zip(names, row, strict=True))
    return run | {"versions": parsed(run["versions"])}


def model_digests(connection: sqlite3.Connection) -> list[str]:
    """Return the digests of all models that a database knows."""
    return [row[0] for row in connection.execute("SELECT digest FROM models")]


def known_weights(connection: sqlite3.Connection, stamp: str) -> str | None:
    """Return the digest of the weights in files that were read before."""
    row = connection.execute("SELECT digest FROM weights WHERE stamp = ?", [stamp]).fetchone()
    return None if row is None else row[0]


def last_basis(
    connection: sqlite3.Connection, task: str, model: str
) -> dict[str, Mapping[str, str]] | None:
    """Return what the last finished cells of a task on a model depended on: their parts.

    Both by what they are called. By `task`, `model` and `engine`; None where no such task was ever
    finished on such a model.
    """
    row = connection.execute(
        """
        SELECT tasks.parts, models.parts, engines.parts
        FROM cells JOIN shards ON shards.id = cells.shard JOIN tasks ON tasks.id = shards.task
        JOIN models ON models.id = shards.model JOIN units ON units.id = cells.unit
        JOIN engines ON engines.id = units.engine
        WHERE tasks.name = ? AND cells.finished IS NOT NULL
              AND models.id IN (SELECT model FROM studies WHERE model_name = ?)
        ORDER BY cells.finished DESC LIMIT 1
        """,
        [task, model],
    ).fetchone()
    if row is None:
        return None
    parts = map(parsed, row)
    basis: dict[str, Mapping[str, str]] = dict(zip(("task", "model", "engine"), parts, strict=True))
    return basis | {"engine": parts_today(basis["engine"])}


def counts(connection: sqlite3.Connection, study: int) -> tuple[int, int]:
    """Return how many of a study's cells are finished, and how many it has."""
    query = (
        "SELECT count(finished), count(*) FROM study_cells JOIN cells ON cells.id = cell "
        "WHERE study = ?"
    )
    return connection.execute(query, [study]).fetchone()


def task_counts(connection: sqlite3.Connection, study: int) -> dict[str, tuple[int, int]]:
    """Return, by task in the study's order, how many cells are finished and how many there are."""
    query = """
        SELECT tasks.name, count(finished), count(*) FROM study_cells
        JOIN cells ON cells.id = cell JOIN shards ON shards.id = shard
        JOIN tasks ON tasks.id = shards.task
        WHERE study = ? GROUP BY tasks.id ORDER BY min(study_cells.number)
    """
    return {name: (done, of) for name, done, of in connection.execute(query, [study])}


@dataclass(frozen=True, slots=True)
class UnitTimes:
    """What a study's units took, and what is left of them.

    `answers` counts items under plans. `expected` and `expected_left` are the seconds foreseen for
    what is finished and what is not; None where nobody knew. `saved` is when the last one was.
    """

    answers: int
    seconds: float
    expected: float | None
    answers_left: int
    expected_left: float | None
    saved: float | None


def unit_times(connection: sqlite3.Connection, study: int) -> UnitTimes:
    """Return how the time of a study's units has been spent."""
    rows = connection.execute(
        """
        SELECT units.expected, timings.seconds, sum(stop - start), max(finished)
        FROM study_cells JOIN cells ON cells.id = cell JOIN units ON units.id = cells.unit
        JOIN shards ON shards.id = cells.shard LEFT JOIN timings ON timings.unit = units.id
        WHERE study = ? GROUP BY units.id
        """,
        [study],
    ).fetchall()
    done = [row for row in rows if row[1] is not None]
    left = [row for row in rows if row[1] is None]
    return UnitTimes(
        answers=sum(row[2] for row in done),
        seconds=sum(row[1] for row in done),
        expected=None if any(row[0] is None for row in done) else sum(row[0] for row in done),
        answers_left=sum(row[2] for row in left),
        expected_left=None if any(row[0] is None for row in left) else sum(row[0] for row in left),
        saved=max((row[3] for row in done), default=None),
    )
