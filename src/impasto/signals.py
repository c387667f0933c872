"""What asks a process to end: Ctrl-C, a scheduler's SIGTERM, SIGHUP where a terminal is closed."""

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

HANGUP = getattr(signal, "SIGHUP", None)  # which Windows has not


def others() -> tuple[int, ...]:
    """Return the signals beside Ctrl-C's; not what was to be ignored from outside, as by nohup."""
    signals = [signal.SIGTERM] if HANGUP is None else [signal.SIGTERM, HANGUP]
    return tuple(one for one in signals if signal.getsignal(one) is not signal.SIG_IGN)


@contextmanager
def handled(signals: Sequence[int], handler: Callable[[int, Any], None]) -> Iterator[None]:
    """Have a handler called for signals in the block; only for the main thread."""
    before = {number: signal.signal(number, handler) for number in signals}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)


@contextmanager
def interruptible() -> Iterator[None]:
    """Have what asks a process to end do in the block what Ctrl-C does: a KeyboardInterrupt.

    Signals reach the main thread only; in another one nothing is changed.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: Any) -> None:
        raise KeyboardInterrupt

    with handled(others(), interrupt):
        yield
