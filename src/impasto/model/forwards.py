"""Stand-ins for the ``forward`` of modules, put in place and taken away exactly.

A stand-in is an attribute of the instance, so neither weights nor classes are touched, and what
others had put there (accelerate's device moves, for instance) comes back as it was. It stands in
for the calls of the thread that put it in place; a model that another thread calls meanwhile runs
as it did before.
"""

import inspect
from collections.abc import Callable, Sequence
from functools import cache
from threading import get_ident
from typing import Any

from torch import Tensor, nn

Forward = Callable[..., Any]


class Forwards:
    """A context in which each of the given modules runs its stand-in.

    Args:
        stand_ins: The modules, each with what stands in for its forward.
        in_every_thread: Whether the calls of other threads run the stand-ins, too.
    """

    def __init__(
        self, stand_ins: Sequence[tuple[nn.Module, Forward]], in_every_thread: bool = False
    ) -> None:
        self._stand_ins, self._in_every_thread = stand_ins, in_every_thread
        self._before: list[tuple[nn.Module, Any]] = []

    def __enter__(self) -> "Forwards":
        for module, forward in self._stand_ins:
            self._before.append((module, module.__dict__.get("forward")))
            if not self._in_every_thread:
                forward = OwnForward(forward, module.forward)
            module.__dict__["forward"] = forward
        return self

    def __exit__(self, *_: object) -> None:
        for module, forward in reversed(self._before):
            if forward is None:
                del module.__dict__["forward"]
            else:
                module.__dict__["forward"] = forward
        self._before.clear()


class OwnForward:
    """A forward for the calls of the thread that made it; those of others run ``otherwise``."""

    __slots__ = ("_owner", "forward", "otherwise")

    def __init__(self, forward: Forward, otherwise: Forward) -> None:
        self.forward, self.otherwise, self._owner = forward, otherwise, get_ident()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if get_ident() == self._owner:
            return self.forward(*args, **kwargs)
        return self.otherwise(*args, **kwargs)


@cache
def parameters(kind: type[nn.Module]) -> list[str]:
    """Return the names of what the forward of a class takes."""
    return list(inspect.signature(kind.forward).parameters)[1:]


def first_tensor(output: Any) -> Tensor:
    """Return the hidden states of a module's output, which some families wrap in a tuple."""
    return output[0] if isinstance(output, tuple) else output


def arity(output: Any) -> int:
    """Return how many values a module's output holds; 0 for a bare tensor."""
    return len(output) if isinstance(output, tuple) else 0


def as_output(states: Tensor, outputs: int) -> Any:
    """Wrap states as a module with that :func:`arity` returns them."""
    return (states, *([None] * (outputs - 1))) if outputs else states
