"""The source's own weights under another outline: other layers, another order, or some absent.

Nothing is copied: the rebuilt model's parameters are the source's. That it is what the plan asks
for is compared, not assumed: each layer's attributes with those of the layer that it is to be, and
what the model's own forward calls it with (masks, windows, rotary tables). That the source is what
its own configuration describes comes first (:func:`check_configured`): whatever is found after that
is about the order, and the planned form, which keeps the source's own, can hold the plan.
"""

import copy
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from weakref import ref

import torch
from accelerate import init_empty_weights
from torch import Tensor, nn

from impasto.exporting.error import ExportError, NotInFormError
from impasto.model.decoder import OpenedModel
from impasto.model.encoder import OpenedEncoder, Sentences
from impasto.model.loading.exported import maps_within
from impasto.model.opened import Opened
from impasto.model.structure.absent import empty_blocks, is_absent
from impasto.model.structure.added_maps import put_maps
from impasto.model.structure.anatomy import find_blocks, find_convolution
from impasto.model.structure.block import Arguments, Block
from impasto.model.structure.failing import RAISED, is_out_of_memory

# How a module knows its place, which differs wherever the order does; and a mode, no setting.
NOT_COMPARED = ("layer_idx", "layer_id", "layer_number", "_layer_idx", "training")
LONGEST_WINDOW = 8192


def check_configured(hf: Any) -> Any:
    """Return what a model's own configuration builds, without weights; its absent layers too.

    Raises:
        ExportError: when the model has other parts than that: modules that somebody put there, or
            weights of another shape or kind.
    """
    blocks = find_blocks(hf)[1]
    present = [place for place, block in enumerate(blocks) if not is_absent(block)]
    outline = _outline(hf, hf.config, present)
    for name, module, other in _pairs(outline, hf, lambda name: name):
        fault = _misfit(module, other)
        if fault is not None:
            raise ExportError(
                f"{type(hf).__name__} cannot be built anew from its configuration: "
                f"{name or 'the model'} {fault}. Both forms hold a model as its configuration "
                "makes it; undo what was changed after it was loaded (of a quantised model, export "
                "the unquantised one, and quantise the exported folder)"
            )
    return outline


def rebuilt(model: Opened, config: Any, order: Sequence[int | None]) -> Any:
    """Return a model with the source's weights whose layer i is the source's ``order[i]``.

    Args:
        model: The source, which is as its own configuration makes it (:func:`check_configured`).
        config: The configuration of the new one.
        order: The source's layers, in the new order; None for a layer that is to be absent.

    Raises:
        ExportError: when the two do not have the same parts.
    """
    source, path = model.hf, model.anatomy.path
    kept = [place for place, layer in enumerate(order) if layer is not None]
    try:
        hf = _outline(source, config, kept)
    except RAISED as error:
        if is_out_of_memory(error):
            raise
        raise NotInFormError(
            f"a setting of {type(source).__name__} cannot follow the order of the plan's layers: "
            f"{(str(error).strip() or type(error).__name__).splitlines()[0]}"
        ) from error
    for name, module, other in _pairs(hf, source, lambda name: _source_name(name, path, order)):
        fault = _misfit(module, other)
        if fault is not None:
            raise NotInFormError(
                f"a setting of {type(source).__name__} cannot follow the order of the plan's "
                f"layers: in the new order, {name} {fault}"
            )
        assert other is not None, "what fits is there"
        for leaf in module._parameters:
            module._parameters[leaf] = other._parameters[leaf]
        for leaf in module._buffers:
            module._buffers[leaf] = other._buffers[leaf]
    _refuse_offloaded(hf)
    if source.can_generate():
        hf.generation_config = copy.deepcopy(source.generation_config)
    return hf.eval()


