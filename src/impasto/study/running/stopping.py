"""Stopping without losing work: the first signal asks a study to end, the second ends it.

Asked to, the study finishes and saves the unit that it is at; then `Stopped` ends it. A scheduler's
SIGTERM and the SIGHUP of a terminal that is closed ask as Ctrl-C does.
"""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from impasto.signals import HANGUP, handled, others


class Stopped(KeyboardInterrupt):
    """A study ended early because it was asked to; all that it had found is saved."""


@contextmanager
def stoppable(told: Callable[[], None]) -> Iterator[Callable[[], bool]]:
    """Give what says whether somebody asked to stop in the block; `told` is called when one does.

    Signals reach the main thread only: in another one nobody can ask.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    asked = threading.Event()

    def ask(number: int, frame: Any) -> None:
        if not asked.is_set():
            asked.set()
            told()
        elif number != HANGUP:  # of which a terminal may send several
            raise KeyboardInterrupt

    with handled((signal.SIGINT, *others()), ask):
        yield asked.is_set
