"""lm-eval called as a library: what it prints kept off the screen, what it draws repeatable."""

import io
import logging
import random
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout

RANDOM_SEED, OTHER_SEEDS = 0, 1234  # lm-eval's own, for `random` and for numpy and torch


@contextmanager
def quiet() -> Iterator[None]:
    """Swallow progress bars, prints and all log messages of lm-eval and datasets within."""
    loggers = [logging.getLogger(name) for name in ("lm_eval", "datasets")]
    levels = [logger.level for logger in loggers]
    with ExitStack() as stack:
        stack.enter_context(redirect_stdout(io.StringIO()))
        stack.enter_context(redirect_stderr(io.StringIO()))
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


@contextmanager
def seeded() -> Iterator[None]:
    """Draw as lm-eval's own runs draw, and leave every generator as it was.

    A few tasks shuffle their documents by the global generators while they load.
    """
    import numpy as np

    before, numpy_before = random.getstate(), np.random.get_state()
    random.seed(RANDOM_SEED)
    np.random.seed(OTHER_SEEDS)
    try:
        yield
    finally:
        random.setstate(before)
        np.random.set_state(numpy_before)
