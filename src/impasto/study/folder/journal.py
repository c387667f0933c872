"""The log file of a folder: what ran when, line by line, also what libraries warned of.

A log is read by people and never needed: where it cannot be written, the study goes on.
"""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

LOG = "study.log"


def unwritten() -> logging.Logger:
    """Return a log that nothing is written of, before there is a folder to write it to."""
    log = logging.Logger("impasto.study", logging.INFO)
    log.addHandler(logging.NullHandler())
    return log


@contextmanager
def journal(out: Path, log: logging.Logger) -> Iterator[None]:
    """Write a log, and what libraries warn of, to a folder in the block."""
    try:
        handler = _Handler(out / LOG, encoding="utf-8")
    except OSError:
        yield
        return
    handler.setFormatter(logging.Formatter("%(asctime)s  %(message)s"))
    log.addHandler(handler)
    show = warnings.showwarning

    def shown(message: Any, category: Any, *given: Any, **more: Any) -> None:
        log.warning("%s: %s", category.__name__, message)
        show(message, category, *given, **more)

    warnings.showwarning = shown
    try:
        yield
    finally:
        warnings.showwarning = show
        log.removeHandler(handler)
        handler.close()


class _Handler(logging.FileHandler):
    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        """Go on: the study is worth more than its log."""
