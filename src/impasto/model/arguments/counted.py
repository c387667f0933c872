"""Which axis of a block's arguments counts rows, or sequences: found by calling the model twice.

A model's own forward hands its blocks rotary tables, positions and the like, with an entry for each
row, or for each sequence, or for both. Comparing the arguments of two batches of different sizes
shows which axis that is. Then the arguments for some rows can be picked from those for all, and the
arguments of layers side by side be joined, without the model preparing either again.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from impasto.model.structure.block import Arguments


@dataclass(frozen=True)
class CountedAxes:
    """The axis of rows (or of sequences) in each argument of each layer.

    Attributes:
        layers: For each layer, the axis by the argument's name; None for an argument without one.
            An argument that is a tuple or a mapping has a tuple or a mapping of axes.
    """

    layers: Sequence[dict[str, Any]]


@dataclass(frozen=True)
class PickedRows:
    """Some of the rows that blocks' arguments were made for, in any order, also repeatedly.

    Attributes:
        axes: The axes of rows.
        rows: The indices of the rows.
    """

    axes: CountedAxes
    rows: Int[Tensor, "picked"]
    _done: dict[int, Tensor] = field(default_factory=dict)  # layers are handed the same tables

    def of(self, layer: int, arguments: Arguments) -> Arguments:
        """Return a layer's arguments for these rows, without tensors whose axes are not known.

        The arguments of all layers must come from one forward.
        """
        known = self.axes.layers[layer]
        return {
            name: self._picked(value, known.get(name))
            for name, value in arguments.items()
            if name in known or not isinstance(value, Tensor)
        }

    def _picked(self, value: Any, axis: Any) -> Any:
        match axis:
            case tuple():
                pairs = zip(value, axis, strict=True)
                return tuple(self._picked(each, inner) for each, inner in pairs)
            case dict():
                return {name: self._picked(each, axis[name]) for name, each in value.items()}
            case int() if value is not None:  # None: the model's own forward left it out
                if id(value) not in self._done:
                    rows = self.rows.to(value.device)
                    self._done[id(value)] = value.index_select(axis, rows)
                return self._done[id(value)]
        return value


class ArgumentsDiffer(Exception):  # noqa: N818  (not an error: such layers run one by one)
    """Raised where the arguments of layers cannot be joined."""


def stacked_arguments(calls: Sequence[Arguments], axes: dict[str, Any], size: int) -> Arguments:
    """Return the arguments of several layers as those of one call, the first layer's entries first.

    Args:
        calls: The arguments of each layer.
        axes: The axis of sequences in each argument.
        size: The number of sequences.

    Raises:
        ArgumentsDiffer: when arguments differ that have no axis of sequences, or its axis is not
            known.
    """
    first, *others = calls
    if any(call.keys() != first.keys() for call in others):
        raise ArgumentsDiffer
    return {name: _joined([call[name] for call in calls], axes.get(name), size) for name in first}


def _joined(values: Sequence[Any], axis: Any, size: int) -> Any:
    first = values[0]
    if isinstance(first, tuple) and isinstance(axis, tuple):
        parts = zip(zip(*values, strict=True), axis, strict=True)
        return tuple(_joined(each, inner, size) for each, inner in parts)
    if isinstance(first, dict) and isinstance(axis, dict):
        return {n: _joined([each[n] for each in values], axis[n], size) for n in first}
    if isinstance(first, Tensor) and isinstance(axis, int):
        if any(type(each) is not Tensor or each.shape != first.shape for each in values):
            raise ArgumentsDiffer
        if first.shape[axis] % size == 0:
            return torch.cat(list(values), axis)
    is_same = all(each is first or _is_equal(each, first) for each in values)
    if not is_same or (isinstance(first, Tensor) and size > 1 and first.shape[:1] == (size,)):
        raise ArgumentsDiffer  # an axis as long as the batch may be one of sequences
    return first


def _is_equal(one: Any, other: Any) -> bool:
    plain = (bool, int, float, str)
    return isinstance(one, plain) and type(one) is type(other) and one == other


def compare_calls(
    few: Sequence[Arguments], many: Sequence[Arguments], without: Sequence[str]
) -> CountedAxes | None:
    """Return the axes whose sizes differ between two calls; None where that is unclear.

    Args:
        few: The arguments of each layer for some rows (or sequences).
        many: The same for more of them.
        without: Names to leave out, for they are made anew for each frame.
    """
    try:
        return CountedAxes(
            [
                {name: _axis(one[name], other[name]) for name in one if name not in without}
                for one, other in zip(few, many, strict=True)
            ]
        )
    except ValueError:
        return None


def _axis(one: Any, other: Any) -> Any:
    match one, other:
        case Tensor(), Tensor():
            sizes = enumerate(zip(one.shape, other.shape, strict=True))
            differ = [axis for axis, (few, many) in sizes if few != many]
            if len(differ) > 1:
                raise ValueError("they are counted twice")
            return differ[0] if differ else None
        case tuple(), tuple():
            return tuple(_axis(a, b) for a, b in zip(one, other, strict=True))
        case dict(), dict():
            return {name: _axis(value, other[name]) for name, value in one.items()}
    return None
