"""How far the study in a folder is, also while another process runs it."""

import socket
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from impasto.error import UserError
from impasto.paths import path_of
from impasto.plan import count_of_plans
from impasto.study.database.asked import AskedFile, AskedModel, asked_file, study_names
from impasto.study.database.opening import DATABASE, open_to_read, plainly
from impasto.study.database.precisions import precisions
from impasto.study.database.reading import (
    StudyRow,
    counts,
    last_run,
    study_row,
    task_counts,
    unit_times,
)
from impasto.study.database.searches import SearchRow, last_search
from impasto.study.file.study import WrittenStudy
from impasto.study.folder.lock import HOLDER, holder
from impasto.study.following.noting import Note, read_note
from impasto.study.work.precision import Reached


@dataclass(frozen=True)
class ModelStatus:
    """How far a study is with one of its models.

    Attributes:
        model: The model's name.
        cells: How many cells are finished.
        of: How many there are; None before the model's first run, when nobody knows.
        tasks: By task, in the study's order: finished cells and all cells.
        saved: When something was last saved, in seconds since 1970.
        left: How many seconds the rest will take by what was measured so far, at the most where
            questions are asked to a precision; None where nobody knows.
        pace: Items answered per second in the units of this study, each plan's counted.
        entries: How many plans the study lists for it, each label once.
        plans: How many different ones that is.
        precisions: How precisely plans' changes are known, where a limit is about that.
    """

    model: str
    cells: int = 0
    of: int | None = None
    tasks: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    saved: float | None = None
    left: float | None = None
    pace: float | None = None
    entries: int = 0
    plans: int = 0
    precisions: Sequence[Reached] = ()

    @property
    def title(self) -> str:
        """The model and how many plans run on it, as far as that is known."""
        plans = f", {count_of_plans(self.entries, self.plans)}" if self.entries else ""
        return f"{self.model}{plans}"

    @property
    def is_most(self) -> bool:
        """Whether what is left is the most that may be asked."""
        return any(reached.later for reached in self.precisions)

    def lines(self) -> Iterator[str]:
        """Yield how far each task is, and how fast."""
        so_far = "so far, " if self.is_most else ""
        yield "cells    " + (
            "not begun" if self.of is None else _share(self.cells, self.of, so_far)
        )
        for task, (done, of) in self.tasks.items():
            yield f"  {task:30} {done:7} of {of}"
        for reached in self.precisions:
            yield f"known    {reached}"
        if self.pace is not None:
            yield f"pace     {self.pace:,.1f} items/s"


@dataclass(frozen=True)
class Status:
    """How far a study is.

    Attributes:
        study: Its name.
        state: running, finished, stopped, failed, or killed (nobody ended the run, and nobody runs
            it any more).
        models: How far it is with each of its models, in its order.
        run: The last run: command, host, pid and times.
        note: What it is at, where it is running and has said so.
    """

    study: str
    state: str
    models: Sequence[ModelStatus]
    run: Mapping[str, Any]
    note: Note | None = None

    @property
    def cells(self) -> int:
        """How many cells are finished, of all models."""
        return sum(model.cells for model in self.models)

    @property
    def of(self) -> int:
        """How many cells there are, of the models of which that is known."""
        return sum(model.of or 0 for model in self.models)

    @property
    def tasks(self) -> Mapping[str, tuple[int, int]]:
        """By task: finished cells and all cells, of all models."""
        found: dict[str, tuple[int, int]] = {}
        for model in self.models:
            for task, (done, of) in model.tasks.items():
                before = found.get(task, (0, 0))
                found[task] = before[0] + done, before[1] + of
        return found

    def lines(self) -> Iterator[str]:
        """Yield the status as people read it."""
        where = f"process {self.run['pid']} on {self.run['host']}"
        several = len(self.models) > 1
        title = f"{len(self.models)} models" if several else f"model {self.models[0].title}"
        yield f"study    {self.study}, {title}"
        yield f"state    {self.state}" + (f" ({where})" if self.state == "running" else "")
        if self.note is not None:
            yield from self._noted(self.note, several)
        for model in self.models:
            if several:
                yield f"model    {model.title}"
            yield from model.lines()
        saved = max((model.saved for model in self.models if model.saved is not None), default=None)
        if saved is not None:
            yield f"saved    {_span(time.time() - saved)} ago"
        if self.state != "finished":
            left = [left for model in self.models if (left := self._left(model)) is not None]
            if left:
                begun = "" if len(left) == len(self.models) else ", of the models that were begun"
                about = "at most" if any(model.is_most for model in self.models) else "about"
                yield f"left     {about} {_span(sum(left))}{begun}"
            if self.state != "running":
                yield f"to go on {self.run['command']}"

    def _noted(self, note: Note, several: bool) -> Iterator[str]:
        """Yield what the run is at now, also before that is saved."""
        doing = f"{note.model}: {note.doing}" if several else note.doing
        yield f"now      {' '.join(filter(None, (doing, note.detail)))}"
        gone = _span(note.elapsed + max(0.0, time.time() - note.at))
        yield f"run      {100 * note.share:.0f} % after {gone}"

    def _left(self, model: ModelStatus) -> float | None:
        """Return the seconds that a model will still take, by the run's pace where it has one."""
        note = self.note
        if note is None or note.left is None or note.model != model.model:
            return model.left
        return max(0.0, note.left - max(0.0, time.time() - note.at))


