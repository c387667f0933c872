"""Saving what a study finds: a unit's cells all at once, then the table that they came to.

Only the one process that drives a study writes, always in transactions.
"""

import json
import sqlite3
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from impasto.study.database.opening import transaction
from impasto.study.database.records import encoded, is_exact, is_finite
from impasto.study.work.scoring import Judged
from impasto.study.work.units import Answered, Unit

ROW = (  # a row of the table, as `results` has it
    "task", "title", "part_of", "strategy", "k", "seed", "parameters", "plan", "digest", "metric",
    "value", "stderr", "n", "chance", "baseline", "truncated", "not_finite", "data",
)  # fmt: skip


def save_unit(
    connection: sqlite3.Connection,
    unit: Unit,
    answered: Answered,
    judged: Sequence[Sequence[Judged]],
) -> None:
    """Save all cells of a unit, their records by plan and item, and mark them as finished."""
    query = "SELECT cells.id, plans.digest FROM cells JOIN plans ON plans.id = plan WHERE unit = ?"
    with transaction(connection):
        cell_of = {digest: cell for cell, digest in connection.execute(query, [unit.id])}
        for plan, records in zip(unit.plans, judged, strict=True):
            cell = cell_of[plan.digest]
            connection.executemany(
                "INSERT INTO records VALUES (?, ?, ?, ?)",
                (
                    (cell, position, *encoded(record))
                    for position, record in enumerate(records, unit.start)
                ),
            )
            connection.execute(
                "UPDATE cells SET finished = ?, truncated = ?, not_finite = ?, exact = ? "
                "WHERE id = ?",
                [
                    time.time(),
                    answered.truncated,
                    sum(not is_finite(record) for record in records),
                    all(map(is_exact, records)),
                    cell,
                ],
            )
        connection.execute(
            "INSERT INTO timings VALUES (?, ?, ?, ?, ?)",
            [unit.id, answered.began, answered.seconds, answered.host, answered.device],
        )


def save_table(
    connection: sqlite3.Connection, study: int, rows: Iterable[Mapping[str, Any]]
) -> None:
    """Save the table that a study came to, in place of an earlier one, and mark it as finished."""
    marks = ", ".join("?" * (len(ROW) + 2))
    with transaction(connection):
        connection.execute("DELETE FROM results WHERE study = ?", [study])
        connection.executemany(
            f"INSERT INTO results (study, number, {', '.join(ROW)}) VALUES ({marks})",
            ([study, number, *(row[name] for name in ROW)] for number, row in enumerate(rows)),
        )
        connection.execute("UPDATE studies SET finished = ? WHERE id = ?", [time.time(), study])


def begin_run(
    connection: sqlite3.Connection,
    study: int,
    *,
    command: str,
    versions: Mapping[str, str],
    host: str,
    pid: int,
) -> int:
    """Write down that a process begins to run a study."""
    with transaction(connection):
        return connection.execute(
            "INSERT INTO runs (study, command, versions, host, pid, began) "
            "VALUES (?, ?, ?, ?, ?, ?) RETURNING id",
            [study, command, json.dumps(dict(versions)), host, pid, time.time()],
        ).fetchone()[0]


def end_run(connection: sqlite3.Connection, run: int, outcome: str) -> None:
    """Write down how a run ended: finished, stopped or failed."""
    with transaction(connection):
        connection.execute(
            "UPDATE runs SET ended = ?, outcome = ? WHERE id = ?", [time.time(), outcome, run]
        )
