"""The opening check of encoders: what plans rely on, proved on the model at hand.

A block may norm before its parts or after the addition. Either way a part that is left out adds
nothing, and adding to the residual must be all that a part does: a block without a part, with the
part's contribution added by hand, must give the whole block's output.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from impasto.model.checks.decoder import allowed, demand, difference
from impasto.model.encoder import OpenedEncoder, Sentences
from impasto.model.structure.anatomy import ModelError, unnamed
from impasto.model.structure.block import Arguments, Block, Forwards, as_output, first_tensor
from impasto.model.structure.failing import RAISED, is_out_of_memory

_IDS = (3, 1, 4, 1, 5, 9)
_NO_CHANGE = 1e-6  # relative; a smaller difference is not that of a token


class Divided(NamedTuple):
    """How far blocks are from their parts, as the largest difference relative to the largest value.

    Attributes:
        attention: A block without attention, attention's contribution added to its input, against
            the whole block.
        mlp: A block without MLP, the MLP's contribution added, against the whole block.
        norms: Whether the blocks norm ``before`` their parts or ``after`` the addition.
    """

    attention: float
    mlp: float
    norms: str


@dataclass(frozen=True, slots=True)
class EncoderCheck:
    """What was measured, each as the largest difference relative to the largest value.

    Attributes:
        states: The identity plan against the model's own states.
        divided: The layers whose parts can be left out; None where there are none.
        padding: A sentence beside a longer one against the same sentence alone.
        undivided: The layers whose parts cannot be left out, each with the reason.
    """

    states: float
    divided: Divided | None
    padding: float
    undivided: dict[int, str]


@torch.no_grad()
def check_encoder(model: OpenedEncoder) -> EncoderCheck:
    """Check an encoder that was just opened.

    Raises:
        ModelError: when a claim does not hold, saying which and by how much.
    """
    sentences = _two_sentences(model)
    own, prepared = model.own_states(sentences), model.prepare(sentences)
    _refuse_one_way(model, own)
    states, undivided, divided = prepared.states, dict[int, str](), list[Divided]()
    for layer in model.present:
        parts = _divided(model, model.blocks[layer], states, prepared.arguments[layer])
        if isinstance(parts, Divided):
            divided.append(parts)
        else:
            undivided[layer] = parts
        states = model.run(layer, "block", states, prepared)
    claim = "the identity plan does not give its own states"
    return EncoderCheck(
        states=demand(model, claim, model.end(states), own),
        divided=None
        if not divided
        else Divided(
            max(each.attention for each in divided),
            max(each.mlp for each in divided),
            " or ".join(sorted({each.norms for each in divided}, reverse=True)),
        ),
        padding=_padded(model, sentences, own),
        undivided=undivided,
    )


def _divided(
    model: OpenedEncoder, block: Block, states: Tensor, arguments: Arguments
) -> Divided | str:
    """Return how far a block is from its parts; or why they cannot be left out."""
    if not (block.attention and block.mlp):
        return unnamed(model.anatomy)
    try:
        attention, before, after = _taken_apart(block, states, arguments)
    except ModelError as error:
        return str(error)
    except RAISED as error:
        if is_out_of_memory(error):
            raise
        first = (str(error).strip() or "no message").splitlines()[0]
        return f"its own code fails without one of its parts ({type(error).__name__}: {first})"
    limit = allowed(model)
    apart = f"allowed {limit:.0e})"
    if not attention <= limit:
        claim = "its attention does not only add to its input"
        return f"{claim} (relative difference {attention:.1e}, {apart}"
    if not min(before, after) <= limit:
        claim = "it is not residual + attention + MLP"
        return f"{claim} (relative difference {min(before, after):.1e}, {apart}"
    return Divided(attention, min(before, after), "before" if before <= after else "after")


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
    if attended.shape != states.shape:
        raise ModelError(
            f"its attention adds to {attended.shape[-1]} numbers a token, where the layer's own "
            f"states have {states.shape[-1]}"
        )
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
    states = model.end(states)
    claim = (
        "a sentence's states depend on the padding beside a longer one, which its layers do not "
        "leave out"
    )
    return max(
        demand(model, claim, states[1, :short], alone[0]), demand(model, claim, states[0], own[0])
    )
