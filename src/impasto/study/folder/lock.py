"""One writer for each folder: a lock that the system itself releases when its process dies.

So a run that was killed leaves nothing to clear away. Who only reads needs no lock.
"""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from impasto.error import UserError

LOCK, HOLDER = ".lock", ".writer"


@contextmanager
def only_writer(out: Path) -> Iterator[None]:
    """Hold the folder's lock in the block; raises UserError, saying who has it, where not."""
    lock = FileLock(out / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise UserError(
            f"{out} is being written to by {holder(out)}; wait for it (impasto status {out} says "
            "how far it is), or give another folder with --out"
        ) from None
    except OSError as error:
        raise UserError(f"{out} cannot be written to: {error.strerror or error}") from None
    try:
        _tell(out)
        yield
    finally:
        (out / HOLDER).unlink(missing_ok=True)
        lock.release()


def holder(out: Path) -> str:
    """Return who holds a folder's lock, as the holder wrote it down."""
    try:
        return (out / HOLDER).read_text(encoding="utf-8").strip() or "another process"
    except OSError:
        return "another process"


def _tell(out: Path) -> None:
    try:
        text = f"process {os.getpid()} on {socket.gethostname()}\n"
        (out / HOLDER).write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"{out} cannot be written to: {error.strerror}") from None
