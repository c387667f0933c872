"""How far the study in a folder is, also while another process runs it."""

import socket
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from impasto.error import UserError
from impasto.paths import path_of
from impasto.plan import count_of_plans
from impasto.study.database.opening import DATABASE, open_to_read, plainly
from impasto.study.database.precisions import precisions
from impasto.study.database.reading import (
    counts,
    last_run,
    study_row,
    task_counts,
    unit_times,
)
from impasto.study.file.study import WrittenStudy
from impasto.study.work.precision import Reached


@dataclass(frozen=True)
class Status:
    """How far a study is.

    Attributes:
        study: Its name.
        model: Its model's.
        entries: How many plans it lists, each label once.
        plans: How many different ones that is.
        state: running, finished, stopped, failed, or killed (nobody ended the run, and nobody runs
            it any more).
        cells: How many cells are finished.
        of: How many there are.
        tasks: By task, in the study's order: finished cells and all cells.
        saved: When something was last saved, in seconds since 1970.
        left: How many seconds the rest will take by what was measured so far, at the most where
            questions are asked to a precision; None where nobody knows.
        pace: Items answered per second in the units of this study, each plan's counted.
        run: The last run: command, host, pid and times.
        precisions: How precisely plans' changes are known, where a limit is about that.
    """

    study: str
    model: str
    entries: int
    plans: int
    state: str
    cells: int
    of: int
    tasks: dict[str, tuple[int, int]]
    saved: float | None
    left: float | None
    pace: float | None
    run: dict[str, Any]
    precisions: Sequence[Reached] = ()

    def lines(self) -> Iterator[str]:
        """Yield the status as people read it."""
        where = f"process {self.run['pid']} on {self.run['host']}"
        plans = count_of_plans(self.entries, self.plans)
        yield f"study    {self.study}, model {self.model}, {plans}"
        yield f"state    {self.state}" + (f" ({where})" if self.state == "running" else "")
        share = 100 * self.cells / self.of if self.of else 100
        is_most = any(reached.later for reached in self.precisions)
        so_far = "so far, " if is_most else ""
        yield f"cells    {self.cells} of {self.of} ({so_far}{share:.0f} %)"
        for task, (done, of) in self.tasks.items():
            yield f"  {task:30} {done:7} of {of}"
        for reached in self.precisions:
            yield f"known    {reached}"
        if self.pace is not None:
            yield f"pace     {self.pace:,.1f} items/s"
        if self.saved is not None:
            yield f"saved    {_span(time.time() - self.saved)} ago"
        if self.state != "finished":
            if self.left is not None:
                yield f"left     {'at most' if is_most else 'about'} {_span(self.left)}"
            if self.state != "running":
                yield f"to go on {self.run['command']}"


def status(out: str | Path) -> Status:
    """Return how far the study that ran last in a folder is; raises UserError where none did."""
    path = path_of(out, "a study's folder") / DATABASE
    with plainly(path):
        connection = open_to_read(path)
        try:
            study, run = study_row(connection), last_run(connection)
            if study is None or run is None:
                raise UserError(f"{out} holds a database in which no study ran yet")
            cells, of = counts(connection, study.id)
            times = unit_times(connection, study.id)
            tasks = task_counts(connection, study.id)
            reached = precisions(connection, study.id)
        finally:
            connection.close()
    written = WrittenStudy.from_text(study.file, name=study.name, source=DATABASE, checked=True)
    listed = [labelled.plan.digest for labelled in written.labelled_plans(study.layers)]
    pace = times.answers / times.seconds if times.seconds else None
    later = sum(each.later for each in reached)
    left = (times.answers_left + later) / pace if pace else None
    if pace and times.expected and times.expected_left is not None:
        left = times.expected_left * times.seconds / times.expected + later / pace
    return Status(
        study.name, study.model, len(listed), len(set(listed)),
        _state(run, study.finished is not None), cells, of, tasks, times.saved, left, pace, run,
        reached,
    )  # fmt: skip


def held(out: Path) -> str | None:
    """Return in words what a folder's database holds; None where there is none.

    What cannot be read is held, too.
    """
    path = out / DATABASE
    if not path.exists():
        return None
    try:
        with plainly(path):
            connection = open_to_read(path)
            try:
                [studies] = connection.execute("SELECT count(*) FROM studies").fetchone()
                [cells] = connection.execute("SELECT count(finished) FROM cells").fetchone()
            finally:
                connection.close()
    except UserError:
        return f"{path}, which cannot be read,"
    plural = "study" if studies == 1 else "studies"
    return f"the results of {studies} {plural} in {out} ({cells} finished cells)"


def _state(run: dict[str, Any], is_finished: bool) -> str:
    if run["outcome"] is not None:
        return run["outcome"]
    if run["host"] == socket.gethostname() and not _lives(run["pid"], run["began"]):
        return "finished" if is_finished else "killed"
    return "running"


def _lives(pid: int, began: float) -> bool:
    """Say whether the process that began a run is still there, and no other one by its number."""
    try:
        return psutil.Process(pid).create_time() <= began
    except psutil.Error:
        return False


def _span(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
