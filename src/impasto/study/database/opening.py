"""Opening a results database: made where there is none, brought up to date, or refused with why.

The file says itself whose it is (SQLite's `application_id`) and which form it has (`user_version`);
the form changes by numbered migrations only. Writing goes through SQLite's write-ahead log, so that
others read while a study runs, and a process that dies leaves what it had committed.
"""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.resources import files
from pathlib import Path

from impasto import engine_version
from impasto.engine_version import ENGINE
from impasto.error import UserError

DATABASE = "results.sqlite"
APPLICATION_ID = 0x696D7061  # "impa"
WAIT = 30.0  # seconds that a writer waits for a reader that holds the file
IN_MEMORY = ":memory:"
NAMED = 5  # folders that an error names


@cache
def migrations() -> tuple[str, ...]:
    """Return the statements that lead from each form to the next, beginning with none."""
    folder = files("impasto.study.database").joinpath("migrations")
    found = sorted((path for path in folder.iterdir() if path.name.endswith(".sql")), key=str)
    return tuple(path.read_text(encoding="utf-8") for path in found)


def open_to_write(path: Path | None) -> sqlite3.Connection:
    """Return a connection to the database at a path, made or brought up to date; None: in memory.

    Raises UserError where the file is not one, is damaged, is of a newer form, or holds the answers
    of a newer engine.
    """
    with plainly(path):
        connection = sqlite3.connect(
            IN_MEMORY if path is None else path, timeout=WAIT, isolation_level=None
        )
        try:
            if _check(connection, path):
                _check_engines(connection, path)
            if path is not None:
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute("PRAGMA synchronous = FULL")
            _migrate(connection)
            # only now: a migration may put a table in another's place, whose rows must not go
            connection.execute("PRAGMA foreign_keys = ON")
        except BaseException:
            connection.close()
            raise
    return connection


def open_to_read(path: Path) -> sqlite3.Connection:
    """Return a connection that writes nothing, also while another process runs the study.

    One of an older form is read from a copy in memory that is brought up to date. Raises UserError
    where there is no such file, or it cannot be read.
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


def _connected_to_read(path: Path, how: str) -> sqlite3.Connection:
    uri = f"{path.resolve().as_uri()}?{how}"
    connection = sqlite3.connect(uri, uri=True, timeout=WAIT, isolation_level=None)
    try:
        version = _check(connection, path)
        if version == 0:
            raise UserError(f"{path} is an empty database: no study ran in {path.parent} yet")
        return connection if version == len(migrations()) else _updated_copy(connection)
    except BaseException:
        connection.close()
        raise


def _updated_copy(connection: sqlite3.Connection) -> sqlite3.Connection:
    """Return a copy of a database in memory, brought up to date, and close the database."""
    copy = sqlite3.connect(IN_MEMORY, isolation_level=None)
    try:
        copy.execute("PRAGMA trusted_schema = OFF")  # it may come from anywhere
        connection.backup(copy)
        _migrate(copy)
    except BaseException:
        copy.close()
        raise
    connection.close()
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


def _migrate(connection: sqlite3.Connection) -> None:
    """Bring the form up to date, one version after the other, each whole or not at all."""
    [version] = connection.execute("PRAGMA user_version").fetchone()
    for number, statements in enumerate(migrations()[version:], version + 1):
        connection.executescript(
            f"BEGIN IMMEDIATE; PRAGMA application_id = {APPLICATION_ID}; {statements}"
            f"PRAGMA user_version = {number}; COMMIT;"
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


@contextmanager
def plainly(path: Path | None) -> Iterator[None]:
    """Answer what SQLite complains of in the block with what it means for the user."""
    try:
        yield
    except sqlite3.Error as error:
        raise UserError(_meaning(error, path)) from error


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


def _meaning(error: sqlite3.Error, path: Path | None) -> str:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return (
            f"{path} is damaged or no database ({error}); nothing was changed. Move it away to "
            "begin anew, or put a copy in its place (impasto results --unpack)"
        )
    if code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
        return (
            f"{path} cannot be written: the disk is full or failing ({error}). All that was saved "
            "before is intact: free some space and give the same command again"
        )
    if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM):
        return f"{path} cannot be opened for this: {error}; is the folder read-only?"
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return f"{path} is held by another process ({error}); try again when it is done"
    return f"{path}: {error}"