@dataclass(frozen=True)
class SearchStatus:
    """How far a search is.

    Attributes:
        search: Its name.
        state: running, finished, stopped, failed, or killed.
        row: What the database knows of it.
    """

    search: str
    state: str
    row: SearchRow

    def lines(self) -> Iterator[str]:
        """Yield the status as people read it."""
        row = self.row
        yield f"search   {self.search}, model {row.model_name}"
        yield f"state    {self.state}" + (
            f" (process {row.pid} on {row.host})" if self.state == "running" else ""
        )
        yield f"at       {row.doing}" if self.state != "finished" else "at       its end"
        yield f"plans    {row.plans:,} asked so far"
        if self.state == "running" and 0 < row.share < 1:
            left = (time.time() - row.began) * (1 - row.share) / row.share
            yield f"left     about {_span(left)} ({100 * row.share:.0f} % is done)"
        if self.state not in ("finished", "running"):
            yield f"to go on {row.command}"


def status_of(out: str | Path, *, study: str | None = None) -> Status | SearchStatus:
    """Return how far what ran last in a folder is, a study or a search, or what `study` names.

    Raises UserError where there is none.
    """
    path = path_of(out, "a study's folder") / DATABASE
    with plainly(path):
        connection = open_to_read(path)
        try:
            found = _search(connection, study)
        finally:
            connection.close()
    return status(out, study=study) if found is None else found


def status(out: str | Path, *, study: str | None = None) -> Status:
    """Return how far the study that ran last in a folder is, or the one that `study` names.

    Raises UserError where there is none.
    """
    path = path_of(out, "a study's folder") / DATABASE
    with plainly(path):
        connection = open_to_read(path)
        try:
            if not study_names(connection) and (path.parent / HOLDER).exists():
                raise UserError(f"{out}: {holder(path.parent)}, has not asked anything yet")
            asked = asked_file(connection, path.parent, study)
            rows = [model.study for model in asked.models if model.study is not None]
            run = last_run(connection, rows)
            if run is None:
                raise UserError(f"{out} holds a database in which no study ran yet")
            models = [_of_model(connection, model) for model in asked.models]
            finished = [
                row is not None and row.finished is not None for row in _rows(connection, asked)
            ]
        finally:
            connection.close()
    state = _state(run, all(finished), asked.ended is not None)
    note = read_note(path.parent, run["pid"]) if state == "running" else None
    return Status(asked.name, state, models, run, note)


def _search(connection: sqlite3.Connection, name: str | None) -> SearchStatus | None:
    """Return the status of a search, where one is meant: it ran behind all studies, or is named."""
    row = last_search(connection, name)
    if row is None:
        return None
    query = "SELECT max(began) FROM study_files WHERE ? IS NULL OR name = ?"
    [study] = connection.execute(query, [name, name]).fetchone()
    if study is not None and study > row.began:
        return None
    run = {"outcome": row.outcome, "host": row.host, "pid": row.pid, "began": row.began}
    return SearchStatus(row.name, _state(run, row.outcome == "finished", True), row)


def _rows(connection: sqlite3.Connection, asked: AskedFile) -> Iterator[StudyRow | None]:
    for model in asked.models:
        yield None if model.study is None else study_row(connection, model.study)


def _of_model(connection: sqlite3.Connection, asked: AskedModel) -> ModelStatus:
    if asked.study is None:
        return ModelStatus(asked.name)
    cells, of = counts(connection, asked.study)
    times = unit_times(connection, asked.study)
    pace = times.answers / times.seconds if times.seconds else None
    reached = precisions(connection, asked.study)
    later = sum(each.later for each in reached)
    left = (times.answers_left + later) / pace if pace else None
    if pace and times.expected and times.expected_left is not None:
        left = times.expected_left * times.seconds / times.expected + later / pace
    tasks = task_counts(connection, asked.study)
    listed = _listed(study_row(connection, asked.study))
    return ModelStatus(
        asked.name, cells, of, tasks, times.saved, left, pace, len(listed), len(set(listed)),
        reached,
    )  # fmt: skip


def _listed(row: StudyRow | None) -> list[str]:
    """Return the digests of all plans that a study lists."""
    if row is None:
        return []
    written = WrittenStudy.from_text(
        row.file, name=row.name, source=DATABASE, checked=True, folder=None
    )
    return [labelled.plan.digest for labelled in written.labelled_plans(row.layers)]


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
                studies = len(study_names(connection))
                [cells] = connection.execute("SELECT count(finished) FROM cells").fetchone()
            finally:
                connection.close()
    except UserError:
        return f"{path}, which cannot be read,"
    plural = "study" if studies == 1 else "studies"
    return f"the results of {studies} {plural} in {out} ({cells} finished cells)"


def _state(run: Mapping[str, Any], is_finished: bool, has_ended: bool) -> str:
    """Return the state of a study by its last run, which was of one of its models.

    `is_finished` says whether all models are, `has_ended` whether a run of all of them is over.
    """
    if run["outcome"] is not None and (is_finished or run["outcome"] != "finished"):
        return run["outcome"]
    if run["outcome"] is not None and has_ended:
        return "stopped"  # between two models
    if run["host"] == socket.gethostname() and not _lives(run["pid"], run["began"]):
        return "finished" if is_finished else "killed"
    return "running"


def _share(cells: int, of: int, so_far: str) -> str:
    return f"{cells} of {of} ({so_far}{100 * cells / of if of else 100:.0f} %)"


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