def compare(model: Opened, outline: Any, hf: Any, order: Sequence[int]) -> None:
    """Raise ExportError unless each layer of a rebuilt model is the source's of ``order``.

    Args:
        model: The source.
        outline: What its configuration builds.
        hf: The rebuilt model.
        order: The source's layers, in the new order.
    """
    blocks, configured = find_blocks(hf)[1], find_blocks(outline)[1]
    for place, layer in enumerate(order):
        pairs = zip(
            model.blocks[layer].module.named_modules(), blocks[place].named_modules(), strict=True
        )
        for (name, its), (_, new) in pairs:
            for what, value in _attributes(its).items():
                found = _attributes(new).get(what)
                if found != value:
                    where = f"{name}.{what}" if name else what
                    own = _attributes(configured[layer].get_submodule(name)).get(what)
                    if own != value:
                        raise _changed(layer, where, own, value)
                    raise _inexpressible(place, layer, f"{where} is {found!r}, not {value!r}")
    opened = type(model)(
        ref(hf), [Block(block, (), ()) for block in blocks], model.habits, model.anatomy
    )
    if isinstance(opened, OpenedEncoder):
        opened.convolution = find_convolution(hf, model.anatomy)
    its, new = _called_with(model), _called_with(opened)
    for place, layer in enumerate(order):
        for name, value in its[layer].items():
            if not _same(value, new[place].get(name)):
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


def _outline(source: Any, config: Any, kept: Sequence[int]) -> Any:
    """Return what a configuration builds, without weights, all layers but those kept absent."""
    with init_empty_weights(include_buffers=False):
        hf = type(source)(config)
    path, blocks = find_blocks(hf)
    empty_blocks(blocks, kept)
    put_maps(hf, maps_within(config, path, kept))
    return hf.eval()


def _pairs(
    hf: Any, source: Any, named: Callable[[str], str]
) -> Iterator[tuple[str, nn.Module, nn.Module | None]]:
    """Give a model's modules by name, each with the source's that ``named`` says."""
    blocks = find_blocks(hf)[1]
    theirs = dict(source.named_modules(remove_duplicate=False))
    for name, module in hf.named_modules(remove_duplicate=False):
        if not (is_absent(module) and any(module is block for block in blocks)):
            yield name, module, theirs.get(named(name))


def _misfit(module: nn.Module, other: nn.Module | None) -> str | None:
    """Say why a module cannot take all of another's weights; None where it can.

    It may know fewer tables than the other.
    """
    if other is None:
        return f"is to be a {type(module).__name__}, and is not there"
    if type(module) is not type(other):
        return f"is to be a {type(module).__name__}, and is of the class {_full_name(other)}"

    def forms(weights: Any) -> dict[str, Any]:
        return {
            name: None if each is None else (tuple(each.shape), each.is_floating_point())
            for name, each in weights.items()
        }

    ours, theirs = forms(module._parameters), forms(other._parameters)
    for name in dict.fromkeys([*ours, *theirs]):
        if ours.get(name) != theirs.get(name):
            return (
                f"has {name} as {_form(theirs.get(name))}, and is to have {_form(ours.get(name))}"
            )
    lacking = [name for name in module._buffers if name not in other._buffers]
    return f"has no {lacking[0]}" if lacking else None


def _full_name(module: nn.Module) -> str:
    return f"{type(module).__module__}.{type(module).__qualname__}"


def _form(form: tuple[tuple[int, ...], bool] | None) -> str:
    """Put a weight's shape and kind into words."""
    if form is None:
        return "none"
    shape, is_floating = form
    return f"{' × '.join(map(str, shape))} {'' if is_floating else 'whole '}numbers"


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
        if isinstance(value, plain) and name not in NOT_COMPARED
    }
    return {"class": type(module).__name__} | held


def _called_with(model: Opened) -> list[Arguments]:
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
        if isinstance(model, OpenedEncoder):
            return model.prepare(Sentences(ids, present.bool())).arguments
        assert isinstance(model, OpenedModel), "a model is a decoder or an encoder"
        return model.enter(ids, (present.cumsum(-1) - 1).clamp(min=0), present).arguments


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor):
        return isinstance(other, Tensor) and torch.equal(one, other)
    if isinstance(one, (tuple, list)):
        alike = isinstance(other, (tuple, list)) and len(one) == len(other)
        return alike and all(map(_same, one, other))
    if isinstance(one, dict):
        alike = isinstance(other, dict) and one.keys() == other.keys()
        return alike and all(_same(value, other[name]) for name, value in one.items())
    return one == other


def _changed(layer: int, where: str, own: Any, value: Any) -> ExportError:
    return ExportError(
        f"layer {layer} was changed after the model was built: its {where} is {value!r}, and its "
        f"configuration makes that {own!r}, so the exported model would not have it; undo the "
        "change, or say it in the configuration"
    )


def _inexpressible(place: int, layer: int, difference: str) -> NotInFormError:
    return NotInFormError(
        f"the configuration of this family cannot say that layer {layer} stands at place {place}: "
        f"there, {difference}"
    )
