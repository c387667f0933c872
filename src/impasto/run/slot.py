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

    def of(self, batch: Int[Tensor, "some"], length: int) -> "KeysValues":
        """Return those of some batch entries, in their first slots."""
        batch = batch.to(self.keys.device)
        return KeysValues(*(each[:, :, :length].index_select(0, batch) for each in self))


@dataclass(frozen=True)
class Room:
    """Keys and values of one occurrence, written in place, with room for tokens to come.

    Slot j of a batch entry is for its token j. Keys lie transposed, as products with few queries
    read them fastest.
    """

    keys: Float[Tensor, "batch heads room width"]
    values: Float[Tensor, "batch heads room width"]

    @classmethod
    def like(cls, kept: KeysValues, batch: int, length: int) -> "Room":
        """Return an empty room for ``batch`` entries of ``length`` slots."""
        heads, width = kept.keys.shape[1], kept.keys.shape[3]
        keys = kept.keys.new_zeros(batch, heads, width, length)
        values = kept.values.new_zeros(batch, heads, length, kept.values.shape[3])
        return cls(keys.transpose(2, 3), values)

    def fill(self, begin: int, kept: KeysValues) -> None:
        """Write what batch entries from ``begin`` on have kept, from their first slot on."""
        count, length = kept.keys.shape[0], kept.keys.shape[2]
        for into, one in ((self.keys, kept.keys), (self.values, kept.values)):
            into[begin : begin + count, :, :length] = one

    def write(self, slots: Int[Tensor, "batch rows"], new: KeysValues) -> None:
        """Write the keys and values of new rows into these slots."""
        slots = slots.to(self.keys.device)
        entries = torch.arange(len(slots), device=slots.device)[:, None]
        for into, rows in ((self.keys, new.keys), (self.values, new.values)):
            into[entries, :, slots] = rows.transpose(1, 2)

    def first(self, count: int) -> KeysValues:
        """Return what lies in the first slots: the same memory."""
        return KeysValues(self.keys[:, :, :count], self.values[:, :, :count])

    def part(self, span: slice) -> "Room":
        """Return the room of some batch entries: the same memory."""
        return Room(self.keys[span], self.values[span])


class Place(NamedTuple):
    """Where in a room the rows of one call write, and how much of it they see.

    Attributes:
        room: The room.
        slots: The slots of earlier rows, then those of as many current rows.
        seen: How many slots are there to be seen.
    """

    room: Room
    slots: Int[Tensor, "batch rows"]
    seen: int


class KeysAndValuesReady(Exception):  # noqa: N818  (not an error: it ends a block early)
    """Raised from inside a block once its keys and values are there and nothing more is wanted."""


class Slot(Cache):
    """A cache for one call of one block.

    Args:
        past: What earlier tokens left here, or the place where it lies.
        earlier: How many of the new rows are earlier tokens; the rest are current.
        only: Whether to end the block (with :class:`KeysAndValuesReady`) as soon as keys and
            values are there.
    """

    def __init__(self, past: KeysValues | Place | None, earlier: int, only: bool = False) -> None:
        super().__init__(layers=[])
        self.kept = past
        self._earlier = earlier
        self._only = only

    def update(  # type: ignore[override]
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *_: Any, **__: Any
    ) -> tuple[Tensor, Tensor]:
        """Join new keys and values to the past ones; keep those of earlier tokens."""
        new, count = KeysValues(key_states, value_states), key_states.shape[2]
        if isinstance(self.kept, Place):
            seen = self._written(self.kept, new)
        else:
            past, earlier = self.kept, self._earlier
            seen = new if past is None else past.joined(*new)
            if earlier == count:  # all of them: what is kept is what is seen
                self.kept = seen
            elif earlier:
                first = KeysValues(key_states[:, :, :earlier], value_states[:, :, :earlier])
                self.kept = first if past is None else past.joined(*first)
        if self._only:
            raise KeysAndValuesReady
        return seen

    def _written(self, place: Place, new: KeysValues) -> KeysValues:
        """Write new keys and values in place; current rows that come alone have the last slots."""
        count = new.keys.shape[2]
        slots = place.slots[:, :count] if self._earlier else place.slots[:, -count:]
        place.room.write(slots, new)
        return place.room.first(place.seen)

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Return how many tokens this occurrence has seen."""
        if isinstance(self.kept, Place):
            return self.kept.seen - self.kept.slots.shape[1]
        return 0 if self.kept is None else self.kept.keys.shape[2]
