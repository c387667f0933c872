"""Blocks that differ in nothing but their weights, several of which run in one call.

The weights of all layers are stacked: each parameter of all layers moves into one tensor, and every
layer's own becomes a view of its part. So the layers can be called one by one, as ever, or several
in one call (:mod:`impasto.model.structure.stacked_weight`), and no weight is in memory twice.
Unstacking gives each layer memory of its own again.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from impasto.model.structure.block import Arguments, Block, StandIn
from impasto.model.structure.stacked_weight import StackedWeight
from impasto.plan.steps import Part


class _StackedParameter(NamedTuple):
    """One parameter of every layer.

    Attributes:
        name: Its name in a block.
        parameters: Each layer's own.
        stack: All of them, layers first.
    """

    name: str
    parameters: list[nn.Parameter]
    stack: Shaped[Tensor, "layers *shape"]


class StackedBlocks:
    """Blocks of one kind, several of which can run in one call.

    Args:
        blocks: The blocks, by layer; they differ in nothing but their weights.
    """

    def __init__(self, blocks: Mapping[int, Block]) -> None:
        self._blocks = blocks
        self._index = {layer: index for index, layer in enumerate(blocks)}
        self._stacked: list[_StackedParameter] = []
        self._runs: dict[tuple[int, ...], list[tuple[nn.Module, str, StackedWeight]]] = {}
        self._modules: list[nn.Module] = []
        self._contents: list[int] = []

    @torch.inference_mode(False)
    @torch.no_grad()
    def stack(self, copies: bool = False) -> None:
        """Stack the weights of all layers, one parameter at a time; on an error, none.

        Args:
            copies: Whether to stack copies of the weights, so that the layers' own stay in place.
        """
        modules = [block.module for block in self._blocks.values()]
        named = [dict(module.named_parameters()) for module in modules]
        with ExitStack() as undo:
            undo.callback(self.unstack)
            for name, first in named[0].items():
                parameters = [each[name] for each in named]
                stack = first.new_empty(len(parameters), *first.shape)
                self._stacked.append(_StackedParameter(name, parameters, stack))
                for index, parameter in enumerate(parameters):
                    stack[index].copy_(parameter)
                    if not copies:
                        parameter.data = stack[index]
            undo.pop_all()
        self._modules = [each for module in modules for each in module.modules()]
        self._contents = _contents(self._modules)

    @torch.inference_mode(False)
    @torch.no_grad()
    def unstack(self) -> None:
        """Give every layer's weights memory of their own again."""
        self._runs.clear()
        while self._stacked:
            _, parameters, stack = self._stacked[-1]
            for index, parameter in enumerate(parameters):
                if parameter.data_ptr() == stack[index].data_ptr():
                    parameter.data = stack[index].clone()
            self._stacked.pop()

    @property
    def is_stacked(self) -> bool:
        """Whether all weights are stacked still: nobody has replaced any since."""
        return (
            bool(self._stacked)
            and self._contents == _contents(self._modules)
            and all(
                parameter.data_ptr() == stack.data_ptr() + index * stack.stride(0) * stack.itemsize
                for _, parameters, stack in self._stacked
                for index, parameter in enumerate(parameters)
            )
        )

    @property
    def has_run(self) -> bool:
        """Whether layers have run in one call since they were stacked."""
        return bool(self._runs)

    def may_run(self, layers: Sequence[int]) -> bool:
        """Whether these layers can run in one call: their weights are a slice of the stacks."""
        return _step(self._indices(layers)) is not None

    def __call__(
        self,
        layers: Sequence[int],
        states: Float[Tensor, "batch rows hidden"],
        arguments: Arguments,
        part: Part = "block",
    ) -> Float[Tensor, "batch rows hidden"]:
        """Run layers, or one part of each, on the hidden states of all of them in one batch.

        Args:
            layers: The layers.
            states: Their hidden states, the first layer's sequences first.
            arguments: Those of all layers, in the same order.
            part: The part that runs.
        """
        block = self._blocks[layers[0]]
        with _in_place(self._weights(tuple(layers))):
            return block(states, arguments, part)

    def _weights(self, layers: tuple[int, ...]) -> list[tuple[nn.Module, str, StackedWeight]]:
        """Return the modules of the first layer, each with a parameter's name and its weights."""
        if layers not in self._runs:
            indices = self._indices(layers)
            some = slice(indices[0], indices[-1] + 1, _step(indices))
            block, weights = self._blocks[layers[0]].module, []
            for name, _, stack in self._stacked:
                path, _, leaf = name.rpartition(".")
                weights.append((block.get_submodule(path), leaf, StackedWeight.of(stack[some])))
            self._runs[layers] = weights
        return self._runs[layers]

    def _indices(self, layers: Sequence[int]) -> list[int]:
        return [self._index[layer] for layer in layers]


