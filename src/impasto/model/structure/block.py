"""One unmodified Hugging Face block, run whole or with one of its parts left out.

A part that is left out is replaced, for the length of the call, by a stand-in that contributes
nothing: it returns zeros, or, where the module itself adds the residual, that residual. So the
part costs no time, and the block's wiring (parallel residual, norms after the part, multipliers)
stays the family's. Modules whose output nobody reads meanwhile are not run either.

A stand-in is an attribute of the module's instance, so neither weights nor classes are touched, and
a forward that others had put there (accelerate's device moves, for instance) comes back as it was.
It runs for the calls of the thread that put it in place; in other threads the model runs as before.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from functools import cache
from threading import get_ident
from types import MethodType
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from impasto.plan.steps import Part

Arguments = dict[str, Any]
Forward = Callable[..., Any]


@dataclass(frozen=True)
class Entered:
    """What the model's own forward hands to its blocks.

    Attributes:
        states: The embedded tokens: what the first block reads.
        arguments: For each layer, the further arguments of its block.
    """

    states: Float[Tensor, "batch rows hidden"]
    arguments: list[Arguments]


@dataclass(frozen=True, slots=True)
class StateForm:
    """The form in which blocks take and return states: one vector a token, or several streams.

    Several streams are one long vector everywhere else.

    Attributes:
        streams: How many there are; 0 where a token's state is one vector without further axis.
        axis: The axis of streams in what blocks take.
    """

    streams: int = 0
    axis: int = 2

    @classmethod
    def of(cls, states: Tensor, rows: int) -> "StateForm | None":
        """Return the form of states of one sequence of so many rows; None where it is another."""
        if states.ndim == 3 and states.shape[:2] == (1, rows):
            return cls()
        if states.ndim == 4 and states.shape[:2] == (1, rows):
            return cls(states.shape[2])
        if states.ndim == 4 and states.shape[1:3] == (1, rows):
            return cls(states.shape[0], 0)
        return None

    def flat(self, states: Tensor) -> Float[Tensor, "batch rows hidden"]:
        """Return states, as blocks take them, with one vector a token."""
        return states.movedim(self.axis, 2).flatten(2) if self.streams else states

    def full(self, states: Float[Tensor, "batch rows hidden"]) -> Tensor:
        """Return states with one vector a token as blocks take them."""
        if not self.streams:
            return states
        return states.unflatten(2, (self.streams, -1)).movedim(2, self.axis)


ONE_VECTOR = StateForm()


@dataclass(frozen=True, slots=True)
class Component:
    """A module inside a block that is a part of it, or a piece of one.

    Attributes:
        module: The module.
        outputs: The arity of its output; 0 for a bare tensor.
    """

    module: nn.Module
    outputs: int

    def silent(self) -> Forward:
        """Return a forward that contributes nothing to the residual stream."""
        names = parameters(type(self.module))
        adds_residual = "residual" in names

        def forward(*args: Any, **kwargs: Any) -> Any:
            given = dict(zip(names, args, strict=False)) | kwargs
            states = given["residual"] if adds_residual else torch.zeros_like(given[names[0]])
            return as_output(states, self.outputs)

        return forward


@dataclass(frozen=True, slots=True)
class Block:
    """A layer of a model: the block and the components of its two parts.

    Attributes:
        module: The block.
        attention: The components of its attention.
        mlp: Those of its MLP.
        leaves_keys: Whether it writes keys and values to a cache. One whose attention was taken out
            does not.
        queries: The modules that make its queries and nothing else.
        least_queries: The width of stand-ins for queries that nobody reads: that of one head, where
            the block takes that; None for the width of the queries themselves.
        idle: The modules whose output nobody reads while a part is left out.
        form: The form in which it takes and returns states.
        is_passed_over: Whether it does nothing, for the model's own forward does not call it.
    """

    module: nn.Module
    attention: tuple[Component, ...]
    mlp: tuple[Component, ...]
    leaves_keys: bool = True
    queries: tuple[nn.Module, ...] = ()
    least_queries: int | None = None
    idle: Mapping[Part, tuple[nn.Module, ...]] = field(default_factory=dict)
    form: StateForm = ONE_VECTOR
    is_passed_over: bool = False

    @property
    def device(self) -> torch.device | None:
        """The device that its weights lie on; None where they are brought for each call."""
        weight = next(self.module.parameters(), None)
        return None if weight is None or weight.is_meta else weight.device

    def __call__(
        self, states: Float[Tensor, "batch rows hidden"], arguments: Arguments, part: Part = "block"
    ) -> Float[Tensor, "batch rows hidden"]:
        """Return the block's output for ``states``, or x + attention(x), or x + mlp(x)."""
        if self.is_passed_over:
            return states
        full = self.form.full(states)
        if part == "block":
            return self.form.flat(first_tensor(self.module(full, **arguments)))
        with self.without("mlp" if part == "attention" else "attention"):
            return self.form.flat(first_tensor(self.module(full, **arguments)))

    def without_queries(self) -> "Forwards":
        """Return a context in which no queries are made, for calls for keys and values alone."""

        def stand_in(module: nn.Module) -> Forward:
            width: Any = self.least_queries or module.out_features
            return lambda states: states.new_zeros(1).expand(*states.shape[:-1], width)

        return Forwards([(module, stand_in(module)) for module in self.queries])

    def without(self, *parts: Part) -> "Forwards":
        """Return a context in which ``parts`` contribute nothing."""
        left_out = [c for part in parts for c in (self.mlp if part == "mlp" else self.attention)]
        idle = [module for part in parts for module in self.idle.get(part, ())]
        return Forwards(
            [(component.module, component.silent()) for component in left_out]
            + [(module, _identity) for module in idle]
        )


def _identity(states: Float[Tensor, "*rows hidden"]) -> Float[Tensor, "*rows hidden"]:
    return states


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


def named_call(module: nn.Module, args: tuple[Any, ...], given: Arguments) -> Arguments:
    """Return the arguments of a block's call by name; its states are ``hidden_states``.

    Some families call them otherwise, but all have them first.
    """
    names = parameters(type(module))
    call = dict(zip(names, args, strict=False)) | given
    if "hidden_states" not in call and names[0] in call:
        call = {"hidden_states": call.pop(names[0])} | call
    return call


def first_tensor(output: Any) -> Float[Tensor, "*rows hidden"]:
    """Return the hidden states in a module's output, which may be wrapped in a tuple or a list."""
    return output[0] if isinstance(output, tuple | list) else output


def arity(output: Any) -> int:
    """Return the number of values in a module's output: 0 for a bare tensor, −n for a list."""
    if isinstance(output, list):
        return -len(output)
    return len(output) if isinstance(output, tuple) else 0


def as_output(states: Float[Tensor, "*rows hidden"], outputs: int) -> Any:
    """Return states in the form of an output of that :func:`arity`."""
    values = (states, *([None] * (abs(outputs) - 1)))
    return list(values) if outputs < 0 else values if outputs else states
