"""How a model learns at which position a token stands: from an argument, or only from its place.

Split rows put earlier and current tokens side by side, so a token's place in a call is not its
position in the text. A model must take positions as an argument, or be made to count them so.
"""

import inspect
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from impasto.model.arguments.counted import PickedRows
from impasto.model.checks.decoder import allowed, difference
from impasto.model.decoder import OpenedModel
from impasto.model.structure.anatomy import ModelError
from impasto.model.structure.failing import RAISED, is_out_of_memory

_TOKENS = 9


def settle_positions(model: OpenedModel, ids: list[int]) -> None:
    """Find out how a model can be given positions, and set the opened model to do so.

    Tokens in another order, given their positions, must get the embeddings that they get in order,
    and layers must be called with the same arguments for their rows.

    Raises:
        ModelError: when positions cannot be given in any way.
    """
    count = min(_TOKENS, len(ids))
    tokens = torch.tensor([ids[:count]], device=model.device)
    first = _fault(model, tokens) or _counts_from_elsewhere(model, tokens)
    if first is None:
        return
    if not model.takes_positions and _takes_anything(model):
        model.takes_positions = True  # under a name that its forward only passes on
        if _fault(model, tokens) is None:
            return
        model.takes_positions = False
    model.counts_places = True
    if _fault(model, tokens) is not None:
        model.counts_places = False
        raise ModelError(f"{type(model.hf).__name__} cannot be opened: {first}")


def _counts_from_elsewhere(model: OpenedModel, tokens: Int[Tensor, "1 tokens"]) -> str | None:
    """Return the fault of a model that counts positions from elsewhere than 0, as RoBERTa does."""
    if not model.takes_positions:
        return None
    positions = torch.arange(tokens.shape[1], device=model.device)[None]
    told = model.enter(tokens, positions).states
    model.takes_positions = False
    own = model.enter(tokens, positions).states
    model.takes_positions = True
    if difference(told, own) <= allowed(model):
        return None
    return "tokens whose positions are told begin with other states than in its own forward"


def _takes_anything(model: OpenedModel) -> bool:
    """Whether the model's forward takes further keyword arguments, under any name."""
    parameters = inspect.signature(type(model.hf.base_model).forward).parameters.values()
    return any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters)


def _fault(model: OpenedModel, tokens: Int[Tensor, "1 tokens"]) -> str | None:
    """Return what goes wrong when tokens stand in another order and are given their positions."""
    order = torch.arange(tokens.shape[1], device=model.device)
    moved = torch.cat([order[2:].flip(0), order[2:3]])  # one of them twice, the first ones not
    if model.counts_places and model.counted_in_place is None:
        return _by_row("what its layers are called with")
    plain = model.enter(tokens, order[None])
    try:
        there = model.enter(tokens[:, moved], moved[None])
        counted = model.rowwise
    except RAISED as error:
        if is_out_of_memory(error):
            raise
        return f"its own code fails when it is given positions: {error}".splitlines()[0]
    apart = difference(there.states, plain.states[:, moved.to(plain.states.device)])
    if not apart <= allowed(model):
        return (
            f"the state that a token begins with depends on more than the token and its position "
            f"(relative difference {apart:.1e}, allowed {allowed(model):.0e}), so tokens cannot be "
            "read apart from those before them"
        )
    if counted is None:
        return None
    picked = PickedRows(counted, moved)
    for layer in model.present:
        wanted = picked.of(layer, plain.arguments[layer])
        for argument, value in there.arguments[layer].items():
            if argument in wanted and not _alike(value, wanted[argument], allowed(model)):
                return _by_row(f"{argument}, which its layers are called with,")
    return None


def _by_row(what: str) -> str:
    """Return the fault of a model in which something follows the place of a row."""
    return (
        f"{what} goes by the place of a row, whatever position the row is given, so earlier "
        "and current tokens cannot stand side by side"
    )


def _alike(one: Any, other: Any, limit: float) -> bool:
    """Whether two call arguments are equal up to a relative difference."""
    match one, other:
        case Tensor(), Tensor():
            if one.shape != other.shape:
                return False
            if one.is_complex():
                one, other = torch.view_as_real(one), torch.view_as_real(other)
            return one.numel() == 0 or difference(one, other) <= limit
        case tuple(), tuple():
            return all(_alike(a, b, limit) for a, b in zip(one, other, strict=True))
        case dict(), dict():
            return all(_alike(value, other[name], limit) for name, value in one.items())
    return True
