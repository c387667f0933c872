"""A run's progress in a notebook: one line that changes in its place, and goes when all is done."""

import html
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from impasto.study.following.standing import Progress, Standing

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
        self._show, self._clock = show, clock
        self._model, self._began, self._shown = "", clock(), -EVERY

    def __call__(self, standing: Standing) -> None:
        """Show how far the run is; the clock begins anew with each model."""
        now = self._clock()
        if standing.model != self._model:
            self._model, self._began = standing.model, now
        elif now - self._shown < EVERY:
            return
        self._shown = now
        self._show(bar(standing, now - self._began))


def bar(standing: Standing, elapsed: float) -> str:
    """Return a standing after so many seconds as HTML; what comes from data is escaped."""
    what = " ".join(filter(None, [standing.model, standing.doing, standing.detail]))
    said = [f"{100 * standing.share:.0f} %", html.escape(what), f"{_clock(elapsed)} elapsed"]
    if 0 < standing.share < 1:
        most = "at most " if standing.is_most else ""
        left = elapsed / standing.share * (1 - standing.share)
        said.append(f"{most}{_clock(left)} left")
    return f'<progress value="{standing.share:.4f}"></progress> {", ".join(said)}'


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}"
