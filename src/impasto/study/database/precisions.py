"""How precisely a study knows changes, kept so that others need not work it out."""

import sqlite3
from collections.abc import Sequence
from dataclasses import fields

from impasto.study.work.precision import Reached

NAMES = [field.name for field in fields(Reached)]


def save_precisions(connection: sqlite3.Connection, study: int, reached: Sequence[Reached]) -> None:
    """Save how precisely a study knows changes, in a transaction of the caller's."""
    connection.execute("DELETE FROM precisions WHERE study = ?", [study])
    marks = ", ".join("?" * (len(NAMES) + 2))
    connection.executemany(
        f"INSERT INTO precisions (study, number, {', '.join(NAMES)}) VALUES ({marks})",
        (
            [study, number, *(getattr(each, name) for name in NAMES)]
            for number, each in enumerate(reached)
        ),
    )


def precisions(connection: sqlite3.Connection, study: int) -> list[Reached]:
    """Return how precisely a study knows changes, by task or group, in the study's order."""
    query = f"SELECT {', '.join(NAMES)} FROM precisions WHERE study = ? ORDER BY number"
    rows = connection.execute(query, [study])
    return [Reached(*row[:-1], is_done=bool(row[-1])) for row in rows]