def _contents(modules: Sequence[nn.Module]) -> list[int]:
    """Return the ids of the parameters and children of modules: they change with any of these."""
    return [
        id(each)
        for module in modules
        for members in (module._parameters, module._modules)
        for each in members.values()
    ]


def _step(indices: Sequence[int]) -> int | None:
    """Return the difference between neighbours where it is positive and the same for all."""
    steps = {after - before for before, after in pairwise(indices)}
    step = steps.pop() if len(steps) == 1 else 0
    return step if step > 0 else None


@contextmanager
def _in_place(weights: Sequence[tuple[nn.Module, str, Tensor]]) -> Iterator[None]:
    """Return a context in which modules have these weights in the place of their parameters.

    They are attributes of the instances, which Python looks up before torch looks up parameters.
    """
    try:
        for module, name, weight in weights:
            module.__dict__[name] = weight
        yield
    finally:
        for module, name, _ in weights:
            module.__dict__.pop(name, None)


def are_alike(blocks: Mapping[int, nn.Module]) -> bool:
    """Whether blocks, by layer, differ in nothing but the values of weights and the layer's index.

    Then all of them run the same operations, each with its own weights.
    """
    (number, first), *others = blocks.items()
    named = dict(first.named_modules())
    for other_number, other in others:
        theirs = dict(other.named_modules())
        if named.keys() != theirs.keys() or any(
            not _is_like(module, theirs[name], (number, other_number))
            for name, module in named.items()
        ):
            return False
    return True


def why_fixed(blocks: Mapping[int, nn.Module]) -> str | None:
    """Return the reason why the weights of blocks cannot be stacked; None where they can."""
    weights = [
        weight
        for block in blocks.values()
        for _, weight in block.named_parameters(remove_duplicate=False)
    ]
    if not all(map(_can_move, weights)):
        return (
            "weights that cannot be moved (quantized, on the meta device, not contiguous, or made "
            "in inference mode)"
        )
    addresses = [weight.data_ptr() for weight in weights if weight.numel()]
    shared = len(set(map(id, weights))) < len(weights) or len(set(addresses)) < len(addresses)
    return "two of them share a weight, which cannot lie in two places" if shared else None


def are_hooked(modules: Sequence[nn.Module]) -> bool:
    """Whether any of some modules has forward hooks other than transformers' own."""
    return any(
        not str(getattr(hook, "__module__", "")).startswith("transformers.")
        for module in modules
        for hooks in (module._forward_pre_hooks, module._forward_hooks)
        if hooks
        for hook in hooks.values()
    )


_NOT_COMPARED = {"_parameters", "_buffers", "_modules", "_forward_hooks", "_forward_pre_hooks"}


def _is_like(one: nn.Module, other: nn.Module, numbers: tuple[int, int]) -> bool:
    """Whether two modules are of one class, with equal settings and weights of equal shapes."""
    if type(one) is not type(other):
        return False
    ours, theirs = _settings(one), _settings(other)
    if ours.keys() != theirs.keys():
        return False
    if any(not _is_equal(ours[n], theirs[n], numbers) for n in ours):
        return False
    if one._buffers.keys() != other._buffers.keys():
        return False
    if any(not _is_equal(each, other._buffers[n], numbers) for n, each in one._buffers.items()):
        return False
    return [*map(_form, one._parameters.items())] == [*map(_form, other._parameters.items())]


def _settings(module: nn.Module) -> dict[str, Any]:
    """Return a module's plain attributes, but for a forward that is its class's own."""
    settings = {name: value for name, value in vars(module).items() if name not in _NOT_COMPARED}
    forward = settings.get("forward")
    forward = forward.forward if isinstance(forward, StandIn) else forward
    if getattr(forward, "__func__", None) is type(module).forward:
        del settings["forward"]
    return settings


def _is_equal(one: Any, other: Any, numbers: tuple[int, int]) -> bool:
    if one is other or (type(one) is int and (one, other) == numbers):
        return True
    if isinstance(one, Tensor):
        return isinstance(other, Tensor) and torch.equal(one, other)
    if isinstance(one, partial) and isinstance(other, partial):
        return (one.func, one.args, one.keywords) == (other.func, other.args, other.keywords)
    return type(one) is type(other) and bool(one == other)


def _form(named: tuple[str, nn.Parameter | None]) -> tuple[Any, ...]:
    """Return a parameter's name, type, shape, dtype and device."""
    name, weight = named
    if weight is None:
        return name, None
    return name, type(weight), weight.shape, weight.dtype, weight.device


def _can_move(weight: nn.Parameter) -> bool:
    is_plain = type(weight) is nn.Parameter and not weight.is_meta and not weight.is_inference()
    return is_plain and weight.is_contiguous()
