"""What SQLite complains of, in words for the user; also of a connection that others read later."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from impasto.error import UserError

COMPLAINTS = (sqlite3.Error, UnicodeDecodeError)  # which it may not be able to put into words


@contextmanager
def plainly(path: Path | None) -> Iterator[None]:
    """Answer what SQLite complains of in the block with what it means for the user."""
    try:
        yield
    except COMPLAINTS as error:
        raise UserError(_meaning(error, path)) from error


class ReadConnection(sqlite3.Connection):
    """A connection to read by, whose complaints are UserErrors as soon as it has a `path`.

    Answers are read long after the file was opened, by whoever holds the results. A page that is
    damaged is met then.
    """

    path: Path | None = None

    def cursor(self, *given: Any, **more: Any) -> Any:
        """Return a cursor that complains in our words."""
        return super().cursor(_Cursor)

    def execute(self, *given: Any) -> Any:
        """Return a cursor with what a statement gives."""
        return self.cursor().execute(*given)


class _Cursor(sqlite3.Cursor):
    def execute(self, *given: Any) -> Self:
        try:
            return super().execute(*given)
        except COMPLAINTS as error:
            raise self._ours(error) from error

    def fetchone(self) -> Any:
        try:
            return super().fetchone()
        except COMPLAINTS as error:
            raise self._ours(error) from error

    def fetchall(self) -> list[Any]:
        try:
            return super().fetchall()
        except COMPLAINTS as error:
            raise self._ours(error) from error

    def __next__(self) -> Any:
        try:
            return super().__next__()
        except COMPLAINTS as error:
            raise self._ours(error) from error

    def _ours(self, error: Exception) -> Exception:
        path = getattr(self.connection, "path", None)
        return error if path is None else UserError(_meaning(error, path))


def _meaning(error: Exception, path: Path | None) -> str:
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
