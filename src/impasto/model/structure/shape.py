"""What a model's parts weigh, read off an outline of it that holds no numbers.

The outline is the model's own class without memory behind its weights, so that layers which were
not loaded are counted, too; layers that were changed since they were built are as they are now.
What a token leaves in the cache, and what runs for that alone, is not computed from a
configuration: each block of the outline is asked for its keys and values. Encoders leave none.
"""

import copy
from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from transformers import Cache

from impasto.model.decoder import OpenedModel
from impasto.model.opened import Opened
from impasto.model.structure.anatomy import find_queries
from impasto.model.structure.block import Arguments, Block
from impasto.plan.cost import Experts, LayerShape, Shape

# How configurations call the number of experts that a row runs.
ACTIVE_EXPERTS = ("num_experts_per_tok", "num_experts_per_token", "num_selected_experts", "moe_k")

_ROWS = 2


def read_shape(model: Opened) -> Shape:
    """Return what costs something of a model."""
    outline = _outline(model)
    blocks = outline.get_submodule(model.anatomy.path)
    asked = _ask_all(model, blocks) if isinstance(model, OpenedModel) else [None] * len(blocks)
    layers = tuple(
        _layer(model, layer, block, told)
        for layer, (block, told) in enumerate(zip(blocks, asked, strict=True))
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
    """Return a copy of a block without numbers, and without what others hung onto it."""
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


def _without_numbers(value: Any) -> Any:
    """Return what a block is called with, every tensor in it without memory."""
    match value:
        case Tensor():
            return value.to("meta")
        case tuple():
            return tuple(map(_without_numbers, value))
        case dict():
            return {name: _without_numbers(each) for name, each in value.items()}
    return value


def _layer(model: Opened, layer: int, block: nn.Module, asked: "_Asked | None") -> LayerShape:
    config, anatomy = model.hf.config.get_text_config(decoder=True), model.anatomy
    inside, own = dict(block.named_modules()), model.blocks[layer]
    is_there = layer in model.present
    attention = sum(
        _weights(inside[name]).every
        for name in anatomy.attention
        if name in inside and (own.attention or not is_there)
    )
    mlp = [
        _weights(inside[name])
        for name in anatomy.mlp
        if name in inside and (own.mlp or not is_there)
    ]
    experts = [each.experts for each in mlp if each.experts is not None]
    active = next((n for n in (getattr(config, a, None) for a in ACTIVE_EXPERTS) if n), 1)
    wide = 2 * config.hidden_size
    if asked is not None:
        wide = config.num_attention_heads * (asked.keys.shape[3] + asked.values.shape[3])
    return LayerShape(
        attention=attention,
        keys_values=asked.weights if asked else 0,
        mlp=sum(each.every for each in mlp),
        experts=Experts(experts[0][0], active, experts[0][1]) if experts else None,
        pair=wide,
        kept=(asked.keys.numel() + asked.values.numel()) // _ROWS if asked else 0,
        parameters=sum(parameter.numel() for parameter in block.parameters()),
    )


class _Asked(NamedTuple):
    keys: Tensor
    values: Tensor
    weights: int  # that a row met before keys and values were there


class _Ready(Exception):  # noqa: N818  (not an error: it ends a block early)
    """Raised from inside a block once its keys and values are there."""


class _Asking(Cache):
    """A cache that ends the block that writes to it, and remembers what it wrote."""

    def __init__(self) -> None:
        super().__init__(layers=[])
        self.told: tuple[Tensor, Tensor] | None = None

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> Any:
        self.told = key_states, value_states
        raise _Ready

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return 0


def _ask_all(model: OpenedModel, blocks: Iterable[nn.Module]) -> "list[_Asked | None]":
    """Ask every block of an outline for what a token leaves there."""
    ids = torch.zeros(1, _ROWS, dtype=torch.long, device=model.device)
    entered = model.enter(ids, torch.arange(_ROWS, device=ids.device)[None])
    states, name = entered.states.to("meta"), model.habits.cache_argument
    return [
        _ask(
            Block(block, (), (), queries=find_queries(block, model.anatomy)),
            states,
            _without_numbers(arguments),
            name,
        )
        if model.blocks[layer].leaves_keys
        else None
        for layer, (block, arguments) in enumerate(zip(blocks, entered.arguments, strict=True))
    ]


def _ask(block: Block, states: Tensor, arguments: Arguments, cache_argument: str) -> _Asked:
    """Run a block until its keys and values are there."""
    asking, counter = _Asking(), FlopCounterMode(display=False)
    given = arguments | {cache_argument: asking}
    if "use_cache" in given:
        given["use_cache"] = True
    try:
        with torch.no_grad(), counter, block.without_queries():
            block(states, given)
    except _Ready:
        pass
    assert asking.told is not None, "a block that was opened so leaves keys and values"
    return _Asked(*asking.told, counter.get_total_flops() // (2 * _ROWS))


class _Weights(NamedTuple):
    """What a row meets in a module's products: all of the weights, and some of the experts'."""

    every: int
    experts: tuple[int, int] | None  # how many, and the weights of one


def _weights(module: nn.Module) -> _Weights:
    experts = _experts(module)
    inside = {id(weight) for part in experts for weight in part.parameters()}
    every = sum(
        weight.numel()
        for name, weight in module.named_parameters()
        if weight.ndim == 2 and id(weight) not in inside and "norm" not in name.lower()
    )
    return _Weights(every, _count(experts))


def _experts(module: nn.Module) -> list[nn.Module]:
    """Return the parts of an MLP that hold experts: a list, or weights of three dimensions."""
    return [
        part
        for part in module.modules()
        if any(weight.ndim == 3 for weight in part.parameters(recurse=False))
        or (isinstance(part, nn.ModuleList) and len(part) > 1)
    ]


def _count(experts: list[nn.Module]) -> tuple[int, int] | None:
    if not experts:
        return None
    first = experts[0]
    weights = [weight for weight in first.parameters() if weight.ndim > 1]
    number = len(first) if isinstance(first, nn.ModuleList) else weights[0].shape[0]
    return number, sum(weight.numel() for weight in weights) // number
