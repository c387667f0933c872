"""The module that makes a layer's last contribution, found by running the layer.

No names are looked up. The layer runs on real states; the linear module that was called last and
whose output is added to the residual stream, alone or times a number, is the one. Whether it is so
is tried: with zeros for its output the layer must return what it returns less that output. A norm
behind the module, or a router, fails that. Then it is the norm, or what holds the experts: it has
no weight that a map can be merged into, and the map is put behind it.
"""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from impasto.mending.least_squares import Map
from impasto.model.decoder import OpenedModel
from impasto.model.structure.block import Arguments, Block
from impasto.plan.steps import Part

Features = Literal["state", "units"]

_LINEAR = (nn.Linear, Conv1D)
_ALLOWED = 1e-3  # what counts as rounding, of what is added
_LEAST = 1e-4  # of the state; what is smaller cannot be told from rounding


@dataclass(frozen=True)
class Output:
    """The module whose output is a layer's last contribution.

    Attributes:
        name: Its name within the block.
        module: The module.
        scale: What its output is multiplied by before it is added.
        width: How many units the contribution has.
    """

    name: str
    module: nn.Module
    scale: float
    width: int

    @property
    def takes_map(self) -> bool:
        """Whether it has a weight that a map can be merged into."""
        return isinstance(self.module, _LINEAR)

    @property
    def has_bias(self) -> bool:
        """Whether it has a bias, which can take a map's."""
        return self.takes_map and getattr(self.module, "bias", None) is not None

    def features(self, of: Features) -> int:
        """Return how many features a map has."""
        if of == "state":
            return self.width
        weight: Any = self.module.weight
        return weight.shape[0 if isinstance(self.module, Conv1D) else 1]

    def merged(self, fit: Map, of: Features) -> dict[str, Tensor]:
        """Return its weight, and its bias, with a map merged in.

        Of its contribution s, a map makes s + B·s + a, so the weight W becomes W + B·W. Of the
        units u that it reads, it makes s + B·u + a, so W becomes W + B over the scale.
        """
        weight: Any = self.module.weight
        turned = isinstance(self.module, Conv1D)
        w = weight.detach().double()
        w = w.T if turned else w
        b = fit.weight.to(w.device)
        w = w + (b @ w if of == "state" else b / self.scale)
        changed = {"weight": (w.T if turned else w).to(weight.dtype).contiguous()}
        if self.has_bias:
            bias: Any = self.module.bias
            old = bias.detach().double()
            new = old + fit.bias.to(old.device) / self.scale
            changed["bias"] = (new + b @ old if of == "state" else new).to(bias.dtype)
        return changed


class Noted:
    """What a module reads, or what it adds to the residual stream, in one call of its layer."""

    def __init__(self, output: Output, of: Features) -> None:
        self._output, self._of, self._last = output, of, torch.zeros(())

    @contextmanager
    def calls(self) -> Iterator[None]:
        """Note the module's calls in the block."""

        def note(module: nn.Module, args: tuple[Tensor, ...], output: Any) -> None:
            adds = self._of == "state"
            self._last = self._output.scale * _first(output) if adds else args[0]

        hook = self._output.module.register_forward_hook(note)
        try:
            yield
        finally:
            hook.remove()

    @property
    def features(self) -> Float[Tensor, "rows features"]:
        """What the last call's map is fitted to."""
        return self._last.detach().reshape(-1, self._last.shape[-1])


