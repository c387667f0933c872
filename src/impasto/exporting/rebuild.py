"""The source's own weights under another outline: other layers, another order, or some absent.

Nothing is copied: the rebuilt model's parameters are the source's. That it is what the plan asks
for is compared, not assumed: each layer's attributes with those of the layer that it is to be, and
what the model's own forward calls it with (masks, windows, rotary tables).
"""

import copy
from collections.abc import Sequence
from typing import Any
from weakref import ref

import torch
from accelerate import init_empty_weights
from torch import Tensor, nn

from impasto.exporting.error import ExportError
from impasto.model.absent import empty_blocks, is_absent
from impasto.model.anatomy import find_blocks
from impasto.model.block import Block
from impasto.model.opened import Entered, OpenedModel

# How a module knows its place; it differs wherever the order does.
LAYER_NUMBERS = ("layer_idx", "layer_id", "layer_number", "_layer_idx")
LONGEST_WINDOW = 8192


def rebuilt(model: OpenedModel, config: Any, order: Sequence[int | None]) -> Any:
    """Return a model with the source's weights whose layer i is the source's ``order[i]``.

    Args:
        model: The source.
        config: The configuration of the new one.
        order: The source's layers, in the new order; None for a layer that is to be absent.

    Raises:
        ExportError: when the two do not have the same parts.
    """
    source, path = model.hf, model.anatomy.path
    with init_empty_weights(include_buffers=False):
        hf: Any = type(source)(config)
    blocks = find_blocks(hf)[1]
    empty_blocks(blocks, [place for place, layer in enumerate(order) if layer is not None])
    theirs = dict(source.named_modules(remove_duplicate=False))
    for name, module in hf.named_modules(remove_duplicate=False):
        if is_absent(module) and any(module is block for block in blocks):
            continue
        other = theirs.get(_source_name(name, path, order))
        if other is None or not _has_room(module, other):
            raise ExportError(
                f"{type(source).__name__} cannot be built anew from its configuration: at {name!r} "
                "it has other parts. Either a setting of this family cannot follow the order of "
                "the plan's layers (then form='planned' can hold the plan), or the model holds "
                "adapters (merge them) or quantised weights (export from those it was made of)"
            )
        for leaf in module._parameters:
            module._parameters[leaf] = other._parameters[leaf]
        for leaf in module._buffers:
            module._buffers[leaf] = other._buffers[leaf]
    _refuse_offloaded(hf)
    hf.generation_config = copy.deepcopy(source.generation_config)
    return hf.eval()


def compare(model: OpenedModel, hf: Any, order: Sequence[int]) -> None:
    """Raise ExportError unless each layer of a rebuilt model is the source's of ``order``."""
    blocks = find_blocks(hf)[1]
    for place, layer in enumerate(order):
        pairs = zip(
            model.blocks[layer].module.named_modules(), blocks[place].named_modules(), strict=True
        )
        for (name, its), (_, new) in pairs:
            for what, value in _attributes(its).items():
                found = _attributes(new).get(what)
                if found != value:
                    where = f"{name}.{what}" if name else what
                    raise _inexpressible(place, layer, f"{where} is {found!r}, not {value!r}")
    outline = OpenedModel(
        ref(hf), [Block(block, (), ()) for block in blocks], model.habits, model.anatomy
    )
    its, new = _called_with(model), _called_with(outline)
    for place, layer in enumerate(order):
        for name, value in its.arguments[layer].items():
            if not _same(value, new.arguments[place].get(name)):
                raise _inexpressible(place, layer, f"it is called with another {name}")


def separate(hf: Any, path: str, order: Sequence[int | None]) -> dict[str, Tensor]:
    """Return a rebuilt model's weights, those of a repeated layer as a copy for each time."""
    repeated = {place for place, layer in enumerate(order) if layer in order[:place]}
    state = dict(hf.state_dict())
    for name in state:
        place = name.removeprefix(f"{path}.").partition(".")[0]
        if name.startswith(f"{path}.") and int(place) in repeated and order[int(place)] is not None:
            state[name] = state[name].clone()
    return state


def _source_name(name: str, path: str, order: Sequence[int | None]) -> str:
    """Return what a module of the rebuilt model is called in the source."""
    if not name.startswith(f"{path}."):
        return name
    place, dot, rest = name.removeprefix(f"{path}.").partition(".")
    layer = order[int(place)]
    return f"{path}.{place if layer is None else layer}{dot}{rest}"


def _has_room(module: nn.Module, other: nn.Module) -> bool:
    """Whether a module takes another's weights, all of them; it may know fewer tables."""

    def shapes(weights: Any) -> list[tuple[str, Any]]:
        return [(name, None if each is None else each.shape) for name, each in weights.items()]

    alike = shapes(module._parameters) == shapes(other._parameters)
    return alike and module._buffers.keys() <= other._buffers.keys()


def _refuse_offloaded(hf: Any) -> None:
    for name, weight in hf.named_parameters():
        if weight.device.type == "meta":
            raise ExportError(
                f"{name} is offloaded, so it cannot be written; load the model without device_map"
            )


def _attributes(module: nn.Module) -> dict[str, Any]:
    """Return what a module is and what plain values it holds, its place apart."""
    plain = (bool, int, float, str, type(None))
    held = {
        name: value
        for name, value in vars(module).items()
        if isinstance(value, plain) and name not in LAYER_NUMBERS
    }
    return {"class": type(module).__name__} | held


def _called_with(model: OpenedModel) -> Entered:
    """Return what blocks are called with for a text longer than any window, after one pad."""
    config = model.hf.config.get_text_config(decoder=True)
    windows = [
        value
        for name, value in vars(config).items()
        if ("window" in name or "chunk" in name) and type(value) is int and value < LONGEST_WINDOW
    ]
    length = min(max([64, *(window + 8 for window in windows)]), model.max_positions or 64) - 1
    ids = torch.zeros(1, length + 1, dtype=torch.long, device=model.device)
    present = torch.ones_like(ids)
    present[:, 0] = 0
    with torch.no_grad():
        return model.enter(ids, (present.cumsum(-1) - 1).clamp(min=0), present)


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor):
        return isinstance(other, Tensor) and torch.equal(one, other)
    if isinstance(one, (tuple, list)):
        alike = isinstance(other, (tuple, list)) and len(one) == len(other)
        return alike and all(map(_same, one, other))
    return one == other


def _inexpressible(place: int, layer: int, difference: str) -> ExportError:
    return ExportError(
        f"the configuration of this family cannot say that layer {layer} stands at place {place}: "
        f"there, {difference}; form='planned' can hold the plan"
    )
