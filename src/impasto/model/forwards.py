"""Stand-ins for the ``forward`` of modules, put in place and taken away exactly.

A stand-in is an attribute of the instance, so neither weights nor classes are touched, and what
others had put there (accelerate's device moves, for instance) comes back as it was.
"""

import inspect
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from torch import Tensor, nn

Forward = Callable[..., Any]


class Forwards:
    """A context in which each of the given modules runs its stand-in."""

    def __init__(self, stand_ins: Sequence[tuple[nn.Module, Forward]]) -> None:
        self._stand_ins = stand_ins
        self._before: list[tuple[nn.Module, Any]] = []

    def __enter__(self) -> "Forwards":
        for module, forward in self._stand_ins:
            self._before.append((module, module.__dict__.get("forward")))
            module.__dict__["forward"] = forward
        return self

    def __exit__(self, *_: object) -> None:
        for module, forward in reversed(self._before):
            if forward is None:
                del module.__dict__["forward"]
            else:
                module.__dict__["forward"] = forward
        self._before.clear()


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
