"""One writer for each folder: a lock that the system itself releases when its process dies.

So a run that was killed leaves nothing to clear away. Who only reads needs no lock. Where the file
system has no locks, a file that names the process stands in for one, and the user is told.
"""

import os
import socket
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, SoftFileLock, Timeout

from impasto.error import UserError

LOCK, HOLDER = ".lock", ".writer"
NO_LOCKS = (
    "the file system of {out} has no locks, so a file marks that the folder is written to; see to "
    "it that no run on another machine writes to it at the same time"
)


WAIT = "Wait for it (impasto status {out} says how far it is)"
STOP = "stop it (Ctrl-C there, or kill its process; what is saved stays)"


@contextmanager
def only_writer(
    out: Path, instead: str = f"{WAIT}, {STOP}, or give another folder with --out"
) -> Iterator[None]:
    """Hold the folder's lock in the block; raises UserError, saying who has it, where not.

    `instead` says what to do then; `{out}` in it is the folder.
    """
    lock = FileLock(out / LOCK)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the library, which takes a file in a lock's place
            lock.acquire(timeout=0)
    except Timeout:
        raise UserError(
            f"{out} is being written to by {holder(out)}. {instead.format(out=out)}"
        ) from None
    except OSError as error:
        raise UserError(f"{out} cannot be written to: {error.strerror or error}") from None
    try:
        _tell(out)
        if isinstance(lock, SoftFileLock):
            warnings.warn(NO_LOCKS.format(out=out), stacklevel=4)
        yield
    finally:
        (out / HOLDER).unlink(missing_ok=True)
        lock.release()


def check_free(out: Path) -> None:
    """Raise UserError, saying who has it, where another process writes to a folder just now."""
    if out.is_dir() and (out / LOCK).exists():
        with only_writer(out):
            pass


def holder(out: Path) -> str:
    """Return who holds a folder's lock, as the holder wrote it down."""
    try:
        return (out / HOLDER).read_text(encoding="utf-8").strip() or "another process"
    except OSError:
        return "another process"


def _tell(out: Path) -> None:
    try:
        since = time.strftime("%Y-%m-%d %H:%M:%S")
        text = f"process {os.getpid()} on {socket.gethostname()}, since {since}\n"
        (out / HOLDER).write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"{out} cannot be written to: {error.strerror}") from None
