"""Writing down what a study needs before it runs: its tasks, plans, cells, and units of work.

What is there already, by its key, is not needed again. Nothing here asks a model.
"""

import json
import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from impasto.plan import Plan
from impasto.study.work.identity import Identity, cell_key, study_digest
from impasto.study.work.units import Unit, plan_groups, shard_starts, unit_seconds
from impasto.tasks import Fitted, Task

Expected = Callable[[], Mapping[str, float | None]]  # seconds for each task under all its plans


class _Shard(NamedTuple):
    id: int
    start: int
    stop: int


@dataclass(frozen=True)
class NeededTask:
    """A task of the study: what it is, and the plans that run on it, each once.

    `asked` is how many of its items are asked by now, in their order, and `most` how many may be.
    """

    task: Task
    identity: Identity
    plans: Sequence[Plan]
    asked: int
    most: int


@dataclass(frozen=True)
class Need:
    """All that a study needs.

    Attributes:
        name: What the study is called.
        file: The study as YAML.
        model_name: What the model is called.
        layers: How many layers it has.
        model: What it is.
        engine: What computes.
        tasks: The tasks with their plans.
        seconds: About how long a unit of work may take.
        workers: How many there are to answer units.
        expected: Tells how long each task takes if it is asked all that it may be; only asked where
            something is to be run.
        memory: The bytes that a batch may take; None where nobody knows.
    """

    name: str
    file: str
    model_name: str
    layers: int
    model: Identity
    engine: Identity
    tasks: Sequence[NeededTask]
    seconds: float
    workers: int
    expected: Expected
    memory: int | None

    @property
    def digest(self) -> str:
        """A sha256 over what makes it another study, however it is called to run."""
        tasks = [needed.identity.digest for needed in self.tasks]
        return study_digest(self.file, self.model.digest, self.engine.digest, tasks)


@dataclass(frozen=True)
class Registered:
    """A study in the database, how many cells it has, and the units that are still to be run."""

    study: int
    cells: int
    units: Sequence[Unit]
    fresh: Mapping[str, int]  # by task: cells that no run had asked for before


def register(connection: sqlite3.Connection, need: Need) -> Registered:
    """Write a study down, in a transaction of the caller's, and return what is left to run."""
    return _Register(connection, need).all()


