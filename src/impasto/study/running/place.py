"""Where a run writes: a folder that no other process writes to for the while, or the memory."""

import logging
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from impasto.error import UserError
from impasto.study.database.engines import adopt_equal
from impasto.study.database.opening import DATABASE, open_to_read, open_to_write
from impasto.study.database.reading import model_digests
from impasto.study.folder.files import discard, make_folder, rename_heads, tidy
from impasto.study.folder.journal import LOG, journal
from impasto.study.folder.lock import LOCK, only_writer


@dataclass(frozen=True)
class Place:
    """Where a run writes; `out` is None where that is the memory."""

    out: Path | None
    connection: sqlite3.Connection


@contextmanager
def made_for_a_run(out: Path) -> Iterator[None]:
    """Remove folders that the block makes, where the block fails before anything was asked."""
    made = [folder for folder in (out, *out.parents) if not folder.exists()]
    try:
        yield
    except BaseException:
        if made and out.is_dir():
            _remove_unused(out)
            with suppress(OSError):  # of one that something else was put into
                for folder in filter(Path.exists, made):
                    folder.rmdir()
        raise


def _remove_unused(out: Path) -> None:
    """Remove a folder that holds nothing but what opening it made."""
    with suppress(UserError, OSError, sqlite3.Error):
        connection = open_to_read(out / DATABASE)
        # a model is written down before anything is asked of it
        [used] = connection.execute("SELECT EXISTS (SELECT 1 FROM models)").fetchone()
        connection.close()
        if not used:
            for name in (DATABASE, f"{DATABASE}-wal", f"{DATABASE}-shm", LOG, LOCK):
                (out / name).unlink(missing_ok=True)
            out.rmdir()


@contextmanager
def opened(out: Path | None, log: logging.Logger, fresh: bool) -> Iterator[Place]:
    """Give a place to write to, which also takes the log in the block; `fresh` empties it first."""
    if out is None:
        yield Place(None, open_to_write(None))  # the results keep the connection
        return
    make_folder(out)
    with only_writer(out), journal(out, log):
        tidy(out)
        if fresh:
            discard(out)
        connection = open_to_write(out / DATABASE)
        try:
            for engine in adopt_equal(connection):
                rename_heads(out, model_digests(connection), engine.before, engine.now)
            yield Place(out, connection)
        finally:
            connection.close()
