"""Decoders whose rows cannot be packed: a sequence runs as it is, blocks go on from their states.

A block that carries recurrent or convolutional state mixes tokens in their order, so no rows can
stand beside those of a text. Such a model is opened by what one ordinary forward shows: which list
of blocks it calls, in order and once each, in which argument they get their cache. Whether its
blocks go on from what they wrote to it is tried (:mod:`impasto.run.checks.sequential`); where they
do not, all rows run again with every new one, which takes longer and is as exact.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from weakref import ref

import torch
from jaxtyping import Int
from torch import Tensor, nn
from transformers import Cache, PreTrainedModel

from impasto.model.arguments.mask_rules import LengthOnlyCache
from impasto.model.decoder import OpenedModel, refuse_other_kinds
from impasto.model.opened import Habits, SequentialHabits, input_device
from impasto.model.structure.absent import is_absent
from impasto.model.structure.anatomy import (
    ATTENTION_NAMES,
    MLP_NAMES,
    Anatomy,
    ModelError,
    find_blocks,
)
from impasto.model.structure.block import (
    Arguments,
    Block,
    Component,
    Entered,
    Forwards,
    StateForm,
    arity,
    as_output,
    first_tensor,
    named_call,
    parameters,
)

MIXER_NAMES = (*ATTENTION_NAMES, "linear_attn", "mamba", "mixer", "conv", "temporal_block")
_TOKENS = 3  # that a model reads to show its blocks
CACHES = ("past_key_values", "cache_params")  # in which a model's own forward takes its cache


@dataclass(slots=True)
class _Call:
    """One call of a block: its arguments, its output, and those of its parts by name."""

    module: nn.Module
    given: Arguments
    output: Any
    parts: dict[str, Any]


@torch.no_grad()
def open_sequential(hf: PreTrainedModel, reason: str) -> OpenedModel:
    """Open a decoder whose rows are not packed.

    Args:
        hf: The model.
        reason: Why they cannot be.

    Raises:
        ModelError: when its blocks are not there, or not called once each and in order, each on
            one state a token.
    """
    refuse_other_kinds(hf)
    path, blocks = find_blocks(hf)
    present = [block for block in blocks if not is_absent(block)]
    if not present:
        raise ModelError(f"{type(hf).__name__} was loaded without any of its layers")
    calls, outputs = _calls(hf, blocks)
    if [id(call.module) for call in calls] != [id(block) for block in present]:
        raise ModelError(
            f"{type(hf).__name__} cannot be opened: its own forward does not call each of its "
            "layers once, one after the other"
        )
    form, width = _form_of(hf, calls, outputs)
    inside = {name for block in present for name, _ in block.named_modules()}
    mixers = tuple(name for name in MIXER_NAMES if name in inside)
    mlp = next((names for names in MLP_NAMES if inside >= set(names)), ())
    anatomy = Anatomy(path, blocks, mixers, mlp)
    own = iter(calls)
    opened = [
        Block(b, (), (), form=form) if is_absent(b) else _block(next(own), anatomy, form)
        for b in blocks
    ]
    taken = [name for name in CACHES if name in parameters(type(hf.base_model))]
    argument = _cache_argument(hf, blocks, outputs)
    habits = Habits(outputs, argument, form=form, width=width)
    model = OpenedModel(ref(hf), opened, habits, anatomy)
    model.sequential = SequentialHabits(reason, taken[0] if taken and argument else "")
    return model


def _form_of(hf: PreTrainedModel, calls: Sequence[_Call], outputs: int) -> tuple[StateForm, int]:
    """Return the form in which layers take states, and the numbers of a token's state.

    Raises:
        ModelError: when they do not all take and return them in one form, a state a token.
    """
    read = [call.given.get("hidden_states") for call in calls]
    shapes = {each.shape if isinstance(each, Tensor) else None for each in read}
    states, form = read[0], None
    if isinstance(states, Tensor) and len(shapes) == 1:
        form = StateForm.of(states, _TOKENS)
    if (
        not isinstance(states, Tensor)
        or form is None
        or any(arity(call.output) != outputs for call in calls)
    ):
        raise ModelError(
            f"{type(hf).__name__} cannot be opened: its layers do not all read and return one "
            "state a token (batch × tokens × hidden) in the same form: of "
            f"{_TOKENS} tokens, layer 0 reads {_shape(states)} and returns "
            f"{_shape(first_tensor(calls[0].output))}"
        )
    return form, form.flat(states).shape[2]


def _shape(states: Any) -> str:
    if isinstance(states, Tensor):
        return " × ".join(map(str, states.shape))
    return "none" if states is None else f"a {type(states).__name__}"


def _block(call: _Call, anatomy: Anatomy, form: StateForm) -> Block:
    """Return a block with those of its parts that ran in a call."""

    def components(names: Sequence[str]) -> tuple[Component, ...]:
        ran = [name for name in names if name in call.parts]
        inner = [n for n in ran if not any(n.startswith(f"{other}.") for other in ran)]
        return tuple(
            Component(call.module.get_submodule(name), arity(call.parts[name])) for name in inner
        )

    return Block(call.module, components(anatomy.attention), components(anatomy.mlp), form=form)


def _calls(
    hf: PreTrainedModel, blocks: nn.ModuleList, cached: bool = False
) -> tuple[list[_Call], int]:
    """Return the calls of the blocks that are loaded in one forward, and their outputs' arity.

    With ``cached``, the model makes itself a cache.
    """
    failed: Exception | None = None
    for outputs in range(4):  # the form of an absent block's output is not known before
        calls: list[_Call] = []
        hooks = _noting(blocks, calls)
        ids = torch.arange(_TOKENS, device=input_device(hf))[None]
        absent = [block for block in blocks if is_absent(block)]
        stand_ins = [(block, _identity(outputs)) for block in absent]
        try:
            with Forwards(stand_ins):
                hf(input_ids=ids, use_cache=cached)
            return calls, arity(calls[0].output) if calls else 0
        except (TypeError, ValueError, IndexError, AttributeError, RuntimeError) as error:
            failed = error
            if not absent:
                break
        finally:
            for hook in hooks:
                hook.remove()
    assert failed is not None, "a forward that does not fail returns"
    raise failed


def _identity(outputs: int) -> Any:
    def identity(states: Tensor, *_: Any, **__: Any) -> Any:
        return as_output(states, outputs)

    return identity


def _noting(blocks: nn.ModuleList, calls: list[_Call]) -> list[Any]:
    """Return hooks that note the calls of blocks and of what may be their parts."""
    running: list[_Call] = []
    names = {*MIXER_NAMES, *(name for group in MLP_NAMES for name in group)}

    def begins(module: nn.Module, args: tuple[Any, ...], given: Arguments) -> None:
        running.append(_Call(module, named_call(module, args, given), None, {}))

    def ends(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        call = running.pop()
        call.output = output
        calls.append(call)

    def part_ends(name: str) -> Any:
        def note(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            if running:
                running[-1].parts[name] = output

        return note

    hooks: list[Any] = []
    for block in {id(b): b for b in blocks if not is_absent(b)}.values():
        hooks.append(block.register_forward_pre_hook(begins, with_kwargs=True))
        hooks.append(block.register_forward_hook(ends))
        hooks += [
            part.register_forward_hook(part_ends(name))
            for name, part in block.named_children()
            if name in names
        ]
    return hooks


def _cache_argument(hf: PreTrainedModel, blocks: nn.ModuleList, outputs: int) -> str:
    """Return the argument in which blocks get the cache that the model makes; empty for none."""
    try:
        calls, _ = _calls(hf, blocks, cached=True)
    except (TypeError, ValueError, IndexError, AttributeError, RuntimeError):
        return ""
    names = [{n for n, value in c.given.items() if isinstance(value, Cache)} for c in calls]
    shared = set.intersection(*names) if names else set()
    return shared.pop() if len(shared) == 1 else ""


def enter_behind(model: OpenedModel, ids: Int[Tensor, "batch rows"], begin: int) -> Entered:
    """Embed tokens that follow ``begin`` others, and collect the arguments of each block.

    No block is run. Where a model's forward takes no cache, only the first tokens can be embedded.
    """
    positions = torch.arange(begin, begin + ids.shape[1], device=ids.device).expand_as(ids)
    read = torch.arange(begin, device=ids.device).expand(len(ids), -1)
    past = LengthOnlyCache(begin, positions=read) if begin else None
    return model.enter(ids, positions, past=past)