@torch.no_grad()
def find_output(
    block: Block, states: Float[Tensor, "batch rows hidden"], arguments: Arguments, part: Part
) -> Output | None:
    """Return the module whose output is the last contribution of a layer; None where none is.

    Args:
        block: The layer.
        states: What it reads.
        arguments: What it is called with beside.
        part: What of it runs.
    """
    tried, states, arguments = _in_float32(block, states, arguments)
    called: list[tuple[str, nn.Module, Tensor]] = []
    with _noting(tried.module, called):
        after = tried(states, arguments, part)
    called.reverse()
    called.sort(key=lambda call: not isinstance(call[1], _LINEAR))  # what takes a map comes first
    for name, module, output in called:
        if output.shape[-1] != states.shape[-1] or output.numel() != states.numel():
            continue
        if sum(other is module for _, other, _ in called) > 1:
            continue
        with _silent(module):
            added = after - tried(states, arguments, part)
        scale = _scale(added, output.reshape(states.shape), after)
        if scale is not None:
            own = block.module.get_submodule(name)
            return Output(name, own, scale, states.shape[-1])
    return None


@torch.no_grad()
def parallel_layers(model: OpenedModel, ids: Int[Tensor, "batch tokens"]) -> frozenset[int]:
    """Return the layers whose MLP does not read what their attention adds, tried on some tokens."""
    places = torch.arange(ids.shape[1], device=ids.device)
    entered = model.enter(ids, places.expand(len(ids), -1))
    states, found = entered.states, []
    for layer in model.present:
        block, arguments = model.blocks[layer], entered.arguments[layer]
        after = block(states, arguments)
        if layer not in model.undivided:
            one_by_one = block(block(states, arguments, "attention"), arguments, "mlp")
            allowed = 1e-2 * (after - states).float().norm()
            if (one_by_one - after).float().norm() > allowed:
                found.append(layer)
        states = after
    return frozenset(found)


def _scale(
    added: Float[Tensor, "*rows hidden"],
    output: Float[Tensor, "*rows hidden"],
    after: Float[Tensor, "*rows hidden"],
) -> float | None:
    """Return the number that makes a module's output what was added; None where there is none.

    Most rows decide, for a few may have states so large that their rounding hides what is added.
    """
    scale = (added * output).sum(-1) / output.square().sum(-1).clamp(min=1e-30)
    typical = float(scale.median())
    rest = (added - typical * output).norm(dim=-1)
    size = added.norm(dim=-1)
    is_noise = float((size / after.norm(dim=-1).clamp(min=1e-30)).median()) < _LEAST
    if is_noise or float((rest / size.clamp(min=1e-30)).median()) > _ALLOWED:
        return None
    return 1.0 if abs(typical - 1) < _ALLOWED else typical


def _in_float32(
    block: Block, states: Tensor, arguments: Arguments
) -> tuple[Block, Tensor, Arguments]:
    """Return a layer of half precision, and what it is called with, in float32; others as is."""
    if states.dtype in (torch.float32, torch.float64):
        return block, states, arguments
    copied = copy.deepcopy(block)
    copied.module.float()
    return copied, states.float(), {name: _floats(value) for name, value in arguments.items()}


def _floats(value: Any) -> Any:
    if isinstance(value, Tensor) and value.is_floating_point():
        return value.float()
    return type(value)(map(_floats, value)) if isinstance(value, tuple | list) else value


@contextmanager
def _noting(block: nn.Module, called: list[tuple[str, nn.Module, Tensor]]) -> Iterator[None]:
    """Note what the modules inside a block give, in the order in which they are done."""
    hooks = []
    for name, module in block.named_modules():
        is_quantised = isinstance(module, _LINEAR) and type(module.weight) is not nn.Parameter
        if module is block or is_quantised:
            continue

        def note(module: nn.Module, args: Any, output: Any, name: str = name) -> None:
            if isinstance(states := _first(output), Tensor):
                called.append((name, module, states))

        hooks.append(module.register_forward_hook(note))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def _silent(module: nn.Module) -> Iterator[None]:
    def silent(module: nn.Module, args: Any, output: Any) -> Any:
        nothing = torch.zeros_like(_first(output))
        return (nothing, *output[1:]) if isinstance(output, tuple) else nothing

    hook = module.register_forward_hook(silent)
    try:
        yield
    finally:
        hook.remove()


def _first(output: Any) -> Any:
    """Return what a module gives, of several values the first."""
    return output[0] if isinstance(output, tuple) and output else output
