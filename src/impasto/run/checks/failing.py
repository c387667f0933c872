"""What a model's own code raises while it is checked, told as the reason that it is refused."""

from collections.abc import Iterator
from contextlib import contextmanager

from impasto.error import UserError
from impasto.model.anatomy import ModelError
from impasto.model.opened import Opened
from impasto.run.memory import is_out_of_memory

RAISED = (
    RuntimeError,
    ValueError,
    TypeError,
    AttributeError,
    KeyError,
    IndexError,
    NotImplementedError,
    AssertionError,
)


@contextmanager
def failing_as(model: Opened, doing: str) -> Iterator[None]:
    """Return a context in which a failure of the model's code is a reason to refuse the model.

    Raises:
        ModelError: when something fails in it, unless it was for want of memory.
    """
    with failing(type(model.hf).__name__, doing):
        yield


@contextmanager
def failing(name: str, doing: str) -> Iterator[None]:
    """Return the same for a model of a class, before it is opened."""
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
