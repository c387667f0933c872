"""What a run is at, noted in its folder while it lasts, so that `impasto status` moves meanwhile.

The database knows what is saved; a unit of work may take long. The note is never needed: where it
cannot be written or read, nothing is missing but the latest.
"""

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from impasto.aside import written_aside
from impasto.error import UserError
from impasto.plain_data import read_json_file
from impasto.study.following.standing import Progress, Standing, Times

NOTE = ".running"
EVERY = 2.0  # seconds between two notes; what was saved is noted at once


@dataclass(frozen=True, slots=True)
class Note:
    """What a run was at, at a time.

    Attributes:
        pid: Its process.
        model: The name of the model that it was running.
        doing, detail, share: As in `Standing`.
        elapsed: For how many seconds it had been running this model.
        left: How many more it was to take by its pace; None where that was not known yet.
        at: When that was, in seconds since 1970.
    """

    pid: int
    model: str
    doing: str
    detail: str
    share: float
    elapsed: float
    left: float | None
    at: float


@contextmanager
def noted(
    out: Path | None, model: str, progress: Progress, clock: Callable[[], float] = time.monotonic
) -> Iterator[Progress]:
    """Give what a run of a model calls with its standing: it tells `progress`, and notes it."""
    if out is None:
        yield progress
        return
    times, last, cells = Times(clock), -EVERY, -1

    def note(standing: Standing) -> None:
        nonlocal last, cells
        progress(standing)
        elapsed, left = times.at(standing)
        if elapsed - last < EVERY and standing.cells == cells:
            return
        last, cells = elapsed, standing.cells
        now = Note(
            os.getpid(), model, standing.doing, standing.detail, standing.share, elapsed, left,
            time.time(),
        )  # fmt: skip
        with suppress(OSError), written_aside(out / NOTE) as part:
            part.write_text(json.dumps(asdict(now)), encoding="utf-8")

    try:
        yield note
    finally:
        with suppress(OSError):
            (out / NOTE).unlink(missing_ok=True)


def read_note(out: Path, pid: int) -> Note | None:
    """Return what a process noted in a folder; None where there is nothing that it could be."""
    try:
        note = Note(**read_json_file(out / NOTE))
    except (UserError, OSError, TypeError):
        return None
    numbers = (note.share, note.elapsed, note.at, *([] if note.left is None else [note.left]))
    texts = (note.model, note.doing, note.detail)
    is_right = all(type(n) in (int, float) and n >= 0 for n in numbers)
    return note if is_right and all(type(t) is str for t in texts) and note.pid == pid else None
