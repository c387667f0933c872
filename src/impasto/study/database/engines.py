"""Which engines made what a database holds, and taking over what answers as this one does.

An engine is told by its version's number. Before there were numbers, it was told by a hash of
impasto's code; of both, `impasto.engine_version` declares which answer alike. What an equal engine
made is written over to this one's name once, so that all that follows finds it by its key.
"""

import json
import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from impasto import engine_version
from impasto.engine_version import ENGINE
from impasto.study.database.opening import transaction
from impasto.study.work.identity import CODE, CODE_DIGITS, Identity, cell_key, study_digest


@dataclass(frozen=True, slots=True)
class Renamed:
    """The digests by which an engine was told, and is told now."""

    before: str
    now: str


def adopt_equal(connection: sqlite3.Connection) -> list[Renamed]:
    """Put what engines made that answer as this one under its name; return which were renamed.

    Each is renamed whole or not at all. Cells and studies that are there under both names stay.
    """
    renamed = []
    rows = connection.execute("SELECT id, digest, parts FROM engines").fetchall()
    for engine, digest, text in rows:
        parts = json.loads(text)
        now = _as_declared(parts)
        if now is not None and now.digest != digest:
            with transaction(connection):
                _rename(connection, engine, Renamed(digest, now.digest), now)
                _keep_code(connection, now.digest, parts.get(CODE))
            renamed.append(Renamed(digest, now.digest))
    return renamed


def parts_today(parts: Mapping[str, str]) -> dict[str, str]:
    """Return an engine's parts as they are named today, a hash of code in place of a version."""
    if CODE not in parts:
        return dict(parts)
    rest = {name: part for name, part in parts.items() if name != CODE}
    return {ENGINE: f"code {parts[CODE][:CODE_DIGITS]}", **rest}


def _as_declared(parts: Mapping[str, str]) -> Identity | None:
    """Return an engine by the first version that answers as it; None where none is declared to."""
    code = parts.get(CODE)
    version = engine_version.EQUAL_CODE.get(code) if code else int(parts[ENGINE])
    if version is None:
        return None
    rest = {name: part for name, part in parts.items() if name not in (CODE, ENGINE)}
    return Identity({ENGINE: str(engine_version.first_equal(version)), **rest})


def _rename(connection: sqlite3.Connection, engine: int, names: Renamed, now: Identity) -> None:
    """Give an engine's cells, studies and costs their keys under its other name."""
    [other] = connection.execute(
        "INSERT INTO engines (digest, parts) VALUES (?, ?) "
        "ON CONFLICT (digest) DO UPDATE SET parts = excluded.parts RETURNING id",
        [now.digest, json.dumps(dict(now.parts))],
    ).fetchone()
    query = "UPDATE OR IGNORE cells SET key = ? WHERE id = ?"
    connection.executemany(query, list(_cell_keys(connection, engine, names)))
    query = "UPDATE OR IGNORE studies SET digest = ? WHERE id = ?"
    connection.executemany(query, list(_study_digests(connection, engine, names)))
    for table in ("units", "studies", "costs"):
        values = [other, engine]
        connection.execute(f"UPDATE OR IGNORE {table} SET engine = ? WHERE engine = ?", values)
    connection.execute("DELETE FROM engines WHERE id = ?", [engine])


def _cell_keys(
    connection: sqlite3.Connection, engine: int, names: Renamed
) -> Iterator[tuple[str, int]]:
    """Yield the keys that an engine's cells have under its other name, and the cells."""
    rows = connection.execute(
        """
        SELECT cells.id, cells.key, models.digest, tasks.digest, plans.digest, start, stop
        FROM cells JOIN units ON units.id = cells.unit JOIN shards ON shards.id = cells.shard
        JOIN models ON models.id = shards.model JOIN tasks ON tasks.id = shards.task
        JOIN plans ON plans.id = cells.plan WHERE units.engine = ?
        """,
        [engine],
    )
    for cell, key, model, task, plan, start, stop in rows:
        if key == cell_key(model, names.before, task, plan, start, stop):
            yield cell_key(model, names.now, task, plan, start, stop), cell


def _study_digests(
    connection: sqlite3.Connection, engine: int, names: Renamed
) -> Iterator[tuple[str, int]]:
    """Yield the digests that an engine's studies have under its other name, and the studies."""
    rows = connection.execute(
        "SELECT studies.id, studies.digest, file, models.digest FROM studies "
        "JOIN models ON models.id = studies.model WHERE engine = ?",
        [engine],
    ).fetchall()
    query = (
        "SELECT digest FROM study_tasks JOIN tasks ON tasks.id = task WHERE study = ? "
        "ORDER BY number"
    )
    for study, digest, file, model in rows:
        tasks = [row[0] for row in connection.execute(query, [study])]
        if digest == study_digest(file, model, names.before, tasks):
            yield study_digest(file, model, names.now, tasks), study


def _keep_code(connection: sqlite3.Connection, engine: str, code: str | None) -> None:
    """Write the hash that told an engine beside the runs that it made: they are traced by it."""
    if code is None:
        return
    query = (
        "SELECT runs.id, versions FROM runs JOIN studies ON studies.id = study "
        "JOIN engines ON engines.id = engine WHERE engines.digest = ?"
    )
    for run, text in connection.execute(query, [engine]).fetchall():
        versions = {"code": code[:CODE_DIGITS]} | json.loads(text)
        values = [json.dumps(versions), run]
        connection.execute("UPDATE runs SET versions = ? WHERE id = ?", values)
