"""The sizes of a model's parts: weights, and keys and values, from which costs are computed.

They are read from an outline of the model: its own class with weights on the meta device, so that
layers which were not loaded count, too. Layers that were changed since they were built are counted
as they are now. The size of a token's keys and values is not computed from a configuration: each
block of the outline runs until it writes them to a cache. Encoders have none.
"""

import copy
from collections.abc import Iterable
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from transformers import Cache

from impasto.model.decoder import OpenedModel
from impasto.model.opened import Opened
from impasto.model.structure.anatomy import find_queries
from impasto.model.structure.block import Arguments, Block
from impasto.model.structure.failing import RAISED
from impasto.plan.cost import Experts, LayerShape, Shape

# How configurations call the number of experts that a row runs.
ACTIVE_EXPERTS = ("num_experts_per_tok", "num_experts_per_token", "num_selected_experts", "moe_k")

_ROWS = 2


def read_shape(model: Opened) -> Shape:
    """Return the sizes of a model's parts that cost memory or work."""
    if model not in _read:
        _read[model] = _read_anew(model)
    return _read[model]


_read: WeakKeyDictionary[Opened, Shape] = WeakKeyDictionary()  # each opened model is read once


def _read_anew(model: Opened) -> Shape:
    outline = _outline(model)
    blocks = outline.get_submodule(model.anatomy.path)
    keys_values: list[_KeysValues | None] = [None] * len(blocks)
    if isinstance(model, OpenedModel):
        keys_values = _all_keys_values(model, blocks)
    layers = tuple(
        _layer(model, layer, block, written)
        for layer, (block, written) in enumerate(zip(blocks, keys_values, strict=True))
    )
    head = outline.get_output_embeddings()
    in_layers = sum(layer.parameters for layer in layers)
    return Shape(
        layers,
        head=0 if head is None else head.weight.numel(),
        outside=sum(parameter.numel() for parameter in outline.parameters()) - in_layers,
        itemsize=model.hf.dtype.itemsize,
    )


def _outline(model: Opened) -> Any:
    with torch.device("meta"):
        outline: Any = type(model.hf)(copy.deepcopy(model.hf.config))
    outline.tie_weights()
    outline.to(model.hf.dtype).eval()
    if not getattr(model.hf, "is_quantized", False):  # there, weights are not of their own shapes
        blocks = outline.get_submodule(model.anatomy.path)
        for layer in model.present:
            if not _is_of_one_form(model.blocks[layer].module, blocks[layer]):
                blocks[layer] = _copied(model.blocks[layer].module)
    return outline


def _is_of_one_form(one: nn.Module, other: nn.Module) -> bool:
    """Whether two blocks have modules of the same classes, and weights of the same shapes."""
    forms = (
        (
            [(name, type(module)) for name, module in block.named_modules()],
            [(name, weight.shape) for name, weight in block.named_parameters()],
        )
        for block in (one, other)
    )
    return next(forms) == next(forms)


def _copied(block: nn.Module) -> nn.Module:
    """Return a copy of a block on the meta device, without hooks and replaced forwards."""
    memo: dict[int, Any] = {}
    for weight in block.parameters():
        memo[id(weight)] = nn.Parameter(weight.detach().to("meta"), requires_grad=False)
    for buffer in block.buffers():
        memo[id(buffer)] = buffer.to("meta")
    copied = copy.deepcopy(block, memo)
    for module in copied.modules():
        module.__dict__.pop("forward", None)
        module._forward_hooks.clear()
        module._forward_pre_hooks.clear()
    return copied


def _on_meta(value: Any) -> Any:
    """Return an argument of a block with every tensor in it on the meta device."""
    match value:
        case Tensor():
            return value.to("meta")
        case tuple():
            return tuple(map(_on_meta, value))
        case dict():
            return {name: _on_meta(each) for name, each in value.items()}
    return value


def _layer(
    model: Opened, layer: int, block: nn.Module, written: "_KeysValues | None"
) -> LayerShape:
    """Return the sizes of a layer's parts; ``written`` are its keys and values."""
    config, anatomy = model.hf.config.get_text_config(decoder=True), model.anatomy
    inside, own = dict(block.named_modules()), model.blocks[layer]
    is_loaded = layer in model.present
    attention = sum(
        _count_weights(inside[name]).every
        for name in anatomy.attention
        if name in inside and (own.attention or not is_loaded)
    )
    mlp = [
        _count_weights(inside[name])
        for name in anatomy.mlp
        if name in inside and (own.mlp or not is_loaded)
    ]
    experts = [each.experts for each in mlp if each.experts is not None]
    active = next((n for n in (getattr(config, a, None) for a in ACTIVE_EXPERTS) if n), 1)
    pair = 2 * config.hidden_size if model.packs_rows else 0  # a recurrence looks at no pairs
    if not (attention or mlp):
        attention = _count_weights(block).every
    if written is not None:
        pair = config.num_attention_heads * (written.keys.shape[3] + written.values.shape[3])
    return LayerShape(
        attention=attention,
        keys_values=written.weights if written else 0,
        mlp=sum(each.every for each in mlp),
        experts=Experts(experts[0][0], active, experts[0][1]) if experts else None,
        pair=pair,
        kept=(written.keys.numel() + written.values.numel()) // _ROWS if written else 0,
        parameters=sum(parameter.numel() for parameter in block.parameters()),
    )


