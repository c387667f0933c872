"""Rows laid out at their own positions, for models that number tokens by their place.

Such a model takes no positions: the n-th token of a sequence has position n. So each row is put on
a line, at the column of its position, on as many lines as any position has rows. The model's own
forward reads the lines, and each row's hidden state and block arguments are picked from there. A
line may begin at a later position, behind tokens that a cache stands for.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Int, Shaped
from torch import Tensor

from impasto.model.arguments.counted import CountedAxes
from impasto.model.structure.block import Entered

_WASTE = 4  # times as many columns as rows, beyond which rows are laid out in two halves


class Lines(NamedTuple):
    """Some rows, laid out on lines.

    Attributes:
        rows: Their indices among all rows.
        ids: The tokens on the lines; one of the rows' where no row stands, never padding, which
            some models do not count.
        first: The position of each line's first column.
        line: The line of each row.
        column: The column of each row.
    """

    rows: Int[Tensor, "rows"]
    ids: Int[Tensor, "lines columns"]
    first: int
    line: Int[Tensor, "rows"]
    column: Int[Tensor, "rows"]


def enter_lines(
    ids: Int[Tensor, "batch new"],
    positions: Int[Tensor, "batch new"],
    axes: CountedAxes,
    enter: Callable[[Lines], Entered],
) -> Entered:
    """Return the hidden states and block arguments of tokens, each read at its own position.

    Args:
        ids: The tokens.
        positions: Their positions.
        axes: The axes of rows in the arguments of each layer.
        enter: Has the model's own forward read some lines.
    """
    layouts = lay_out(ids.flatten(), positions.flatten())
    parts: list[Entered] = []
    for lines in layouts:
        entered = enter(lines)
        picked = [
            {name: pick(value, known.get(name), lines) for name, value in arguments.items()}
            for arguments, known in zip(entered.arguments, axes.layers, strict=True)
        ]
        parts.append(Entered(entered.states[lines.line, lines.column][None], picked))
    order = torch.cat([lines.rows for lines in layouts]).argsort()

    def restore(
        rows: Shaped[Tensor, "rows *entry"],
    ) -> Shaped[Tensor, "batch new *entry"]:
        return rows[order.to(rows.device)].unflatten(0, positions.shape)

    states = restore(torch.cat([part.states[0] for part in parts]))
    layers = zip(*(part.arguments for part in parts), strict=True)
    return Entered(states, [join(each, restore) for each in layers])


def lay_out(ids: Int[Tensor, "rows"], positions: Int[Tensor, "rows"]) -> list[Lines]:
    """Lay rows out on lines; in several layouts where one would be mostly empty."""
    order = positions.argsort(stable=True)
    ascending = positions[order]
    rank = torch.arange(len(order), device=order.device)
    rank = rank - torch.searchsorted(ascending, ascending)  # among rows of one position
    return _lines(ids, positions, order, rank)


def _lines(
    ids: Int[Tensor, "all_rows"],
    positions: Int[Tensor, "all_rows"],
    rows: Int[Tensor, "rows"],
    rank: Int[Tensor, "rows"],
) -> list[Lines]:
    at, count = positions[rows], int(rank.max()) + 1
    first = int(at.min())
    columns = int(at.max()) - first + 1
    if count > 1 and count * columns > _WASTE * len(rows):
        lower = rank < count // 2
        upper = ~lower
        return [
            *_lines(ids, positions, rows[lower], rank[lower]),
            *_lines(ids, positions, rows[upper], rank[upper] - count // 2),
        ]
    tokens = ids[rows[0]].repeat(count, columns)
    tokens[rank, at - first] = ids[rows]
    return [Lines(rows, tokens, first, rank, at - first)]


class Picked(NamedTuple):
    """The entries of an argument for some rows.

    Attributes:
        axis: The axis of rows in the argument.
        value: The entries, rows first.
    """

    axis: int
    value: Shaped[Tensor, "rows *entry"]


def pick(value: Any, axis: Any, lines: Lines) -> Any:
    """Return an argument's entries for rows that were laid out.

    Args:
        value: The argument, of the lines.
        axis: Its axis of rows (:class:`impasto.model.arguments.counted.CountedAxes`).
        lines: The lines.
    """
    match axis:
        case tuple():
            return tuple(pick(each, inner, lines) for each, inner in zip(value, axis, strict=True))
        case dict():
            return {name: pick(each, axis[name], lines) for name, each in value.items()}
        case int():
            rows = value.movedim(axis, 1)
            line = lines.line.to(rows.device) if rows.shape[0] > 1 else 0
            return Picked(axis, rows[line, lines.column.to(rows.device)])
    return value


def join(parts: Sequence[Any], restore: Callable[[Tensor], Tensor]) -> Any:
    """Return what :func:`pick` returned for several layouts as one argument.

    Args:
        parts: The results of :func:`pick`, layout by layout.
        restore: Puts rows, one layout's behind the other's, into batch × rows.
    """
    match parts[0]:
        case Picked():
            return restore(torch.cat([each.value for each in parts])).movedim(1, parts[0].axis)
        case tuple():
            return tuple(join(each, restore) for each in zip(*parts, strict=True))
        case dict():
            return {name: join([each[name] for each in parts], restore) for name in parts[0]}
    return parts[0]


def may_be_picked(row_axis: Any, sequence_axis: Any) -> bool:
    """Whether an argument with an axis of rows has its axis of sequences first, or none."""
    match row_axis:
        case tuple():
            pairs = zip(row_axis, sequence_axis, strict=True)
            return all(may_be_picked(each, inner) for each, inner in pairs)
        case dict():
            return all(may_be_picked(each, sequence_axis[name]) for name, each in row_axis.items())
        case int():
            return row_axis > 0 and sequence_axis in (0, None)
    return sequence_axis is None
