"""Keys and values of one occurrence, handed to a block in the place of Hugging Face's cache.

Every attention module calls ``cache.update(keys, values, layer)`` after its projections. A
:class:`Slot` answers that call for one occurrence of a layer in a plan, whatever the layer's own
number is: it joins the new keys to the past ones and remembers those of earlier tokens. Keys of a
current row are seen by that row alone and are never remembered.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import Cache


class KeysValues(NamedTuple):
    """What earlier tokens left at one occurrence."""

    keys: Float[Tensor, "batch heads slots width"]
    values: Float[Tensor, "batch heads slots width"]

    def joined(self, keys: Tensor, values: Tensor) -> "KeysValues":
        """Return these followed by ``keys`` and ``values``."""
        return KeysValues(torch.cat([self.keys, keys], 2), torch.cat([self.values, values], 2))

    def of(self, slots: Int[Tensor, "batch some"]) -> "KeysValues":
        """Return those in the given slots of each batch entry."""
        slots = slots.to(self.keys.device)[:, None, :, None]
        return KeysValues(
            *(each.gather(2, slots.expand(*each.shape[:2], -1, each.shape[3])) for each in self)
        )


@dataclass
class Room:
    """Keys and values of one occurrence, written in place, with room for tokens to come.

    Attributes:
        keys: The keys.
        values: The values.
        length: How many slots are taken.
    """

    keys: Float[Tensor, "batch heads room width"]
    values: Float[Tensor, "batch heads room width"]
    length: int

    @classmethod
    def like(cls, kept: KeysValues, batch: int, length: int, more: int) -> "Room":
        """Return a room for ``batch`` entries, ``length`` slots of each to be filled at once."""

        def empty(one: Tensor) -> Tensor:
            return one.new_empty(batch, one.shape[1], length + more, one.shape[3])

        return cls(empty(kept.keys), empty(kept.values), length)

    def fill(self, kept: KeysValues) -> None:
        """Write what was kept; slots that it lacks are zeros."""
        for into, one in ((self.keys, kept.keys), (self.values, kept.values)):
            into[:, :, : one.shape[2]] = one
            into[:, :, one.shape[2] : self.length] = 0

    def joined(self, keys: Tensor, values: Tensor) -> KeysValues:
        """Write behind what is taken, and return all of it."""
        end = self.length + keys.shape[2]
        self.keys[:, :, self.length : end] = keys
        self.values[:, :, self.length : end] = values
        return KeysValues(self.keys[:, :, :end], self.values[:, :, :end])

    def part(self, span: slice) -> "Room":
        """Return the room of some batch entries: the same memory."""
        return Room(self.keys[span], self.values[span], self.length)

    def of(self, batch: Int[Tensor, "left"]) -> "Room":
        """Return a room with the given batch entries only."""
        return Room(
            self.keys.index_select(0, batch), self.values.index_select(0, batch), self.length
        )


class KeysAndValuesReady(Exception):  # noqa: N818  (not an error: it ends a block early)
    """Raised from inside a block once its keys and values are there and nothing more is wanted."""


class Slot(Cache):
    """A cache for one call of one block.

    Args:
        past: What earlier tokens left here.
        earlier: How many of the new rows are earlier tokens; the rest are current.
        only: Whether to end the block (with :class:`KeysAndValuesReady`) as soon as keys and
            values are there.
    """

    def __init__(self, past: KeysValues | Room | None, earlier: int, only: bool = False) -> None:
        super().__init__(layers=[])
        self.kept = past
        self._earlier = earlier
        self._only = only

    def update(  # type: ignore[override]
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *_: Any, **__: Any
    ) -> tuple[Tensor, Tensor]:
        """Join new keys and values to the past ones; keep those of earlier tokens."""
        past, count = self.kept, self._earlier
        if isinstance(past, Room):
            return past.joined(key_states, value_states)
        new = KeysValues(key_states, value_states)
        if count == key_states.shape[2]:  # all of them: what is kept is what is seen
            self.kept = new if past is None else past.joined(*new)
            if self._only:
                raise KeysAndValuesReady
            return self.kept
        if count:
            first = KeysValues(key_states[:, :, :count], value_states[:, :, :count])
            self.kept = first if past is None else past.joined(*first)
        if self._only:
            raise KeysAndValuesReady
        return new if past is None else past.joined(*new)

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Return how many tokens this occurrence has seen."""
        if isinstance(self.kept, Room):
            return self.kept.length
        return 0 if self.kept is None else self.kept.keys.shape[2]
