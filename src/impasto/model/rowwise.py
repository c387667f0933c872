"""Which index of a block's arguments counts rows: found out by asking twice, never by name.

A model's own forward hands its blocks rotary tables, positions and the like, with an entry for each
row. Rows that stand for tokens whose entries are there already can be called with these, so that
the model need not prepare them again.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from jaxtyping import Int
from torch import Tensor

from impasto.model.block import Arguments


@dataclass(frozen=True)
class Rowwise:
    """For each layer and argument, where rows are counted: a dimension, or None for nowhere.

    Arguments that hold others (tuples, mappings) have a tree of the same form.
    """

    layers: Sequence[dict[str, Any]]


@dataclass(frozen=True)
class PickedRows:
    """Some of the rows that blocks' arguments were made for, in any order, also repeatedly."""

    rowwise: Rowwise
    rows: Int[Tensor, "picked"]
    _done: dict[int, Tensor] = field(default_factory=dict)  # layers are handed the same tables

    def of(self, layer: int, arguments: Arguments) -> Arguments:
        """Return a layer's arguments for these rows, without tensors of which nothing is known.

        The arguments are those of one forward, whichever layer is asked about.
        """
        known = self.rowwise.layers[layer]
        return {
            name: self._picked(value, known.get(name))
            for name, value in arguments.items()
            if name in known or not isinstance(value, Tensor)
        }

    def _picked(self, value: Any, known: Any) -> Any:
        match known:
            case tuple():
                pairs = zip(value, known, strict=True)
                return tuple(self._picked(each, place) for each, place in pairs)
            case dict():
                return {name: self._picked(each, known[name]) for name, each in value.items()}
            case int():
                if id(value) not in self._done:
                    rows = self.rows.to(value.device)
                    self._done[id(value)] = value.index_select(known, rows)
                return self._done[id(value)]
        return value


def compare_rows(
    few: Sequence[Arguments], many: Sequence[Arguments], without: Sequence[str]
) -> Rowwise | None:
    """Compare what blocks are called with for fewer and for more rows; None where that is unclear.

    Args:
        few: Of each layer, the arguments for some rows.
        many: The same for more of them.
        without: Names to leave out, for they are made anew for each frame.
    """
    try:
        return Rowwise(
            [
                {name: _dimension(one[name], other[name]) for name in one if name not in without}
                for one, other in zip(few, many, strict=True)
            ]
        )
    except ValueError:
        return None


def _dimension(one: Any, other: Any) -> Any:
    match one, other:
        case Tensor(), Tensor():
            sizes = enumerate(zip(one.shape, other.shape, strict=True))
            differ = [place for place, (few, many) in sizes if few != many]
            if len(differ) > 1:
                raise ValueError("rows are counted twice")
            return differ[0] if differ else None
        case tuple(), tuple():
            return tuple(_dimension(a, b) for a, b in zip(one, other, strict=True))
        case dict(), dict():
            return {name: _dimension(value, other[name]) for name, value in one.items()}
    return None