class _KeysValues(NamedTuple):
    """The keys and values that a block writes for ``_ROWS`` rows.

    Attributes:
        keys: The keys.
        values: The values.
        weights: The number of weights that a row is multiplied by to make them.
    """

    keys: Shaped[Tensor, "1 heads rows width"]
    values: Shaped[Tensor, "1 heads rows width_of_values"]
    weights: int


class _Written(Exception):  # noqa: N818  (not an error: it ends a block early)
    """Raised from inside a block once it has written its keys and values."""


class _EndingCache(Cache):
    """A cache that stores the first keys and values, and ends the block that writes them."""

    def __init__(self) -> None:
        super().__init__(layers=[])
        self.written: tuple[Tensor, Tensor] | None = None

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> Any:
        self.written = key_states, value_states
        raise _Written

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return 0

    def has_previous_state(
        self, layer_idx: int | None = None, state_idx: int | None = None
    ) -> bool:
        return False

    def get_conv_state(self, layer_idx: int, state_idx: int = 0) -> Tensor | None:
        return None

    get_recurrent_state = get_conv_state

    def update_conv_state(self, conv_states: Tensor, layer_idx: int, *_: Any, **__: Any) -> Tensor:
        return conv_states

    def update_recurrent_state(
        self, recurrent_states: Tensor, layer_idx: int, *_: Any, **__: Any
    ) -> Tensor:
        return recurrent_states

    def is_recording_past(self, layer_idx: int) -> bool:
        return False


def _all_keys_values(model: OpenedModel, blocks: Iterable[nn.Module]) -> list[_KeysValues | None]:
    """Return the keys and values of each block of an outline; None for a block without."""
    ids = torch.zeros(1, _ROWS, dtype=torch.long, device=model.device)
    entered = model.enter(ids, torch.arange(_ROWS, device=ids.device)[None])
    states, name = entered.states.to("meta"), model.habits.cache_argument
    return [
        _keys_values(
            Block(block, (), (), queries=find_queries(block, model.anatomy)),
            states,
            _on_meta(arguments),
            name,
        )
        if model.blocks[layer].leaves_keys and name
        else None
        for layer, (block, arguments) in enumerate(zip(blocks, entered.arguments, strict=True))
    ]


def _keys_values(
    block: Block,
    states: Float[Tensor, "1 rows hidden"],
    arguments: Arguments,
    cache_argument: str,
) -> _KeysValues | None:
    """Run a block until it writes its keys and values; return them, or None where it has none."""
    cache, counter = _EndingCache(), FlopCounterMode(display=False)
    given = arguments | {cache_argument: cache}
    if "use_cache" in given:
        given["use_cache"] = True
    try:
        with torch.no_grad(), counter, block.without_queries():
            block(states, given)
    except _Written:
        pass
    except RAISED:  # a recurrence that asks more of its state than this cache can say
        return None
    if cache.written is None:
        return None
    return _KeysValues(*cache.written, counter.get_total_flops() // (2 * _ROWS))


class _WeightCount(NamedTuple):
    """The number of weights in a module's matrix products.

    Attributes:
        every: Those that every row is multiplied by.
        experts: The number of experts, and the weights of one; None where there are none.
    """

    every: int
    experts: tuple[int, int] | None


def _count_weights(module: nn.Module) -> _WeightCount:
    experts = _experts(module)
    inside = {id(weight) for part in experts for weight in part.parameters()}
    every = sum(
        weight.numel()
        for name, weight in module.named_parameters()
        if weight.ndim == 2 and id(weight) not in inside and "norm" not in name.lower()
    )
    return _WeightCount(every, _count_experts(experts))


def _experts(module: nn.Module) -> list[nn.Module]:
    """Return the parts of an MLP that are experts: a list, or modules with 3-D weights."""
    return [
        part
        for part in module.modules()
        if any(weight.ndim == 3 for weight in part.parameters(recurse=False))
        or (isinstance(part, nn.ModuleList) and len(part) > 1)
    ]


def _count_experts(experts: list[nn.Module]) -> tuple[int, int] | None:
    """Return the number of experts and the weights of one; None where there are none."""
    if not experts:
        return None
    first = experts[0]
    weights = [weight for weight in first.parameters() if weight.ndim > 1]
    number = len(first) if isinstance(first, nn.ModuleList) else weights[0].shape[0]
    return number, sum(weight.numel() for weight in weights) // number
