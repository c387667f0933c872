"""The opening check of encoders: what plans rely on, proved on the model at hand.

A block may norm before its parts or after the addition. Either way a part that is left out adds
nothing, and adding to the residual must be all that a part does: a block without a part, with the
part's contribution added by hand, must give the whole block's output.
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from impasto.model.checks.decoder import demand, difference, refuse_above
from impasto.model.encoder import OpenedEncoder, Sentences
from impasto.model.structure.anatomy import ModelError
from impasto.model.structure.block import Arguments, Block, Forwards, as_output, first_tensor

_IDS = (3, 1, 4, 1, 5, 9)
_NO_CHANGE = 1e-6  # relative; a smaller difference is not that of a token


@dataclass(frozen=True, slots=True)
class EncoderCheck:
    """What was measured, each as the largest difference relative to the largest value.

    Attributes:
        states: The identity plan against the model's own states.
        attention: A block without attention, attention's contribution added to its input, against
            the whole block.
        mlp: A block without MLP, the MLP's contribution added, against the whole block.
        padding: A sentence beside a longer one against the same sentence alone.
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
    sentences = _two_sentences(model)
    own, prepared = model.own_states(sentences), model.prepare(sentences)
    _refuse_one_way(model, own)
    states, attention, before, after = prepared.states, [0.0], [0.0], [0.0]
    for layer in model.present:
        measured = _taken_apart(model.blocks[layer], states, prepared.arguments[layer])
        for differences, each in zip((attention, before, after), measured, strict=True):
            differences.append(each)
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


def _two_sentences(model: OpenedEncoder) -> Sentences:
    """Return two sentences that differ in their last token."""
    ids = torch.tensor([_IDS, _IDS], device=model.device) % model.vocabulary
    ids[ids == model.padding] = (model.padding + 2) % model.vocabulary
    ids[1, -1] = (ids[1, -1] + 1) % model.vocabulary
    return Sentences(ids, torch.ones_like(ids, dtype=torch.bool))


def _refuse_one_way(model: OpenedEncoder, own: Float[Tensor, "batch rows hidden"]) -> None:
    """Raise ModelError if no token sees a later one."""
    if difference(own[1, :-1], own[0, :-1]) < _NO_CHANGE:
        raise ModelError(
            f"{type(model.hf).__name__}: no token's state changes with a later token, so it reads "
            "its text one way, which no encoder does"
        )


def _taken_apart(
    block: Block, states: Float[Tensor, "batch rows hidden"], arguments: Arguments
) -> tuple[float, float, float]:
    """Return how far a block is from its input with its parts' contributions added.

    Three differences: with attention's contribution; with the MLP's, in a block that norms before
    its parts; with the MLP's, in a block that norms after the addition.
    """
    mlp_input, attended, fed = _contributions(block, states, arguments)
    whole = block(states, arguments)
    without_attention = block(states.to(attended.device) + attended, arguments, "mlp")
    last = block.mlp[-1]
    with Forwards([(last.module, lambda *_, **__: as_output(-mlp_input, last.outputs))]):
        ended = block(states, arguments)  # norms of zeros, if the MLP adds to what it reads
    return (
        difference(without_attention, whole),
        difference(block(states, arguments, "attention") + fed, whole),
        difference(ended, ended[:1, :1].expand_as(ended)),
    )


def _contributions(
    block: Block, states: Float[Tensor, "batch rows hidden"], arguments: Arguments
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the input of a block's MLP, and the contributions of its attention and its MLP."""
    noted: dict[str, Tensor] = {}

    def note(name: str) -> Any:
        return lambda module, args, output: noted.__setitem__(name, first_tensor(output))

    hooks = [
        block.mlp[0].module.register_forward_pre_hook(
            lambda module, args: noted.__setitem__("input", args[0])
        ),
        block.attention[-1].module.register_forward_hook(note("attended")),
        block.mlp[-1].module.register_forward_hook(note("fed")),
    ]
    try:
        block(states, arguments)
    finally:
        for hook in hooks:
            hook.remove()
    return noted["input"], noted["attended"], noted["fed"]


def _padded(
    model: OpenedEncoder, sentences: Sentences, own: Float[Tensor, "batch rows hidden"]
) -> float:
    """Return how far a sentence's states beside a longer sentence are from those alone.

    Raises:
        ModelError: when that is too far.
    """
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
