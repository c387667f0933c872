"""How a model calls its blocks, and how they use a cache, as one ordinary forward shows it.

The forward reads three tokens, the first of them padding. Hooks note each block's arguments and
output and those of its parts; its cache stores nothing and counts who writes to it. Nothing relies
on the layer numbers that blocks carry (``layer_idx``), so layers that were pruned by hand, or that
stand at two places, are described as they run. A model whose blocks are called otherwise than plans
can call them is refused here, with the reason.
"""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from transformers import DynamicCache, PreTrainedModel

from impasto.model.structure.absent import first_present, is_absent, spans
from impasto.model.structure.anatomy import Anatomy, ModelError, find_queries
from impasto.model.structure.block import (
    Arguments,
    Block,
    Component,
    Forward,
    Forwards,
    arity,
    parameters,
)
from impasto.model.structure.failing import RAISED, is_out_of_memory


@dataclass(slots=True)
class ObservedCall:
    """One call of a block.

    Attributes:
        module: The block.
        given: Its arguments, by name.
        output: Its output.
        writes: How often it wrote keys and values to its cache.
        asks: How often it asked its cache how many tokens that holds.
        parts: The outputs of its parts, by name.
    """

    module: nn.Module
    given: Arguments
    output: Any = None
    writes: int = 0
    asks: int = 0
    parts: dict[str, Any] = field(default_factory=dict)

    def as_block(self, anatomy: Anatomy) -> Block:
        """Return the block with those of its parts that ran in this call."""

        def components(names: tuple[str, ...]) -> tuple[Component, ...]:
            return tuple(
                Component(self.module.get_submodule(name), arity(self.parts[name]))
                for name in names
                if name in self.parts
            )

        return Block(
            self.module,
            components(anatomy.attention),
            components(anatomy.mlp),
            leaves_keys=self.writes > 0,
            queries=find_queries(self.module, anatomy) if self.writes else (),
        )


@dataclass(frozen=True, slots=True)
class Observed:
    """The calls of a model's layers.

    Attributes:
        calls: For each layer, its call; None for an absent layer, or one that is passed over.
        passed_over: The layers that the model's own forward does not call on texts.
        cache_argument: The name of the argument in which blocks get the cache.
    """

    calls: list[ObservedCall | None]
    cache_argument: str
    passed_over: frozenset[int] = frozenset()

    @property
    def present(self) -> list[ObservedCall]:
        """The calls of the layers that are loaded."""
        return [call for call in self.calls if call is not None]

    @property
    def outputs(self) -> int:
        """The arity of a block's output."""
        return arity(self.present[0].output)


class _CountingCache(DynamicCache):
    """A cache that stores nothing, and counts how often it is written to and asked its length."""

    def __init__(self) -> None:
        super().__init__()
        self.writes = self.asks = 0

    def update(  # type: ignore[override]
        self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any
    ) -> tuple[Tensor, Tensor]:
        self.writes += 1
        return key_states, value_states

    def get_seq_length(self, layer_idx: int = 0) -> int:
        self.asks += 1
        return 0


@torch.no_grad()
def observe(hf: PreTrainedModel, anatomy: Anatomy, device: torch.device) -> Observed:
    """Return how the blocks that are loaded, and their parts, are called in one ordinary forward.

    Raises:
        ModelError: when blocks are not called once each and in order on states of the usual form,
            or get no mask for each row, or no cache, or write to it more than once.
    """
    cache = _CountingCache()
    try:
        calls, stood_in = _calls(hf, anatomy, cache, device)
    except RAISED as error:
        if not is_out_of_memory(error):
            _refuse_unlike(hf, anatomy)
            _refuse_other_cache(hf, anatomy, device, error)
        raise
    name, layers = type(hf).__name__, [i for i, b in enumerate(anatomy.blocks) if not is_absent(b)]
    called = {id(call.module) for call in calls} | stood_in
    passed = frozenset(i for i, block in enumerate(anatomy.blocks) if id(block) not in called)
    layers = [layer for layer in layers if layer not in passed] if calls else layers
    _refuse_other_order(name, anatomy, layers, calls)
    if any(_mask_dimensions(call) != 4 for call in calls):
        _refuse_unlike(hf, anatomy)
    for layer, call in zip(layers, calls, strict=True):
        _refuse_other_form(hf, layer, call)
    cached = {n for call in calls for n, value in call.given.items() if value is cache}
    if len(cached) != 1:
        raise ModelError(f"{name} does not hand its cache to its blocks")
    if not any(call.writes for call in calls):
        raise ModelError(f"{name}: none of its layers hands keys and values to its cache")
    by_layer: list[ObservedCall | None] = [None] * len(anatomy.blocks)
    for layer, call in zip(layers, calls, strict=True):
        by_layer[layer] = call
    return Observed(by_layer, cached.pop(), passed)


