"""Stopping a study without losing work: the first signal asks it to end, the second ends it.

Asked to, the study finishes and saves the unit that it is at; then `Stopped` ends it. A scheduler's
SIGTERM asks as Ctrl-C does.
"""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


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
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()
        told()

    signals = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, ask) for number in signals}
    try:
        yield asked.is_set
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
