"""Which index of a block's arguments counts rows, or sequences: found out by asking twice.

A model's own forward hands its blocks rotary tables, positions and the like, with an entry for each
row, or for each sequence, or for both. Rows that stand for tokens whose entries are there already
can be called with these, and layers side by side with what each is called with, so that the model
need not prepare them again.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from impasto.model.structure.block import Arguments


@dataclass(frozen=True)
class Counted:
    """For each layer and argument, where rows (or sequences) are counted: a dimension, or None.

    Arguments that hold others (tuples, mappings) have a tree of the same form.
    """

    layers: Sequence[dict[str, Any]]


@dataclass(frozen=True)
class PickedRows:
    """Some of the rows that blocks' arguments were made for, in any order, also repeatedly."""

    counted: Counted
    rows: Int[Tensor, "picked"]
    _done: dict[int, Tensor] = field(default_factory=dict)  # layers are handed the same tables

    def of(self, layer: int, arguments: Arguments) -> Arguments:
        """Return a layer's arguments for these rows, without tensors of which nothing is known.

        The arguments are those of one forward, whichever layer is asked about.
        """
        known = self.counted.layers[layer]
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


class Differ(Exception):  # noqa: N818  (not an error: what differs runs apart)
    """Raised where layers are called with what cannot stand side by side."""


def stacked_arguments(calls: Sequence[Arguments], counted: dict[str, Any], size: int) -> Arguments:
    """Return what layers are called with as one call, the first layer's sequences first.

    Args:
        calls: What each layer is called with.
        counted: Of each argument, where sequences are counted.
        size: How many sequences there are.

    Raises:
        Differ: when arguments differ that sequences share, or nothing is known of one.
    """
    first, *others = calls
    if any(call.keys() != first.keys() for call in others):
        raise Differ
    return {
        name: _joined([call[name] for call in calls], counted.get(name), size) for name in first
    }


def _joined(values: Sequence[Any], place: Any, size: int) -> Any:
    first = values[0]
    if isinstance(first, tuple) and isinstance(place, tuple):
        parts = zip(zip(*values, strict=True), place, strict=True)
        return tuple(_joined(each, inner, size) for each, inner in parts)
    if isinstance(first, dict) and isinstance(place, dict):
        return {n: _joined([each[n] for each in values], place[n], size) for n in first}
    if isinstance(first, Tensor) and isinstance(place, int):
        if any(type(each) is not Tensor or each.shape != first.shape for each in values):
            raise Differ
        if first.shape[place] % size == 0:
            return torch.cat(list(values), place)
    is_same = all(each is first or _is_equal(each, first) for each in values)
    if not is_same or (isinstance(first, Tensor) and size > 1 and first.shape[:1] == (size,)):
        raise Differ  # of what has as many entries as there are sequences, it is not known why
    return first


def _is_equal(one: Any, other: Any) -> bool:
    plain = (bool, int, float, str)
    return isinstance(one, plain) and type(one) is type(other) and one == other


def compare_calls(
    few: Sequence[Arguments], many: Sequence[Arguments], without: Sequence[str]
) -> Counted | None:
    """Compare what blocks are called with for fewer and for more; None where that is unclear.

    Args:
        few: Of each layer, the arguments for some rows (or sequences).
        many: The same for more of them.
        without: Names to leave out, for they are made anew for each frame.
    """
    try:
        return Counted(
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
                raise ValueError("they are counted twice")
            return differ[0] if differ else None
        case tuple(), tuple():
            return tuple(_dimension(a, b) for a, b in zip(one, other, strict=True))
        case dict(), dict():
            return {name: _dimension(value, other[name]) for name, value in one.items()}
    return None
