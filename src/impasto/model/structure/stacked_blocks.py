"""Blocks that differ in nothing but their weights, run as one wide block.

The weights of all layers are stacked: they move into one memory for each name, and every layer's
own become a view of their part of it. So the layers can be called one by one, as ever, or several
in one call (:mod:`impasto.model.structure.stacked_weight`), and no weight is there twice. When it is over, each gets
memory of its own again.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from impasto.model.structure.block import Arguments, Block, Part
from impasto.model.structure.stacked_weight import StackedWeight
from impasto.model.structure.stand_ins import StandIn


class _Weights(NamedTuple):
    """One parameter of every layer, and where all of them lie."""

    name: str
    parameters: list[nn.Parameter]
    whole: Tensor


class StackedBlocks:
    """Layers of one kind, each of which can be one of a wide block's.

    Args:
        blocks: The blocks, by layer; they differ in nothing but their weights.
    """

    def __init__(self, blocks: Mapping[int, Block]) -> None:
        self._blocks = blocks
        self._place = {layer: place for place, layer in enumerate(blocks)}
        self._weights: list[_Weights] = []
        self._stacks: dict[tuple[int, ...], list[tuple[nn.Module, str, StackedWeight]]] = {}
        self._modules: list[nn.Module] = []
        self._made_of: list[int] = []

    @torch.inference_mode(False)
    @torch.no_grad()
    def stack(self, copies: bool = False) -> None:
        """Stack the weights of all layers, a name at a time; all of them, or, on an error, none.

        Args:
            copies: Whether to stack copies of the weights, so that none of the layers' own moves.
        """
        modules = [block.module for block in self._blocks.values()]
        named = [dict(module.named_parameters()) for module in modules]
        with ExitStack() as undo:
            undo.callback(self.unstack)
            for name, first in named[0].items():
                parameters = [each[name] for each in named]
                whole = first.new_empty(len(parameters), *first.shape)
                self._weights.append(_Weights(name, parameters, whole))
                for place, parameter in enumerate(parameters):
                    whole[place].copy_(parameter)
                    if not copies:
                        parameter.data = whole[place]
            undo.pop_all()
        self._modules = [each for module in modules for each in module.modules()]
        self._made_of = _made_of(self._modules)

    @torch.inference_mode(False)
    @torch.no_grad()
    def unstack(self) -> None:
        """Give every layer's weights memory of their own again."""
        self._stacks.clear()
        while self._weights:
            _, parameters, whole = self._weights[-1]
            for place, parameter in enumerate(parameters):
                if parameter.data_ptr() == whole[place].data_ptr():
                    parameter.data = whole[place].clone()
            self._weights.pop()

    @property
    def is_stacked(self) -> bool:
        """Whether all weights lie where they were moved to: nobody has replaced any since."""
        return (
            bool(self._weights)
            and self._made_of == _made_of(self._modules)
            and all(
                parameter.data_ptr() == whole.data_ptr() + place * whole.stride(0) * whole.itemsize
                for _, parameters, whole in self._weights
                for place, parameter in enumerate(parameters)
            )
        )

    @property
    def has_run(self) -> bool:
        """Whether layers have run in one call since they were stacked."""
        return bool(self._stacks)

    def may_run(self, layers: Sequence[int]) -> bool:
        """Whether these layers can run in one call: their weights lie at equal distances."""
        return _step(self._places(layers)) is not None

    def __call__(
        self,
        layers: Sequence[int],
        states: Float[Tensor, "batch rows hidden"],
        arguments: Arguments,
        part: Part = "block",
    ) -> Float[Tensor, "batch rows hidden"]:
        """Run layers on states, the first layer's batch entries first, or one part of each."""
        block = self._blocks[layers[0]]
        with _in_place(self._stacked(tuple(layers))):
            return block(states, arguments, part)

    def _stacked(self, layers: tuple[int, ...]) -> list[tuple[nn.Module, str, StackedWeight]]:
        """Return the modules of the first layer, with what its weights are to be."""
        if layers not in self._stacks:
            places = self._places(layers)
            some = slice(places[0], places[-1] + 1, _step(places))
            root, found = self._blocks[layers[0]].module, []
            for name, _, whole in self._weights:
                path, _, leaf = name.rpartition(".")
                found.append((root.get_submodule(path), leaf, StackedWeight.of(whole[some])))
            self._stacks[layers] = found
        return self._stacks[layers]

    def _places(self, layers: Sequence[int]) -> list[int]:
        return [self._place[layer] for layer in layers]


def _made_of(modules: Sequence[nn.Module]) -> list[int]:
    """Return what tells whether anybody has put another module or parameter in a place."""
    return [
        id(each)
        for module in modules
        for held in (module._parameters, module._modules)
        for each in held.values()
    ]


def _step(places: Sequence[int]) -> int | None:
    """Return how far places are apart, if that is upwards and the same everywhere."""
    steps = {after - before for before, after in pairwise(places)}
    step = steps.pop() if len(steps) == 1 else 0
    return step if step > 0 else None


@contextmanager
def _in_place(weights: Sequence[tuple[nn.Module, str, Tensor]]) -> Iterator[None]:
    """Return a context in which modules find these in the place of their parameters.

    They are attributes of the instances, which are found before parameters are looked for.
    """
    try:
        for module, name, weight in weights:
            module.__dict__[name] = weight
        yield
    finally:
        for module, name, _ in weights:
            module.__dict__.pop(name, None)


def are_alike(blocks: Mapping[int, nn.Module]) -> bool:
    """Whether blocks, by layer, differ in nothing but weights and their own numbers.

    Then what one of them does to states, each does, with its own weights.
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
    """Return why the weights of blocks cannot move into one memory; None where they can."""
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
    places = [weight.data_ptr() for weight in weights if weight.numel()]
    shared = len(set(map(id, weights))) < len(weights) or len(set(places)) < len(places)
    return "two of them share a weight, which cannot lie in two places" if shared else None


def are_watched(modules: Sequence[nn.Module]) -> bool:
    """Whether anybody's hooks wait for some modules to run, save transformers' own."""
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
    """Return what a module is told by its attributes; its class's own forward is no setting."""
    found = {name: value for name, value in vars(module).items() if name not in _NOT_COMPARED}
    forward = found.get("forward")
    forward = forward.forward if isinstance(forward, StandIn) else forward
    if getattr(forward, "__func__", None) is type(module).forward:
        del found["forward"]
    return found


def _is_equal(one: Any, other: Any, numbers: tuple[int, int]) -> bool:
    if one is other or (type(one) is int and (one, other) == numbers):
        return True
    if isinstance(one, Tensor):
        return isinstance(other, Tensor) and torch.equal(one, other)
    if isinstance(one, partial) and isinstance(other, partial):
        return (one.func, one.args, one.keywords) == (other.func, other.args, other.keywords)
    return type(one) is type(other) and bool(one == other)


def _form(named: tuple[str, nn.Parameter | None]) -> tuple[Any, ...]:
    name, weight = named
    if weight is None:
        return name, None
    return name, type(weight), weight.shape, weight.dtype, weight.device


def _can_move(weight: nn.Parameter) -> bool:
    is_plain = type(weight) is nn.Parameter and not weight.is_meta and not weight.is_inference()
    return is_plain and weight.is_contiguous()
