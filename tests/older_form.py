"""A folder's database as an older impasto would have written it."""

import sqlite3
from pathlib import Path

import pytest

from impasto.study.database import form, opening

FORM = 2  # the last one that knew no study files


def made_older(out: Path) -> None:
    """Put a folder's database into the older form, with all that this has room for."""
    new, old, every = out / "results.sqlite", out / "old", form.migrations()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(form, "migrations", lambda: every[:FORM])
        database = opening.open_to_write(old)
    database.execute("PRAGMA foreign_keys = OFF")
    database.execute("ATTACH ? AS new", [str(new)])
    tables = "SELECT name FROM main.sqlite_master WHERE type = 'table'"
    for (table,) in database.execute(tables).fetchall():
        columns = [row[1] for row in database.execute(f"PRAGMA main.table_info({table})")]
        names = ", ".join(columns)
        database.execute(f"INSERT INTO main.{table} ({names}) SELECT {names} FROM new.{table}")
    database.close()
    old.replace(new)


def form_of(out: Path) -> int:
    """Return the form of a folder's database."""
    database = sqlite3.connect(out / "results.sqlite")
    try:
        return database.execute("PRAGMA user_version").fetchone()[0]
    finally:
        database.close()
