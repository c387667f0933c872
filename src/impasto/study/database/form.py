"""The form of a results database: the migrations that lead to it, and what tables that makes."""

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

APPLICATION_ID = 0x696D7061  # "impa"
IN_MEMORY = ":memory:"


@dataclass(frozen=True, slots=True)
class Form:
    """The tables: `tables` by name as SQL, `columns` by table and name.

    Of a column it is its type, and whether a value may be missing.
    """

    tables: Mapping[str, str]
    columns: Mapping[str, Mapping[str, tuple[str, bool]]]


@cache
def migrations() -> tuple[str, ...]:
    """Return the statements that lead from each form to the next, beginning with none."""
    folder = files("impasto.study.database").joinpath("migrations")
    found = sorted((path for path in folder.iterdir() if path.name.endswith(".sql")), key=str)
    return tuple(path.read_text(encoding="utf-8") for path in found)


def migrate(connection: sqlite3.Connection) -> None:
    """Bring the form up to date, one version after the other, each whole or not at all."""
    [version] = connection.execute("PRAGMA user_version").fetchone()
    for number, statements in enumerate(migrations()[version:], version + 1):
        connection.executescript(
            f"BEGIN IMMEDIATE; PRAGMA application_id = {APPLICATION_ID}; {statements}"
            f"PRAGMA user_version = {number}; COMMIT;"
        )


@cache
def form() -> Form:
    """Return the newest form."""
    with closing(sqlite3.connect(IN_MEMORY, isolation_level=None)) as connection:
        migrate(connection)
        query = "SELECT name, sql FROM sqlite_master WHERE type = 'table'"
        tables = dict(connection.execute(query).fetchall())
        columns = {table: _columns(connection, table) for table in tables}
    return Form(tables, columns)


def _columns(connection: sqlite3.Connection, table: str) -> dict[str, tuple[str, bool]]:
    rows = connection.execute(f"PRAGMA table_info({table})")
    return {name: (kind, not (needed or key)) for _, name, kind, needed, _, key in rows}
