"""Searches as they were asked for, and how far each is."""

import json
import sqlite3
import time
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from impasto.error import UserError, shown
from impasto.study.database.checking import LATEST
from impasto.study.database.opening import transaction

FOLDER, FOUND, TRIED = "search", "found.json", "tried.csv"
FILES = (FOUND, TRIED)  # that a search writes to its folder


@dataclass(frozen=True, slots=True)
class SearchRow:
    """A search as the database knows it; `outcome` is None while it runs, or where it was killed.

    `share` is how much of it is done, about, `doing` what it is at; `plans` were asked anything.
    """

    id: int
    name: str
    model_name: str
    share: float
    doing: str
    plans: int
    command: str
    host: str
    pid: int
    began: float
    ended: float | None
    outcome: str | None


def begin_search(
    connection: sqlite3.Connection,
    file: str,
    *,
    name: str,
    model: str,
    command: str,
    host: str,
    pid: int,
) -> int:
    """Write down that a search is run, and return its row."""
    values = {
        "file": file,
        "name": name,
        "model_name": model,
        "share": 0.0,
        "doing": "beginning",
        "plans": 0,
        "command": command,
        "host": host,
        "pid": pid,
        "began": time.time(),
        "ended": None,
        "outcome": None,
    }
    names = ", ".join(values)
    changed = ", ".join(f"{name} = excluded.{name}" for name in values)
    query = (
        f"INSERT INTO searches ({names}) VALUES ({', '.join('?' * len(values))}) "
        f"ON CONFLICT (file) DO UPDATE SET {changed} RETURNING id"
    )
    with transaction(connection):
        return connection.execute(query, [*values.values()]).fetchone()[0]


def note_search(
    connection: sqlite3.Connection, search: int, share: float, doing: str, plans: int
) -> None:
    """Write down how far a search is."""
    query = "UPDATE searches SET share = ?, doing = ?, plans = ? WHERE id = ?"
    with transaction(connection):
        connection.execute(query, [share, doing, plans, search])


def end_search(connection: sqlite3.Connection, search: int, outcome: str) -> None:
    """Write down how the run of a search ended: finished, stopped or failed."""
    query = "UPDATE searches SET ended = ?, outcome = ? WHERE id = ?"
    with transaction(connection):
        connection.execute(query, [time.time(), outcome, search])


def kept_of(connection: sqlite3.Connection, search: int) -> dict[str, Any]:
    """Return what was measured of the machine when a search first ran; see `keep_of`."""
    [found] = connection.execute("SELECT kept FROM searches WHERE id = ?", [search]).fetchone()
    try:
        kept = json.loads(found)
        if _is_kept(kept):
            return kept
    except (ValueError, RecursionError):
        pass
    raise UserError(
        f"the table searches of the results has {shown(found)} where it keeps what was measured; "
        "begin anew with --fresh, or take another copy of the folder"
    )


def _is_kept(kept: Any) -> bool:
    """Say whether a value is what `keep_of` writes."""
    if not isinstance(kept, dict) or not kept.keys() <= {"memory", "parts", "timed"}:
        return False
    memory, *times = (kept.get(name) for name in ("memory", "parts", "timed"))
    return (memory is None or (type(memory) is int and memory > 0)) and all(
        some is None or (isinstance(some, dict) and all(map(_is_seconds, some.values())))
        for some in times
    )


def _is_seconds(value: Any) -> bool:
    return type(value) in (int, float) and 0 <= value < LATEST


def keep_of(connection: sqlite3.Connection, search: int, **measured: Any) -> None:
    """Keep what was measured of the machine, so that the search goes the same way when it goes on.

    `memory` is what a batch may take, in bytes; `parts` the seconds of the model's parts; `timed`,
    by digest, those of plans that were timed, as a share of the full model's.
    """
    with transaction(connection):
        kept = kept_of(connection, search) | measured
        query = "UPDATE searches SET kept = ? WHERE id = ?"
        connection.execute(query, [json.dumps(kept), search])


def keep_files(connection: sqlite3.Connection, contents: Mapping[str, str]) -> None:
    """Keep what a search wrote to its folder, in the place of what was kept before."""
    with transaction(connection):
        connection.execute("DELETE FROM found_files")
        connection.executemany("INSERT INTO found_files VALUES (?, ?)", [*contents.items()])


def kept_files(connection: sqlite3.Connection) -> dict[str, str]:
    """Return the files that a search wrote to its folder; raises UserError for any other file."""
    kept = dict(connection.execute("SELECT name, content FROM found_files").fetchall())
    for name, content in kept.items():
        if name not in FILES or not isinstance(content, str):
            raise UserError(f"the table found_files of the results has {shown(name)}: none of ours")
    return kept


def last_search(connection: sqlite3.Connection, name: str | None = None) -> SearchRow | None:
    """Return the search that ran last, or that of a name; None where there is none."""
    names = [field.name for field in fields(SearchRow)]
    row = connection.execute(
        f"SELECT {', '.join(names)} FROM searches WHERE ? IS NULL OR name = ? "
        "ORDER BY began DESC, id DESC LIMIT 1",
        [name, name],
    ).fetchone()
    return None if row is None else SearchRow(*row)
