"""Showing how far a study is: a bar, or a line now and then where there is no terminal.

Both say how long it has been going and how long it still takes. All of it goes to stderr, so that
what a command prints can be read by another; messages are written above the bar.
"""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

from rich.progress import (
    BarColumn,
    ProgressColumn,
    Task,
    TaskID,
    TaskProgressColumn,
)
from rich.progress import Progress as RichProgress
from rich.table import Column
from rich.text import Text

from impasto.screen import console, printable, written_above
from impasto.study.following.notebook import in_notebook, shown_in_notebook
from impasto.study.following.said import counts_said, doing_said, times_said
from impasto.study.following.standing import Progress, Standing, Times

LINES = 10  # plain lines in a whole run, at the least
EVERY = 300.0  # seconds after which a line is printed in any case


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
        BarColumn(bar_width=16),
        TaskProgressColumn(table_column=Column(no_wrap=True)),
        _TimesColumn(table_column=Column(no_wrap=True)),
        _DoingColumn(),
    )
    bar = RichProgress(
        *columns, console=screen, transient=True, redirect_stdout=sys.stdout.isatty()
    )
    with written_above(bar):
        yield BarProgress(
            bar, bar.add_task("starting", total=None, counts="", detail="", is_most=False)
        )


class _DoingColumn(ProgressColumn):
    """What the run is at and how many cells are finished, as far as the line has room."""

    def render(self, task: Task) -> Text:
        """Return both in one line."""
        said = (task.description, task.fields["counts"], task.fields["detail"])
        return Text(", ".join(filter(None, said)), no_wrap=True, overflow="ellipsis")


class _TimesColumn(ProgressColumn):
    """How long the run has been going, and how long it still takes."""

    def render(self, task: Task) -> Text:
        """Return both; the time left once there is a pace."""
        left = None if task.total is None or task.finished else task.time_remaining
        return Text(times_said(task.elapsed or 0.0, left, task.fields["is_most"]), "cyan")


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
            description=printable(doing_said(standing)),
            detail=printable(standing.detail),
            counts=counts_said(standing),
            is_most=standing.is_most,
        )


class PlainProgress:
    """A line for each tenth of the run, each task as it begins, and every five minutes.

    It begins anew with each model.
    """

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream, self._times = stream, Times(clock)
        self._begin("")

    def _begin(self, model: str) -> None:
        self._model = model
        self._shown, self._last = -1, 0.0  # tenths, and seconds gone
        self._seen: set[str] = set()

    def __call__(self, standing: Standing) -> None:
        """Print a line if the run has come to its next tenth or to something new, or it is time."""
        if standing.model != self._model:
            self._begin(standing.model)
        share, what = standing.share, doing_said(standing)
        step, (gone, left) = int(share * LINES + 1e-9), self._times.at(standing)
        if step <= self._shown and what in self._seen and gone - self._last < EVERY:
            return
        self._shown, self._last = max(step, self._shown), gone
        self._seen.add(what)
        times = times_said(gone, left, standing.is_most) if gone >= 1 else ""
        said = ", ".join(part for part in (what, counts_said(standing), times) if part)
        print(f"{100 * share:3.0f} %  {said}", file=self._stream, flush=True)
