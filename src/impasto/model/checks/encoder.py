"""The opening check of encoders: what plans on them take for granted, proved on the model at hand.

A block may norm before its parts or after the addition. Either way a part that is left out adds
nothing, and what it would have added must be all that it did; so each part's output is put back by
hand, and the block must come out whole.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from impasto.model.checks.decoder import demand, difference, refuse_above
from impasto.model.encoder import OpenedEncoder, Sentences
from impasto.model.structure.anatomy import ModelError
from impasto.model.structure.block import Arguments, Block
from impasto.model.structure.stand_ins import Forwards, as_output, first_tensor

_IDS = (3, 1, 4, 1, 5, 9)
_UNSEEN = 1e-6  # a difference that no token made


@dataclass(frozen=True, slots=True)
class EncoderCheck:
    """What the check found, each as the largest difference relative to the values.

    Attributes:
        states: Identity plan against the model's own states.
        attention: A block without attention, given its input with what attention adds, against
            the whole block.
        mlp: What the MLP adds, put back where the block was left without it, against the same.
        padding: A sentence beside a longer one against itself alone.
        norms: Whether the blocks norm ``before`` their parts or ``after`` the addition.
    """

    states: float
    attention: float
    mlp: float
    padding: float
    norms: str


@torch.no_grad()
def check_encoder(model: OpenedEncoder) -> EncoderCheck:
    """Check an encoder that was just opened.

    Raises:
        ModelError: when a claim does not hold, saying which and by how much.
    """
    sentences = _two(model)
    own, prepared = model.own_states(sentences), model.prepare(sentences)
    _refuse_one_way(model, own)
    states, attention, before, after = prepared.states, [0.0], [0.0], [0.0]
    for layer in model.present:
        found = _taken_apart(model.blocks[layer], states, prepared.arguments[layer])
        for differences, one in zip((attention, before, after), found, strict=True):
            differences.append(one)
        states = model.run(layer, "block", states, prepared)
    mlp = min(max(before), max(after))
    claim = "the identity plan does not give its own states"
    return EncoderCheck(
        states=demand(model, claim, model.end(states), own),
        attention=refuse_above(model, "attention does not only add to its input", max(attention)),
        mlp=refuse_above(model, "a block is not residual + attention + MLP", mlp),
        padding=_padded(model, sentences, own),
        norms="before" if max(before) <= max(after) else "after",
    )


def _two(model: OpenedEncoder) -> Sentences:
    """Return two sentences that differ in their last token."""
    ids = torch.tensor([_IDS, _IDS], device=model.device) % model.vocabulary
    ids[ids == model.padding] = (model.padding + 2) % model.vocabulary
    ids[1, -1] = (ids[1, -1] + 1) % model.vocabulary
    return Sentences(ids, torch.ones_like(ids, dtype=torch.bool))


def _refuse_one_way(model: OpenedEncoder, own: Tensor) -> None:
    """Raise ModelError if no token sees a later one."""
    if difference(own[1, :-1], own[0, :-1]) < _UNSEEN:
        raise ModelError(
            f"{type(model.hf).__name__} reads its text one way, so it is no encoder; plans run on "
            "decoders with the head that predicts next tokens, loaded by AutoModelForCausalLM"
        )


def _taken_apart(block: Block, states: Tensor, arguments: Arguments) -> tuple[float, float, float]:
    """Return how far a block is from its attention and from its MLP, normed before or after."""
    read, attended, fed = _watched(block, states, arguments)
    whole = block(states, arguments)
    without_attention = block(states + attended, arguments, "mlp")
    last = block.mlp[-1]
    with Forwards([(last.module, lambda *_, **__: as_output(-read, last.outputs))]):
        ended = block(states, arguments)  # norms of zeros, if the MLP adds to what it reads
    return (
        difference(without_attention, whole),
        difference(block(states, arguments, "attention") + fed, whole),
        difference(ended, ended[:1, :1].expand_as(ended)),
    )


def _watched(block: Block, states: Tensor, arguments: Arguments) -> tuple[Tensor, Tensor, Tensor]:
    """Return what a block's MLP reads, and what its attention and its MLP add."""
    seen: dict[str, Tensor] = {}

    def note(name: str) -> Any:
        return lambda module, args, output: seen.__setitem__(name, first_tensor(output))

    hooks = [
        block.mlp[0].module.register_forward_pre_hook(
            lambda module, args: seen.__setitem__("read", args[0])
        ),
        block.attention[-1].module.register_forward_hook(note("attended")),
        block.mlp[-1].module.register_forward_hook(note("fed")),
    ]
    try:
        block(states, arguments)
    finally:
        for hook in hooks:
            hook.remove()
    return seen["read"], seen["attended"], seen["fed"]


def _padded(model: OpenedEncoder, sentences: Sentences, own: Tensor) -> float:
    """Prove that a sentence beside a longer one gets the states that it gets alone."""
    short = sentences.ids.shape[1] // 2
    ids, is_real = sentences.ids.clone(), sentences.is_real.clone()
    ids[1, short:], is_real[1, short:] = model.padding, False
    alone = model.own_states(Sentences(ids[1:, :short], is_real[1:, :short]))
    prepared = model.prepare(Sentences(ids, is_real))
    states = prepared.states
    for layer in model.present:
        states = model.run(layer, "block", states, prepared)
    states, claim = model.end(states), "a sentence's states depend on what stands beside it"
    return max(
        demand(model, claim, states[1, :short], alone[0]), demand(model, claim, states[0], own[0])
    )
