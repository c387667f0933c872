"""The opening check: what this package takes for granted, proved on the model at hand.

Two claims, on a few tokens, about the layers that are loaded: running every block in order from
what the model's own forward prepares gives the model's own logits; and a block is residual +
attention + MLP, so that either part can be left out and nothing else changes. A family that nobody
thought of works if both hold.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from impasto.model.anatomy import ModelError
from impasto.model.block import Arguments, Block
from impasto.model.opened import Opened, OpenedModel

_TOKENS = 6


@dataclass(frozen=True, slots=True)
class Check:
    """What the opening check measured, each as the largest difference relative to the values.

    Attributes:
        logits: Identity plan against the model's own logits.
        silence: A block with both parts left out against its input.
        parts: A block against its two parts put together.
        wiring: How they go together: the MLP reads what attention ``sequential``-ly left, or
            both read the block's input in ``parallel``.
    """

    logits: float
    silence: float
    parts: float
    wiring: str


@torch.no_grad()
def check(model: OpenedModel) -> Check:
    """Check a model that was just opened.

    Raises:
        ModelError: when a claim does not hold, saying which and by how much.
    """
    ids = torch.arange(_TOKENS, device=model.device)[None] % model.hf.config.vocab_size
    entered = model.enter(ids, torch.arange(_TOKENS, device=model.device)[None])
    states, silences, sequential, parallel = entered.states, [0.0], [0.0], [0.0]
    for layer in model.present:
        block, arguments = model.blocks[layer], entered.arguments[layer]
        silent, one_by_one, side_by_side, after = _taken_apart(block, states, arguments)
        silences.append(difference(silent, states))
        sequential.append(difference(one_by_one, after))
        parallel.append(difference(side_by_side, after))
        states = after
    stock = model.own_logits(ids)[0]
    found = Check(
        logits=difference(model.leave(states[0]), stock),
        silence=max(silences),
        parts=min(max(sequential), max(parallel)),
        wiring="sequential" if max(sequential) <= max(parallel) else "parallel",
    )
    refuse_above(model, "the identity plan does not give the model's own logits", found.logits)
    refuse_above(model, "a block without attention and MLP changes its input", found.silence)
    refuse_above(model, "a block is not residual + attention + MLP", found.parts)
    return found


def _taken_apart(
    block: Block, states: Tensor, arguments: Arguments
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return a block's output with both parts silent, one after the other, side by side, whole."""
    attended = block(states, arguments, "attention")
    with block.without("attention", "mlp"):
        silent = block(states, arguments)
    side_by_side = attended + block(states, arguments, "mlp") - states
    return silent, block(attended, arguments, "mlp"), side_by_side, block(states, arguments)


def demand(model: Opened, claim: str, found: Tensor, expected: Tensor) -> float:
    """Return how far two tensors differ; raise ModelError, with the claim, if that is too far."""
    return refuse_above(model, claim, difference(found, expected))


def difference(found: Tensor, expected: Tensor) -> float:
    """Return the largest difference, relative to the largest value."""
    expected = expected.to(found.device).float()
    return float((found.float() - expected).abs().max() / expected.abs().max().clamp(min=1e-6))


def allowed(model: Opened) -> float:
    """Return the largest relative difference that counts as rounding for a model's numbers."""
    return 1e-4 if model.hf.dtype in (torch.float32, torch.float64) else 5e-2


def refuse_above(model: Opened, claim: str, found: float) -> float:
    """Return a relative difference; raise ModelError, with the claim, if it is too large."""
    limit = allowed(model)
    if not found <= limit:  # a NaN is refused too
        raise ModelError(
            f"{type(model.hf).__name__} cannot be opened: {claim} "
            f"(relative difference {found:.1e}, allowed {limit:.0e})"
        )
    return found
