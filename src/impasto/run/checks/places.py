"""How a model can be told at which position a token stands: by number, or only by its place."""

from typing import Any

import torch
from torch import Tensor

from impasto.model.anatomy import ModelError
from impasto.model.check import allowed, difference
from impasto.model.counted import PickedRows
from impasto.model.opened import Entered, OpenedModel

_TOKENS = 9


def settle_positions(model: OpenedModel, ids: list[int]) -> None:
    """Find out how a model can be told positions, and have the opened model do it so.

    Tokens in another order, told where they stand, must begin as they do in order.

    Raises:
        ModelError: when there is no way to tell it.
    """
    count = min(_TOKENS, len(ids))
    order = torch.arange(count, device=model.device)
    tokens = torch.tensor([ids[:count]], device=model.device)
    plain = model.enter(tokens, order[None])
    moved = torch.cat([order[2:].flip(0), order[2:3]])  # one of them twice, the first ones not
    worst = _states_differ(model, plain, tokens, moved)
    if not worst <= allowed(model):
        model.counts_places = True
        worst = _states_differ(model, plain, tokens, moved)
    name = type(model.hf).__name__
    if not worst <= allowed(model):
        raise ModelError(
            f"{name} cannot be opened: the state that a token begins with depends on more than the "
            f"token and its position (relative difference {worst:.1e}, allowed "
            f"{allowed(model):.0e}), so tokens cannot be read apart from those before them"
        )
    counted = model.rowwise
    if counted is None:
        if model.counts_places:
            raise ModelError(_by_row(name, "what its layers are called with"))
        return
    if model.counts_places and any(_holds_rows(each) for each in counted.layers):
        raise ModelError(_by_row(name, "what its layers are called with"))
    there = model.enter(tokens[:, moved], moved[None])
    picked = PickedRows(counted, moved)
    for layer in model.present:
        wanted = picked.of(layer, plain.arguments[layer])
        for argument, value in there.arguments[layer].items():
            if argument in wanted and not _alike(value, wanted[argument], allowed(model)):
                raise ModelError(_by_row(name, f"{argument}, which its layers are called with,"))


def _by_row(name: str, what: str) -> str:
    return (
        f"{name} cannot be opened: {what} goes by the place of a row, whatever position the row is "
        "told to have, so earlier and current tokens cannot stand side by side"
    )


def _states_differ(model: OpenedModel, plain: Entered, tokens: Tensor, moved: Tensor) -> float:
    there = model.enter(tokens[:, moved], moved[None])
    return difference(there.states, plain.states[:, moved])


def _holds_rows(known: Any) -> bool:
    """Whether anything in a tree of :class:`impasto.model.counted.Counted` counts rows."""
    match known:
        case dict():
            return any(map(_holds_rows, known.values()))
        case tuple():
            return any(map(_holds_rows, known))
    return known is not None


def _alike(one: Any, other: Any, limit: float) -> bool:
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
