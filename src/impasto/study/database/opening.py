"""Opening a results database: made where there is none, brought up to date, or refused with why.

The file says itself whose it is (SQLite's `application_id`) and which form it has (`user_version`);
the form changes by numbered migrations only. Writing goes through SQLite's write-ahead log, so that
others read while a study runs, and a process that dies leaves what it had committed.
"""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from impasto import engine_version
from impasto.engine_version import ENGINE
from impasto.error import UserError
from impasto.study.database.checking import check
from impasto.study.database.complaints import ReadConnection, plainly
from impasto.study.database.form import APPLICATION_ID, IN_MEMORY, migrate, migrations

DATABASE = "results.sqlite"
WAIT = 30.0  # seconds that a writer waits for a reader that holds the file
MOST_BYTES = 2**27  # of one value
NAMED = 5  # folders that an error names


def open_to_write(path: Path | None) -> sqlite3.Connection:
    """Return a connection to the database at a path, made or brought up to date; None: in memory.

    Raises UserError where the file is not one, is damaged, holds what none of ours does, is of a
    newer form, or holds the answers of a newer engine; nothing was changed then.
    """
    with plainly(path):
        connection = sqlite3.connect(
            IN_MEMORY if path is None else path, timeout=WAIT, isolation_level=None
        )
        try:
            version = _check(connection, path)
            if version:
                _check_contents(connection, path, version)
                _check_engines(connection, path)
            if path is not None:
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute("PRAGMA synchronous = FULL")
            migrate(connection)
            # only now: a migration may put a table in another's place, whose rows must not go
            connection.execute("PRAGMA foreign_keys = ON")
        except BaseException:
            connection.close()
            raise
    return connection


def open_to_read(path: Path) -> ReadConnection:
    """Return a connection that writes nothing, also while another process runs the study.

    One of an older form is read from a copy in memory that is brought up to date. Raises UserError
    where there is no such file, it cannot be read, or holds what none of ours does.
    """
    if not path.is_file():
        raise UserError(_nothing(path))
    with plainly(path):
        try:
            return _connected_to_read(path, "mode=ro")
        except sqlite3.OperationalError:
            # a folder that takes no files; without a log, the file itself is all there is
            if path.with_name(f"{path.name}-wal").exists():
                raise
            return _connected_to_read(path, "mode=ro&immutable=1")


def _connected_to_read(path: Path, how: str) -> ReadConnection:
    uri = f"{path.resolve().as_uri()}?{how}"
    connection = sqlite3.connect(
        uri, uri=True, timeout=WAIT, isolation_level=None, factory=ReadConnection
    )
    try:
        connection.execute("PRAGMA trusted_schema = OFF")  # it may come from anywhere
        version = _check(connection, path)
        if version == 0:
            raise UserError(f"{path} is an empty database: no study ran in {path.parent} yet")
        if version < len(migrations()):
            connection = _updated_copy(connection)
        _bounded(connection)
        check(connection, path)
        connection.path = path  # from here on it complains in our words
    except BaseException:
        connection.close()
        raise
    return connection


def _check_contents(connection: sqlite3.Connection, path: Path | None, version: int) -> None:
    """Raise UserError where a database holds what none of ours does; one of an older form, too."""
    _bounded(connection)
    if version == len(migrations()):
        check(connection, path)
        return
    copy = _copy_up_to_date(connection)
    try:
        check(copy, path)
    finally:
        copy.close()


def _bounded(connection: sqlite3.Connection) -> None:
    """Refuse a value that is larger than any of ours, which a damaged page may pretend to hold."""
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MOST_BYTES)


def _updated_copy(connection: sqlite3.Connection) -> ReadConnection:
    """Return a copy of a database in memory, brought up to date, and close the database."""
    copy = _copy_up_to_date(connection)
    connection.close()
    return copy


def _copy_up_to_date(connection: sqlite3.Connection) -> ReadConnection:
    """Return a copy of a database in memory, brought up to date."""
    copy = sqlite3.connect(IN_MEMORY, isolation_level=None, factory=ReadConnection)
    try:
        copy.execute("PRAGMA trusted_schema = OFF")  # it may come from anywhere
        connection.backup(copy)
        migrate(copy)
    except BaseException:
        copy.close()
        raise
    return copy


def _check(connection: sqlite3.Connection, path: Path | None) -> int:
    """Return the version of the file's form; raises UserError unless it is one that we know."""
    [version] = connection.execute("PRAGMA user_version").fetchone()
    [application] = connection.execute("PRAGMA application_id").fetchone()
    [tables] = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if tables and application != APPLICATION_ID:
        raise UserError(f"{path} is a database of another program; give another folder with --out")
    if version > len(migrations()):
        raise UserError(
            f"{path} was written by a newer impasto (form {version}; this one knows up to "
            f"{len(migrations())}): update impasto, or give another folder with --out"
        )
    return version


def _check_engines(connection: sqlite3.Connection, path: Path | None) -> None:
    """Raise UserError where a later version of the engine has written answers.

    This one cannot know whether those are its own answers too, and would ask everything again.
    """
    rows = connection.execute("SELECT parts FROM engines")
    newest = max((int(json.loads(parts).get(ENGINE, 0)) for [parts] in rows), default=0)
    if newest > engine_version.ENGINE_VERSION:
        raise UserError(
            f"{path} holds answers of {ENGINE} {newest}, and this is {ENGINE} "
            f"{engine_version.ENGINE_VERSION}, which may answer otherwise: update impasto, or give "
            "another folder with --out. Nothing was changed; impasto results still reads it"
        )


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Make all that the block writes visible at once, or nothing of it."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _nothing(path: Path) -> str:
    """Say that there is no database at a path, and which folders beside it have one."""
    out = path.parent
    if out.is_dir():
        message = f"{out} holds no results: a study writes {path.name} there"
    else:
        message = f"{out} is {'a file' if out.exists() else 'no folder'}, so it holds no results"
    if not out.parent.is_dir():
        return message
    near = sorted(str(found.parent) for found in out.parent.glob(f"*/{path.name}"))
    return f"{message}; there are results in {', '.join(near[:NAMED])}" if near else message
