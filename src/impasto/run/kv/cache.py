"""Keys and values of one occurrence, handed to a block in the place of Hugging Face's cache.

Every attention module calls ``cache.update(keys, values, layer)`` after its projections. A
:class:`BlockCache` answers that call for one occurrence of a layer in a plan, whatever the layer's own
number is: it joins the new keys to the past ones and remembers those of earlier tokens. Keys of a
current row are seen by that row alone and are never remembered.
"""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import Cache

from impasto.model.structure.anatomy import ModelError
from impasto.plan.program import Occurrence
from impasto.run.kv.pages import returned_zeros


class KeysValues(NamedTuple):
    """What earlier tokens left at one occurrence."""

    keys: Float[Tensor, "batch heads slots width"]
    values: Float[Tensor, "batch heads slots width"]

    @property
    def taken(self) -> int:
        """How many slots there are."""
        return self.keys.shape[2]

    def joined(self, new: Sequence["KeysValues"]) -> "KeysValues":
        """Return these followed by new ones."""
        return joined([self, *new])

    def but_last(self, count: int) -> "KeysValues":
        """Return these without the last few, copied where they would keep much more alive."""
        end = self.taken - count
        parts = (each[:, :, :end] for each in self)
        return KeysValues(*(each.contiguous() if count > end // 8 else each for each in parts))

    def part(self, span: slice) -> "KeysValues":
        """Return those of some batch entries: the same memory."""
        return KeysValues(self.keys[span], self.values[span])

    def of(self, batch: Int[Tensor, "some"], length: int) -> "KeysValues":
        """Return those of some batch entries, in ascending order, in their first slots."""
        if len(batch) == len(self.keys):
            return KeysValues(self.keys[:, :, :length], self.values[:, :, :length])
        batch = batch.to(self.keys.device)
        return KeysValues(*(each[:, :, :length].index_select(0, batch) for each in self))


def nothing(states: Float[Tensor, "batch rows hidden"], slots: int) -> KeysValues:
    """Return what a layer leaves that has no keys and values: so many slots of nothing."""
    empty = states.new_zeros(states.shape[0], 0, slots, 0)
    return KeysValues(empty, empty)


def put_by(parts: Sequence[KeysValues]) -> KeysValues:
    """Return what some batches' tokens left, the first one's entries first, in memory of its own.

    Where they have unlike many slots, what lies beyond an entry's own is nothing.
    """
    count, slots = sum(len(each.keys) for each in parts), max(each.taken for each in parts)
    room = KVBuffer.like(parts[0], count, slots, transposed=False)
    begin = 0
    for each in parts:
        room.fill(begin, each)
        begin += len(each.keys)
    return KeysValues(room.keys, room.values)


def joined(parts: Sequence[KeysValues]) -> KeysValues:
    """Return keys and values one behind the other."""
    if len(parts) == 1:
        return parts[0]
    return KeysValues(*(torch.cat(each, 2) for each in zip(*parts, strict=True)))


@dataclass(frozen=True)
class KVBuffer:
    """Keys and values of one occurrence, written in place, with room for tokens to come.

    BlockCache j of a batch entry is for its token j.
    """

    keys: Float[Tensor, "batch heads room width"]
    values: Float[Tensor, "batch heads room width"]

    @classmethod
    def like(cls, kept: KeysValues, batch: int, length: int, transposed: bool) -> "KVBuffer":
        """Return an empty room for ``batch`` entries of ``length`` slots.

        Keys that lie transposed are read fastest by products with few queries, others by torch's
        own attention.
        """
        heads, width = kept.keys.shape[1], kept.keys.shape[3]
        lie = (width, length) if transposed else (length, width)
        keys = returned_zeros(kept.keys, (batch, heads, *lie))
        values = returned_zeros(kept.values, (batch, heads, length, kept.values.shape[3]))
        return cls(keys.transpose(2, 3) if transposed else keys, values)

    def fill(self, begin: int, kept: KeysValues) -> None:
        """Write what batch entries from ``begin`` on have kept, from their first slot on."""
        self.fill_all([(begin, kept)])

    def fill_all(self, parts: list[tuple[int, KeysValues]]) -> None:
        """Write what several have kept, each from its first batch entry on, and empty the list.

        So keys that nobody else holds are gone before values take their place.
        """
        keys = [(begin, each.keys) for begin, each in parts]
        values = [(begin, each.values) for begin, each in parts]
        parts.clear()
        for into, ones in ((self.keys, keys), (self.values, values)):
            while ones:
                begin, one = ones.pop()
                into[begin : begin + len(one), :, : one.shape[2]] = one

    def write(self, slots: Int[Tensor, "batch rows"], new: KeysValues) -> None:
        """Write the keys and values of new rows into these slots."""
        slots = slots.to(self.keys.device)
        entries = torch.arange(len(slots), device=slots.device)[:, None]
        for into, rows in ((self.keys, new.keys), (self.values, new.values)):
            into[entries, :, slots] = rows.transpose(1, 2)

    def first(self, count: int) -> KeysValues:
        """Return what lies in the first slots: the same memory."""
        return KeysValues(self.keys[:, :, :count], self.values[:, :, :count])

    def part(self, span: slice) -> "KVBuffer":
        """Return the room of some batch entries: the same memory."""
        return KVBuffer(self.keys[span], self.values[span])


class BufferEnd(NamedTuple):
    """Where in a room rows are written: right behind what is taken, in all entries alike.

    Attributes:
        room: The room.
        taken: How many slots are taken.
    """

    room: KVBuffer
    taken: int

    def joined(self, new: Sequence[KeysValues]) -> KeysValues:
        """Write new keys and values in place, and return all of them."""
        end = self.taken
        for keys, values in new:
            begin, end = end, end + keys.shape[2]
            self.room.keys[:, :, begin:end] = keys
            self.room.values[:, :, begin:end] = values
        return self.room.first(end)


class BufferSlots(NamedTuple):
    """Where in a room the rows of one call are written, and how much of it they see.

    Attributes:
        room: The room.
        slots: The slots of earlier rows, then those of as many current rows.
        seen: How many slots are there to be seen.
    """

    room: KVBuffer
    slots: Int[Tensor, "batch rows"]
    seen: int

    @property
    def taken(self) -> int:
        """How many slots are taken at the most."""
        return self.seen - self.slots.shape[1]

    def joined(self, new: Sequence[KeysValues]) -> KeysValues:
        """Write new keys and values in place, and return what is there to be seen."""
        end = 0
        for each in new:
            begin, end = end, end + each.taken
            self.room.write(self.slots[:, begin:end], each)
        return self.room.first(self.seen)


Past = KeysValues | BufferEnd | BufferSlots
"""What earlier tokens left at an occurrence, or where it lies."""


class PastByOccurrence(Mapping[Occurrence, Past]):
    """What earlier tokens left at each attention; of some, side by side."""

    @abstractmethod
    def side_by_side(self, occurrences: Sequence[Occurrence]) -> Past:
        """Return what was left at some occurrences, the first one's batch entries first."""


class KeysAndValuesReady(Exception):  # noqa: N818  (not an error: it ends a block early)
    """Raised from inside a block once its keys and values are there and nothing more is wanted."""


class BlockCache(Cache):
    """A cache for one call of one block.

    Past and new keys are joined once: what is kept for tokens to come is a part of what is seen.

    Args:
        past: What earlier tokens left here.
        earlier: How many of the new rows are earlier tokens; the rest are current.
        between: What earlier rows gave in a call before this one, to stand behind the past.
        only: Whether to end the block (with :class:`KeysAndValuesReady`) as soon as keys and
            values are there.

    Attributes:
        new: What this call's own rows gave, if it ends there.
    """

    def __init__(
        self,
        past: Past | None,
        earlier: int,
        between: KeysValues | None = None,
        only: bool = False,
    ) -> None:
        super().__init__(layers=[])
        self.new: KeysValues | None = None
        self._past, self._current = past, 0
        self._seen: KeysValues | None = None
        self._earlier, self._between, self._only = earlier, between, only

    def update(  # type: ignore[override]
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *_: Any, **__: Any
    ) -> tuple[Tensor, Tensor]:
        """Join new keys and values to the past ones."""
        new = KeysValues(key_states, value_states)
        if self._seen is not None:
            raise ModelError("a block writes keys and values twice in one call")
        if self._only:
            self.new = new
            raise KeysAndValuesReady
        parts = [new] if self._between is None else [self._between, new]
        self._current = new.taken - self._earlier
        self._seen = joined(parts) if self._past is None else self._past.joined(parts)
        return self._seen

    @property
    def kept(self) -> KeysValues:
        """What earlier tokens left here, those of this call with them."""
        seen = self._seen
        assert seen is not None, "no attention has run"
        assert not isinstance(self._past, BufferSlots), "a room keeps by itself"
        if not self._current:
            return seen
        if isinstance(self._past, BufferEnd):
            return self._past.room.first(seen.taken - self._current)
        return seen.but_last(self._current)

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Return how many tokens this occurrence has seen."""
        return 0 if self._past is None else self._past.taken
