"""One unmodified Hugging Face block, run whole or with one of its parts left out.

A part that is left out is replaced, for the length of the call, by a stand-in that contributes
nothing: it returns zeros, or, where the module itself adds the residual, that residual. So the
part costs no time, and the block's wiring (parallel residual, norms after the part, multipliers)
stays the family's. Modules whose output nobody reads meanwhile are not run either.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from impasto.model.structure.stand_ins import Forward, Forwards, as_output, first_tensor, parameters

Part = Literal["block", "attention", "mlp"]
Arguments = dict[str, Any]


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
    """

    module: nn.Module
    attention: tuple[Component, ...]
    mlp: tuple[Component, ...]
    leaves_keys: bool = True
    queries: tuple[nn.Module, ...] = ()
    least_queries: int | None = None
    idle: Mapping[Part, tuple[nn.Module, ...]] = field(default_factory=dict)

    def __call__(
        self, states: Float[Tensor, "batch rows hidden"], arguments: Arguments, part: Part = "block"
    ) -> Float[Tensor, "batch rows hidden"]:
        """Return the block's output for ``states``, or x + attention(x), or x + mlp(x)."""
        if part == "block":
            return first_tensor(self.module(states, **arguments))
        with self.without("mlp" if part == "attention" else "attention"):
            return first_tensor(self.module(states, **arguments))

    def without_queries(self) -> Forwards:
        """Return a context in which no queries are made, for calls for keys and values alone."""

        def stand_in(module: nn.Module) -> Forward:
            width: Any = self.least_queries or module.out_features
            return lambda states: states.new_zeros(1).expand(*states.shape[:-1], width)

        return Forwards([(module, stand_in(module)) for module in self.queries])

    def without(self, *parts: Part) -> Forwards:
        """Return a context in which ``parts`` contribute nothing."""
        left_out = [c for part in parts for c in (self.mlp if part == "mlp" else self.attention)]
        idle = [module for part in parts for module in self.idle.get(part, ())]
        return Forwards(
            [(component.module, component.silent()) for component in left_out]
            + [(module, _identity) for module in idle]
        )


def _identity(states: Tensor) -> Tensor:
    return states
