"""A run's progress in a notebook: one line that changes in its place, and goes when all is done."""

import html
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from impasto.study.following.said import counts_said, doing_said, times_said
from impasto.study.following.standing import Progress, Standing, Times

EVERY = 0.2  # seconds between two pictures


def in_notebook() -> bool:
    """Say whether a notebook's kernel runs this process, which shows HTML where it is called."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return getattr(shell, "kernel", None) is not None


@contextmanager
def shown_in_notebook() -> Iterator[Progress]:
    """Give what a run calls with its standing."""
    from IPython.display import display

    def data(text: str) -> dict[str, str]:
        return {"text/html": text, "text/plain": ""}

    handle: Any = display(data("starting …"), raw=True, display_id=True)
    try:
        yield NotebookProgress(lambda text: handle.update(data(text), raw=True))
    finally:
        handle.update(data(""), raw=True)


class NotebookProgress:
    """Shows a bar, what the run is at, how long it took and about how long it still takes."""

    def __init__(
        self, show: Callable[[str], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._show, self._clock, self._times = show, clock, Times(clock)
        self._model, self._shown = "", -EVERY

    def __call__(self, standing: Standing) -> None:
        """Show how far the run is; the clock begins anew with each model."""
        now, (gone, left) = self._clock(), self._times.at(standing)
        if standing.model == self._model and now - self._shown < EVERY:
            return
        self._model, self._shown = standing.model, now
        self._show(bar(standing, gone, left))


def bar(standing: Standing, gone: float, left: float | None) -> str:
    """Return a standing after so many seconds as HTML; what comes from data is escaped."""
    times = times_said(gone, left, standing.is_most)
    said = (doing_said(standing), standing.detail, counts_said(standing), times)
    line = html.escape(", ".join(filter(None, said)))
    share = standing.share
    return f'<progress value="{share:.4f}"></progress> {100 * share:.0f} %, {line}'
