"""Showing how far a study is: a bar with the time left, or plain lines where there is no terminal.

All of it goes to stderr, so that what a command prints can be read by another.
"""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

from rich.progress import (
    BarColumn,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as RichProgress

from impasto.screen import console, printable
from impasto.study.following.notebook import in_notebook, shown_in_notebook
from impasto.study.following.standing import Progress, Standing

LINES = 10  # plain lines in a whole run


@contextmanager
def show_progress(quiet: bool = False) -> Iterator[Progress]:
    """Give what a run calls with its standing."""
    if quiet:
        yield _unheard
        return
    if in_notebook():
        with shown_in_notebook() as notebook:
            yield notebook
        return
    screen = console()
    if not screen.is_terminal:
        yield PlainProgress(sys.stderr)
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[left]}"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[counts]}"),
    )
    with RichProgress(*columns, console=screen, transient=True) as bar:
        yield BarProgress(bar, bar.add_task("starting", total=None, counts="", left="left"))


def _unheard(standing: Standing) -> None:
    pass


@contextmanager
def followed(wanted: Progress | bool | None) -> Iterator[Progress]:
    """Give what a run that Python started calls with its standing.

    That is what the caller gave; True shows the standing here, None does so in a notebook alone.
    """
    if callable(wanted):
        yield wanted
        return
    with show_progress(quiet=not (in_notebook() if wanted is None else wanted)) as shown:
        yield shown


class BarProgress:
    """A bar in the terminal; it pulses until the first plan has run."""

    def __init__(self, bar: RichProgress, task: TaskID) -> None:
        self._bar, self._task = bar, task
        self._model = ""

    def __call__(self, standing: Standing) -> None:
        """Show how far the run is; the clock begins anew with each model."""
        if standing.model != self._model:
            self._model = standing.model
            self._bar.reset(self._task)
        total = None if standing.share == 0 else 1.0
        self._bar.update(
            self._task,
            total=total,
            completed=standing.share,
            description=printable(f"{_doing(standing)} {standing.detail}"),
            counts=_counts(standing),
            left="left at most" if standing.is_most else "left",
        )


class PlainProgress:
    """A line for each tenth of the run, with the time that it has left by its pace so far.

    And one for each task as it begins; several may be running at once. It begins anew with each
    model.
    """

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream, self._clock = stream, clock
        self._begin("")

    def _begin(self, model: str) -> None:
        self._model = model
        self._began: tuple[float, float] | None = None  # when, and at which share
        self._shown = -1
        self._seen: set[str] = set()

    def __call__(self, standing: Standing) -> None:
        """Print a line if the run has come to its next tenth, or to something new."""
        if standing.model != self._model:
            self._begin(standing.model)
        share, what = standing.share, _doing(standing)
        step, now = int(share * LINES + 1e-9), self._clock()
        if self._began is None and share > 0:
            self._began = now, share
        if step <= self._shown and what in self._seen:
            return
        self._shown = max(step, self._shown)
        self._seen.add(what)
        counts = _counts(standing)
        line = f"{100 * share:3.0f} %  {what}{f', {counts}' if counts else ''}"
        line += self._left(standing, now)
        print(line, file=self._stream, flush=True)

    def _left(self, standing: Standing, now: float) -> str:
        share = standing.share
        if self._began is None or not self._began[1] < share < 1:
            return ""
        began, first = self._began
        minutes, seconds = divmod(round((now - began) / (share - first) * (1 - share)), 60)
        about = "at most" if standing.is_most else "about"
        return f", {about} {minutes}:{seconds:02d} left"


def _doing(standing: Standing) -> str:
    """Return what a run is at, after its model where it has several."""
    return f"{standing.model}: {standing.doing}" if standing.model else standing.doing


def _counts(standing: Standing) -> str:
    """Return the cells that are finished, the pace and the workers, as far as they are known."""
    if not standing.of:
        return ""
    pace = "" if standing.pace is None else f", {standing.pace:,.0f} items/s"
    workers = f", {standing.running} workers" if standing.running > 1 else ""
    so_far = " so far" if standing.is_most else ""
    return f"{standing.cells} of {standing.of} cells{so_far}{pace}{workers}"