def _calls(
    hf: PreTrainedModel, anatomy: Anatomy, cache: _CountingCache, device: torch.device
) -> tuple[list[ObservedCall], set[int]]:
    """Return the calls of the blocks that are loaded, in order, and which absent ones were called.

    The latter by the ids of their modules.
    """
    calls: list[ObservedCall] = []
    stood_in: set[int] = set()
    running: list[ObservedCall] = []  # none while a block stands in for an absent one

    def begins(module: nn.Module, args: tuple[Any, ...], given: Arguments) -> None:
        names = parameters(type(module))
        call = ObservedCall(module, dict(zip(names, args, strict=False)) | given)
        call.writes, call.asks = -cache.writes, -cache.asks
        calls.append(call)
        running.append(call)

    def ends(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        call = running.pop()
        call.output = output
        call.writes += cache.writes
        call.asks += cache.asks

    def part_ends(name: str) -> Any:
        def note(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            if running:
                running[-1].parts[name] = output

        return note

    hooks = []
    for block in {id(b): b for b in anatomy.blocks if not is_absent(b)}.values():
        hooks.append(block.register_forward_pre_hook(begins, with_kwargs=True))
        hooks.append(block.register_forward_hook(ends))
        inside = dict(block.named_modules())
        hooks += [
            inside[name].register_forward_hook(part_ends(name))
            for name in (*anatomy.attention, *anatomy.mlp)
            if name in inside
        ]
    ids = torch.zeros(1, 3, dtype=torch.long, device=device)
    present = torch.tensor([[0, 1, 1]], device=device)
    run = _uncached(anatomy, cache)

    def in_place_of(block: nn.Module) -> Forward:
        def forward(*args: Any, **kwargs: Any) -> Any:
            stood_in.add(id(block))
            return run(*args, **kwargs)

        return forward

    try:
        with Forwards([(b, in_place_of(b)) for b in anatomy.blocks if is_absent(b)]):
            hf(input_ids=ids, attention_mask=present, past_key_values=cache, use_cache=True)
    finally:
        for hook in hooks:
            hook.remove()
    return calls, stood_in


def _refuse_unlike(hf: PreTrainedModel, anatomy: Anatomy) -> None:
    """Raise for a model some layers of which have another part in the place of attention."""
    children = {
        layer: {name for name, _ in block.named_children()}
        for layer, block in enumerate(anatomy.blocks)
        if not is_absent(block)
    }
    attention = anatomy.attention[0].partition(".")[0]
    others = [layer for layer, names in children.items() if attention not in names]
    if others:
        shared = set.intersection(*children.values())
        instead = sorted(set().union(*(children[index] for index in others)) - shared)
        raise ModelError(
            f"{type(hf).__name__} cannot be opened: layers {spans(others)} have "
            f"{', '.join(instead) or 'nothing'} where others have {attention}; rows are packed "
            "where layers mix tokens by attention alone, with keys and values"
        )


def _refuse_other_cache(
    hf: PreTrainedModel, anatomy: Anatomy, device: torch.device, error: BaseException
) -> None:
    """Raise for a model that fails with a cache of keys and values, and reads on without one."""
    ids = torch.zeros(1, 3, dtype=torch.long, device=device)
    present = torch.tensor([[0, 1, 1]], device=device)
    if any(is_absent(block) for block in anatomy.blocks):
        return
    try:
        hf(input_ids=ids, attention_mask=present, use_cache=False)
    except RAISED:
        return
    first = (str(error).strip() or "no message").splitlines()[0]
    raise ModelError(
        f"{type(hf).__name__} cannot be opened: it uses its cache for other things than one pair "
        f"of keys and values for each layer, which is what plans keep ({type(error).__name__}: "
        f"{first})"
    ) from error


def _uncached(anatomy: Anatomy, cache: _CountingCache) -> Forward:
    """Return a stand-in for absent blocks: the first loaded one, run without the cache.

    So its output has the form that the model expects of its blocks.
    """
    block = first_present(anatomy.blocks)
    assert block is not None, "find_anatomy refuses a model without blocks"

    def uncached(*args: Any, **kwargs: Any) -> Any:
        kwargs = {name: None if value is cache else value for name, value in kwargs.items()}
        return block.forward(*(None if value is cache else value for value in args), **kwargs)

    return uncached


def _refuse_other_order(
    name: str, anatomy: Anatomy, layers: list[int], calls: list[ObservedCall]
) -> None:
    """Raise unless every block was called once for each of its places, in ascending order."""
    wanted = [id(anatomy.blocks[layer]) for layer in layers]
    called = [id(call.module) for call in calls]
    if called == wanted:
        return
    first = {id(anatomy.blocks[layer]): layer for layer in reversed(layers)}
    more, less = Counter(called), Counter(wanted)
    for block, layer in first.items():
        if more[block] != less[block]:
            places = "" if less[block] == 1 else f", which stands at {less[block]} places,"
            raise ModelError(
                f"{name} cannot be opened: its own forward calls layer {layer}{places} "
                f"{_times(more[block])}; plans run each layer where they name it"
            )
    order = ", ".join(str(first[block]) for block in called)
    raise ModelError(f"{name} cannot be opened: its own forward calls its layers as {order}")


def _times(count: int) -> str:
    return {0: "not at all", 1: "once", 2: "twice"}.get(count, f"{count} times")


def _mask_dimensions(call: ObservedCall) -> int:
    mask = call.given.get("attention_mask")
    return mask.ndim if isinstance(mask, Tensor) else 0


def attention_remedy(hf: PreTrainedModel) -> str:
    """Say which attention takes a mask for each row, where the model runs one that does not."""
    own = hf.config._attn_implementation
    others = [n for n, known in (("sdpa", hf._supports_sdpa), ("eager", True)) if known]
    if own in ("sdpa", "eager", None):
        return ""
    return f" (it attends by {own}); load it with attn_implementation={' or '.join(others)}"


def _refuse_other_form(hf: PreTrainedModel, layer: int, call: ObservedCall) -> None:
    """Raise unless a block takes hidden states and a mask as plans can make them."""
    name, states = type(hf).__name__, call.given.get("hidden_states")
    if hasattr(call.module, "_orig_mod"):
        raise ModelError(
            f"{name} cannot be opened: layer {layer} is wrapped by torch.compile; put its original "
            "(_orig_mod) back in its place, and compile the whole model instead where that is "
            "wanted: torch.compile(model)"
        )
    if states is None:
        raise ModelError(
            f"{name} cannot be opened: layer {layer} takes no hidden_states, as layers do, but "
            f"{', '.join(parameters(type(call.module)))}"
        )
    if not isinstance(states, Tensor) or states.ndim != 3:
        shape = tuple(states.shape) if isinstance(states, Tensor) else type(states).__name__
        raise ModelError(
            f"{name} cannot be opened: layer {layer} reads states of the form {shape}, and plans "
            "run on one state a token (batch × tokens × hidden)"
        )
    if call.writes > 1:
        raise ModelError(
            f"{name} cannot be opened: layer {layer} writes keys and values {_times(call.writes)} "
            "in one call, and plans keep one pair of them for each layer"
        )
    mask: Any = call.given.get("attention_mask")
    if _mask_dimensions(call) != 4:
        raise ModelError(
            f"{name} cannot be opened: layer {layer} is called without a mask for each row, which "
            f"earlier and current tokens side by side need{attention_remedy(hf)}"
        )
    if mask.dtype == torch.bool and not bool(mask[0, 0, 2, 2]):
        raise ModelError(
            f"{name} cannot be opened: the mask of layer {layer} says what is hidden, not what is "
            "seen, so no mask of another form can stand in its place"
        )
