"""Keys that several sequences have in common, on their way to the attention that reads them.

Texts behind one few-shot prompt see the same keys of it. They lie in memory once, and attention
reads them once for all texts (Hydragen, arXiv 2402.05099, sections 3.1 and 3.2). A block hands its
attention the keys of its own sequences only. So those in common take another way: the cache that
the block asks for keys hands them over, and the attention that it calls next takes them.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor

from impasto.model.structure.anatomy import ModelError


class CommonRun(NamedTuple):
    """Keys and values that sequences side by side have in common.

    Attributes:
        sequences: How many these are.
        keys: The keys, before those of the sequences' own.
        values: The values.
    """

    sequences: int
    keys: Float[Tensor, "1 groups length width"]
    values: Float[Tensor, "1 groups length width_of_values"]


class CommonKeys(NamedTuple):
    """What all sequences of a call have in common with some others of it, in their order."""

    length: int
    runs: Sequence[CommonRun]


_handed: ContextVar[CommonKeys | None] = ContextVar("keys that await attention", default=None)


@contextmanager
def handing() -> Iterator[None]:
    """Return a context in which keys are handed over, each to the attention that is called next.

    Raises:
        ModelError: when some were not taken.
    """
    token = _handed.set(None)
    try:
        yield
        _refuse_untaken()
    finally:
        _handed.reset(token)


def hand_over(common: CommonKeys) -> None:
    """Have the next attention of this thread read keys before those that its block hands it.

    Raises:
        ModelError: when the last ones were not taken.
    """
    _refuse_untaken()
    _handed.set(common)


def take() -> CommonKeys | None:
    """Return what was handed over since this was last called."""
    common = _handed.get()
    if common is not None:
        _handed.set(None)
    return common


def _refuse_untaken() -> None:
    if _handed.get() is not None:
        raise ModelError("a block asks its cache for keys, and calls an attention of its own")
