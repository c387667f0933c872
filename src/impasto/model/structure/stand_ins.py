"""Stand-ins for the ``forward`` of modules, put in place and taken away exactly.

A stand-in is an attribute of the instance, so neither weights nor classes are touched, and a
forward that others had put there (accelerate's device moves, for instance) comes back as it was. It
runs for the calls of the thread that put it in place; in other threads the model runs as before.
"""

import inspect
from collections.abc import Callable, Sequence
from copy import deepcopy
from functools import cache
from threading import get_ident
from types import MethodType
from typing import Any

from torch import Tensor, nn

Forward = Callable[..., Any]


class StandIn:
    """A callable in the place of a module's forward.

    Attributes:
        forward: The function that runs instead.
        before: The module's previous stand-in for its forward; None for none.
    """

    __slots__ = ("_module", "_otherwise", "_owner", "before", "forward")

    def __init__(self, module: nn.Module, forward: Forward, in_every_thread: bool) -> None:
        self.forward, self.before = forward, module.__dict__.get("forward")
        self._module, self._otherwise = module, module.forward
        self._owner = None if in_every_thread else get_ident()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the stand-in; on another thread than its own, run what would run without it."""
        if self._owner is None or self._owner == get_ident():
            return self.forward(*args, **kwargs)
        return self._otherwise(*args, **kwargs)

    def __deepcopy__(self, memo: dict[int, Any]) -> Forward:
        """Return the own forward of the module's copy: a stand-in stays where it was put."""
        if self.before is not None:
            return deepcopy(self.before, memo)
        return MethodType(type(self._module).forward, memo[id(self._module)])


class Forwards:
    """A context in which each of the given modules runs its stand-in.

    Args:
        stand_ins: The modules, each with the function that runs instead of its forward.
        in_every_thread: Whether the calls of other threads run the stand-ins, too.
    """

    def __init__(
        self, stand_ins: Sequence[tuple[nn.Module, Forward]], in_every_thread: bool = False
    ) -> None:
        self._given, self._in_every_thread = stand_ins, in_every_thread
        self._placed: list[tuple[nn.Module, StandIn]] = []

    def __enter__(self) -> "Forwards":
        for module, forward in self._given:
            stand_in = StandIn(module, forward, self._in_every_thread)
            module.__dict__["forward"] = stand_in
            self._placed.append((module, stand_in))
        return self

    def __exit__(self, *_: object) -> None:
        while self._placed:
            module, stand_in = self._placed.pop()
            if stand_in.before is None:
                del module.__dict__["forward"]
            else:
                module.__dict__["forward"] = stand_in.before


@cache
def parameters(kind: type[nn.Module]) -> list[str]:
    """Return the names of the parameters of a class's forward."""
    return list(inspect.signature(kind.forward).parameters)[1:]


def first_tensor(output: Any) -> Tensor:
    """Return the hidden states in a module's output, which some families wrap in a tuple."""
    return output[0] if isinstance(output, tuple) else output


def arity(output: Any) -> int:
    """Return the number of values in a module's output; 0 for a bare tensor."""
    return len(output) if isinstance(output, tuple) else 0


def as_output(states: Tensor, outputs: int) -> Any:
    """Return states in the form of an output of that :func:`arity`."""
    return (states, *([None] * (outputs - 1))) if outputs else states
