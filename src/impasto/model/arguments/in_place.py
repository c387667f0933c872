"""Tokens laid out at their own positions, for models that count positions by a token's place.

Such a model cannot be told where a row stands. So each row is put where it stands, on as many lines
as any position has rows, and the model's own forward goes over the lines; what it makes of each
token, and what it would call its layers with for it, is picked from there. A line may begin behind
tokens that a cache says it holds.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor

_WASTE = 4  # times as many places as rows, beyond which lines are laid out apart


class Lines(NamedTuple):
    """Rows laid out.

    Attributes:
        rows: The rows, by index.
        ids: Their tokens on lines; zero where none stands.
        first: The position that each line begins at.
        line: Of each row, its line.
        column: Of each row, its place on it.
    """

    rows: Int[Tensor, "some"]
    ids: Int[Tensor, "lines width"]
    first: int
    line: Int[Tensor, "some"]
    column: Int[Tensor, "some"]


def laid_out(ids: Int[Tensor, "rows"], positions: Int[Tensor, "rows"]) -> list[Lines]:
    """Lay rows out, with little room between them."""
    order = positions.argsort(stable=True)
    ascending = positions[order]
    rank = torch.arange(len(order), device=order.device)
    rank = rank - torch.searchsorted(ascending, ascending)  # among rows of one position
    return _lines(ids, positions, order, rank)


def _lines(
    ids: Int[Tensor, "rows"],
    positions: Int[Tensor, "rows"],
    rows: Int[Tensor, "some"],
    rank: Int[Tensor, "some"],
) -> list[Lines]:
    at, count = positions[rows], int(rank.max()) + 1
    first = int(at.min())
    width = int(at.max()) - first + 1
    if count > 1 and count * width > _WASTE * len(rows):
        lower = rank < count // 2
        upper = ~lower
        return [
            *_lines(ids, positions, rows[lower], rank[lower]),
            *_lines(ids, positions, rows[upper], rank[upper] - count // 2),
        ]
    line = ids.new_zeros(count, width)
    line[rank, at - first] = ids[rows]
    return [Lines(rows, line, first, rank, at - first)]


class Picked(NamedTuple):
    """Where a value that layers are called with counts rows, and what it has for some of them."""

    place: int
    value: Tensor  # rows first


def pick(value: Any, known: Any, lines: Lines) -> Any:
    """Return a value's entries for rows that were laid out.

    Args:
        value: What layers are called with on the lines.
        known: Where it counts rows (:class:`impasto.model.arguments.counted.Counted`).
        lines: The lines.
    """
    match known:
        case tuple():
            return tuple(pick(each, inner, lines) for each, inner in zip(value, known, strict=True))
        case dict():
            return {name: pick(each, known[name], lines) for name, each in value.items()}
        case int():
            rows = value.movedim(known, 1)
            line = lines.line.to(rows.device) if rows.shape[0] > 1 else 0
            return Picked(known, rows[line, lines.column.to(rows.device)])
    return value


def join(parts: Sequence[Any], back: Callable[[Tensor], Tensor]) -> Any:
    """Return what was picked from several layouts as one.

    Args:
        parts: What was picked, layout by layout.
        back: Puts rows, one layout's behind the other's, into batch × rows.
    """
    match parts[0]:
        case Picked():
            return back(torch.cat([each.value for each in parts])).movedim(1, parts[0].place)
        case tuple():
            return tuple(join(each, back) for each in zip(*parts, strict=True))
        case dict():
            return {name: join([each[name] for each in parts], back) for name in parts[0]}
    return parts[0]


def may_be_picked(known: Any, by_sequence: Any) -> bool:
    """Whether a value that counts rows counts sequences first, or none."""
    match known:
        case tuple():
            pairs = zip(known, by_sequence, strict=True)
            return all(may_be_picked(each, inner) for each, inner in pairs)
        case dict():
            return all(may_be_picked(each, by_sequence[name]) for name, each in known.items())
        case int():
            return known > 0 and by_sequence in (0, None)
    return by_sequence is None
