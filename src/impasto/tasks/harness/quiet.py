"""lm-eval called as a library: what it prints kept off the screen, what it draws repeatable.

And its templates are kept: it would compile them anew for every document, twice or more, which for
a small model takes longer than the model.
"""

import io
import os
import random
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from functools import lru_cache
from typing import Any
from unittest.mock import patch

CHUNK = 1000  # samples that one process draws
RANDOM_SEED, OTHER_SEEDS = 0, 1234  # lm-eval's own, for `random` and for numpy and torch


@contextmanager
def quiet() -> Iterator[None]:
    """Swallow progress bars, prints and warnings; log messages too, unless they have a handler."""
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        yield


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


@contextmanager
def sampling_here(iterations: int) -> Iterator[None]:
    """Keep lm-eval from starting processes for a bootstrap that is one of its chunks anyway."""
    here = {"DISABLE_MULTIPROC": "1"} if iterations <= CHUNK else {}
    with patch.dict(os.environ, here):
        yield


def keep_templates() -> None:
    """Let lm-eval compile each of its templates once; what they are filled with is untouched."""
    from lm_eval import utils

    environment: Any = utils.env
    if not hasattr(environment.from_string, "cache_info"):
        environment.from_string = lru_cache(maxsize=1024)(environment.from_string)
