"""Errors of a model's own code while it is checked, raised again as the reason of a refusal."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from impasto.error import UserError
from impasto.model.structure.anatomy import ModelError

RAISED = (
    RuntimeError,
    ValueError,
    TypeError,
    AttributeError,
    KeyError,
    IndexError,
    NotImplementedError,
    AssertionError,
    ImportError,  # of a kernel that is fetched as it is called
)

_OUT_OF_MEMORY = (
    "can't allocate memory",
    "out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
)


@contextmanager
def failing(name: str, doing: str) -> Iterator[None]:
    """Return a context in which a failure of a model's code is a reason to refuse the model.

    Args:
        name: The model's class.
        doing: What it does in the context.

    Raises:
        ModelError: when something fails in it, except for lack of memory.
    """
    try:
        yield
    except UserError:
        raise
    except RAISED as error:
        if is_out_of_memory(error):
            raise
        first = (str(error).strip() or "no message").splitlines()[0]
        raise ModelError(
            f"{name} cannot be opened: its own code fails when it {doing}: "
            f"{type(error).__name__}: {first}"
        ) from error


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out: of the processor, a device, or its libraries."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError) and any(words in str(error) for words in _OUT_OF_MEMORY)
    )