class _Register:
    """One study on its way into the database."""

    def __init__(self, connection: sqlite3.Connection, need: Need) -> None:
        self._sql, self._need = connection, need
        self._seconds: Mapping[str, float | None] | None = None
        self._model = self._row(
            "models",
            need.model.digest,
            layers=need.layers,
            parts=json.dumps(dict(need.model.parts)),
        )
        self._engine = self._row(
            "engines", need.engine.digest, parts=json.dumps(dict(need.engine.parts))
        )

    def all(self) -> Registered:
        study = self._study()
        cells: list[int] = []
        units: list[Unit] = []
        fresh: dict[str, int] = {}
        for number, needed in enumerate(self._need.tasks):
            task = self._task(needed)
            values = [study, number, task]
            self._sql.execute("INSERT OR REPLACE INTO study_tasks VALUES (?, ?, ?)", values)
            for shard in self._shards(needed, task):
                of_shard, new = self._cells(needed, shard)
                cells += of_shard
                units += self._units(needed, shard, dict(zip(of_shard, needed.plans, strict=True)))
                fresh[needed.task.name] = fresh.get(needed.task.name, 0) + new
        self._sql.execute("DELETE FROM study_cells WHERE study = ?", [study])
        self._sql.executemany(
            "INSERT INTO study_cells VALUES (?, ?, ?)",
            ((study, number, cell) for number, cell in enumerate(cells)),
        )
        # what another study had begun to divide and this one divided anew
        self._sql.execute(
            "DELETE FROM units WHERE id NOT IN (SELECT unit FROM cells WHERE unit IS NOT NULL)"
        )
        return Registered(study, len(cells), units, fresh)

    def _study(self) -> int:
        need = self._need
        study = self._row(
            "studies",
            need.digest,
            name=need.name,
            file=need.file,
            model_name=need.model_name,
            model=self._model,
            engine=self._engine,
        )
        self._sql.execute("UPDATE studies SET memory = ? WHERE id = ?", [need.memory, study])
        return study

    def _task(self, needed: NeededTask) -> int:
        """Return a task's row; its items are written down the first time."""
        task, identity = needed.task, needed.identity
        parts = json.dumps(dict(identity.parts))
        found = self._row("tasks", identity.digest, name=task.name, title=task.title, parts=parts)
        self._sql.executemany(
            "INSERT OR IGNORE INTO items VALUES (?, ?, ?)",
            ((found, position, item.id) for position, item in enumerate(task.items)),
        )
        return found

    def _shards(self, needed: NeededTask, task: int) -> list[_Shard]:
        """Return the shards of what is asked as they were first made for this model, or make them.

        A shard that was made before is asked whole, if no more is asked than may be.
        """
        query = (
            "SELECT id, start, stop FROM shards WHERE task = ? AND model = ? AND start = ? "
            "AND stop <= ? ORDER BY stop DESC LIMIT 1"
        )
        found: list[_Shard] = []
        while (reached := found[-1].stop if found else 0) < needed.asked:
            values = [task, self._model, reached, needed.most]
            row = self._sql.execute(query, values).fetchone()
            if row is None:
                self._divide(needed, task, reached)
                row = self._sql.execute(query, values).fetchone()
            found.append(_Shard(*row))
        return found

    def _divide(self, needed: NeededTask, task: int, start: int) -> None:
        """Make shards of the items from `start` on that are asked."""
        count = needed.asked - start
        starts = [0]  # a head is fitted once for all that it is asked
        if not isinstance(needed.task, Fitted):
            seconds = self._expected(needed)
            if seconds is not None:
                seconds *= count / needed.most
            starts = shard_starts(count, seconds, self._each())
        self._sql.executemany(
            "INSERT INTO shards (task, model, start, stop) VALUES (?, ?, ?, ?)",
            [
                (task, self._model, start + a, start + b)
                for a, b in zip(starts, [*starts[1:], count], strict=True)
            ],
        )

    def _cells(self, needed: NeededTask, shard: _Shard) -> tuple[list[int], int]:
        """Return the cells of a shard, by plan, and how many of them are new."""
        of = (self._need.model.digest, self._need.engine.digest, needed.identity.digest)
        ids, new = [], 0
        for plan in needed.plans:
            key = cell_key(*of, plan.digest, shard.start, shard.stop)
            row = self._sql.execute("SELECT id FROM cells WHERE key = ?", [key]).fetchone()
            if row is None:
                written = self._row("plans", plan.digest, line=str(plan))
                row = self._sql.execute(
                    "INSERT INTO cells (key, plan, shard) VALUES (?, ?, ?) RETURNING id",
                    [key, written, shard.id],
                ).fetchone()
                new += 1
            ids.append(row[0])
        return ids, new

    def _units(self, needed: NeededTask, shard: _Shard, plan_of: Mapping[int, Plan]) -> list[Unit]:
        """Return the units of a shard that are still to be run.

        One that was planned before is run as it was planned; all else is divided now.
        """
        planned, loose = self._planned(plan_of)
        units = dict(planned)
        seconds = self._expected(needed) if loose else None
        if seconds is not None:  # for all its plans and items
            share = (shard.stop - shard.start) / needed.most
            seconds *= share * len(loose) / len(plan_of)
        cell_of = {plan_of[cell]: cell for cell in loose}
        for plans in plan_groups(list(cell_of), seconds, self._each()) if loose else ():
            expected = None if seconds is None else seconds * len(plans) / len(loose)
            unit = self._sql.execute(
                "INSERT INTO units (shard, engine, expected) VALUES (?, ?, ?) RETURNING id",
                [shard.id, self._engine, expected],
            ).fetchone()[0]
            units[unit] = sorted(cell_of[plan] for plan in plans)
            self._sql.executemany(
                "UPDATE cells SET unit = ? WHERE id = ?", ((unit, cell) for cell in units[unit])
            )
        return [
            self._unit(needed, shard, unit, [plan_of[c] for c in units[unit]]) for unit in units
        ]

    def _planned(self, wanted: Iterable[int]) -> tuple[dict[int, list[int]], list[int]]:
        """Return the cells of units that can be run as they were planned, and all other cells."""
        query = "SELECT unit, finished FROM cells WHERE id = ?"
        planned: dict[int, list[int]] = {}
        loose: list[int] = []
        for cell in wanted:
            unit, finished = self._sql.execute(query, [cell]).fetchone()
            if finished is None:
                (loose if unit is None else planned.setdefault(unit, [])).append(cell)
        query = "SELECT id FROM cells WHERE unit = ? ORDER BY id"
        for unit, cells in list(planned.items()):
            if [row[0] for row in self._sql.execute(query, [unit])] != sorted(cells):
                loose += planned.pop(unit)
            else:
                cells.sort()
        return planned, sorted(loose)

    def _unit(self, needed: NeededTask, shard: _Shard, unit: int, plans: Sequence[Plan]) -> Unit:
        query = "SELECT expected FROM units WHERE id = ?"
        [expected] = self._sql.execute(query, [unit]).fetchone()
        return Unit(unit, needed.task.name, shard.start, shard.stop, tuple(plans), expected)

    def _expected(self, needed: NeededTask) -> float | None:
        """Return how many seconds a task takes if it is asked all that it may be.

        That is counted when it is first asked for.
        """
        return self._all_expected().get(needed.task.name)

    def _all_expected(self) -> Mapping[str, float | None]:
        if self._seconds is None:
            self._seconds = self._need.expected()
        return self._seconds

    def _each(self) -> float:
        """Return how many seconds a unit that is divided now is to take."""
        expected = [
            seconds and seconds * needed.asked / needed.most
            for needed in self._need.tasks
            for seconds in [self._all_expected().get(needed.task.name)]
        ]
        return unit_seconds(self._need.seconds, expected, self._need.workers)

    def _row(self, table: str, digest: str, **columns: object) -> int:
        """Return the row of this digest, with its columns brought up to date."""
        names = ["digest", *columns]
        query = (
            f"INSERT INTO {table} ({', '.join(names)}) VALUES ({', '.join('?' * len(names))}) "
            f"ON CONFLICT (digest) DO UPDATE SET {', '.join(f'{n} = excluded.{n}' for n in names)} "
            "RETURNING id"
        )
        return self._sql.execute(query, [digest, *columns.values()]).fetchone()[0]
