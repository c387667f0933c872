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


@contextmanager
def journal(out: Path | None) -> Iterator[logging.Logger]:
    """Give the logger that writes to a folder's log; one that writes nowhere without a folder."""
    log = logging.Logger("impasto.study", logging.INFO)
    if out is None:
        yield log
        return
    try:
        handler = _Handler(out / LOG, encoding="utf-8")
    except OSError:
        yield log
        return
    handler.setFormatter(logging.Formatter("%(asctime)s  %(message)s"))
    log.addHandler(handler)
    show = warnings.showwarning

    def shown(message: Any, category: Any, *given: Any, **more: Any) -> None:
        log.warning("%s: %s", category.__name__, message)
        show(message, category, *given, **more)

    warnings.showwarning = shown
    try:
        yield log
    finally:
        warnings.showwarning = show
        handler.close()


class _Handler(logging.FileHandler):
    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        """Go on: the study is worth more than its log."""
