"""A Hugging Face cache under a plan: which tokens were read, and what they left where.

The cache's first layer is the tokens; each attention occurrence of the plan has a layer of its own
after that. Both are layers like any other to Hugging Face, so that beams reorder them and cropping
crops them as ever. What an occurrence holds is the beginning of a room that is larger than it, and
grows in place, where Hugging Face's own layers are copied at every token.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from impasto.error import UserError
from impasto.plan import Plan
from impasto.plan.program import Occurrence
from impasto.run.execute.rows import Batch
from impasto.run.kv.cache import BufferEnd, KeysValues, KVBuffer, Past, PastByOccurrence
from impasto.run.kv.pages import give_back
from impasto.run.tuning import LARGE_KEYS, TOKENS_TO_COME


class ReadTokens(DynamicLayer):
    """The first layer of a cache under a plan: which tokens were read, and under which plan."""

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self.plan = plan

    @staticmethod
    def of(cache: Any, plan: Plan) -> "ReadTokens | None":
        """Return a cache's tokens; an empty cache gets one.

        Raises:
            UserError: when the cache is of a kind that cannot hold a plan's keys and values, or was
                filled without this plan.
        """
        if cache is None:
            return None
        if not isinstance(cache, DynamicCache):
            raise UserError(f"a plan runs with a DynamicCache or none, not {type(cache).__name__}")
        first = cache.layers[0] if cache.layers else None
        if isinstance(first, ReadTokens):
            if first.plan != plan:
                raise UserError(f"this cache was filled under the plan {first.plan}, not {plan}")
            return first
        if cache.get_seq_length():
            raise UserError(f"this cache was filled without the plan {plan}; begin with a new one")
        tokens = ReadTokens(plan)
        cache.__dict__["layers"] = [tokens]
        return tokens

    @property
    def ids(self) -> Int[Tensor, "batch past"] | None:
        """The tokens read so far."""
        return None if self.keys is None else self.keys[:, 0, :, 0]

    def read(self, batch: Batch) -> None:
        """Write down the tokens just read."""
        self.update(batch.ids[:, None, :, None], batch.ids[:, None, :, None])

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Begin with no tokens (an empty tensor of integers, for they are joined to it)."""
        super().lazy_initialization(key_states, value_states)
        self.keys, self.values = key_states[:, :, :0], value_states[:, :, :0]


class OccurrenceLayer(DynamicLayer):
    """A cache's layer for one attention occurrence."""

    _room: KVBuffer | None = None
    _part: "_Part | None" = None  # where its room is a part of a larger one

    def past(self, rows: int) -> KeysValues | BufferEnd:
        """Return what earlier tokens left, with room for so many rows behind it where it may be."""
        kept = KeysValues(*self._both)
        if torch.is_grad_enabled() and kept.keys.requires_grad:
            return kept  # what gradients need must not be written over
        length, room = kept.taken, self._room
        if room is None or not self._is_in(room, length + rows):
            room = KVBuffer.like(kept, len(kept.keys), _roomy(length, rows), transposed=False)
            del kept  # lest it stay while it moves
            self._move(room)
        return BufferEnd(room, length)

    @staticmethod
    def side_by_side(occurrences: "Sequence[OccurrenceLayer]", rows: int) -> BufferEnd:
        """Return what earlier tokens left at several, the first one's batch entries first.

        They come to share a room, which is parted into one for each.
        """
        first, own = KeysValues(*occurrences[0]._both), occurrences[0]._part
        size, length, among = len(first.keys), first.taken, len(occurrences)
        whole = None if own is None else own.whole
        if whole is None or not all(
            each._is_part(whole, place, among) and each._is_in(each._room, length + rows)
            for place, each in enumerate(occurrences)
        ):
            whole = KVBuffer.like(first, size * among, _roomy(length, rows), transposed=False)
            for place, each in enumerate(occurrences):
                each._move(whole.part(slice(place * size, (place + 1) * size)))
                each._part = _Part(whole, place, among)
        return BufferEnd(whole, length)

    def _move(self, room: KVBuffer) -> None:
        """Let what is held lie in another room."""
        kept = KeysValues(*self._both)
        room.fill(0, kept)
        self._room, self._part = room, None
        self.keys, self.values = room.first(kept.taken)
        size = kept.keys.nbytes
        del kept
        if size > LARGE_KEYS:
            give_back()  # lest what lay in the heap stays there beside the room

    def keep(self, kept: KeysValues) -> None:
        """Hold what earlier tokens, new ones included, have left now."""
        if not self.is_initialized:
            self.lazy_initialization(*kept)
        self.keys, self.values = kept

    @property
    def _both(self) -> tuple[Tensor, Tensor]:
        assert self.keys is not None, "no token was read"
        assert self.values is not None
        return self.keys, self.values

    def _is_part(self, whole: KVBuffer, place: int, among: int) -> bool:
        part = self._part
        return part is not None and part.whole is whole and part[1:] == (place, among)

    def _is_in(self, room: KVBuffer | None, end: int) -> bool:
        """Whether what is held still is the beginning of a room, and that is large enough."""
        if room is None:
            return False
        keys, values = self._both
        can_write = torch.is_inference_mode_enabled() or not room.keys.is_inference()
        return (
            can_write
            and room.keys.shape[2] >= end
            and all(
                one.data_ptr() == whole.data_ptr() and one.stride() == whole.stride()
                and one.shape[:2] == whole.shape[:2]
                for one, whole in ((keys, room.keys), (values, room.values))
            )
        )  # fmt: skip


class _Part(NamedTuple):
    """Which part of a room is an occurrence's, of how many."""

    whole: KVBuffer
    place: int
    among: int


def _roomy(length: int, rows: int) -> int:
    """Return how long a room is made for so many slots, and so many rows to come."""
    return length + rows + max(TOKENS_TO_COME, length // 8)


class HuggingFacePast(PastByOccurrence):
    """What earlier tokens left at each attention, made ready as it is asked for.

    So it is never there twice for all layers at once.

    Args:
        cache: The cache, with its tokens.
        attentions: The attentions of the plan, in the order of the cache's layers.
        rows: The most rows that a call will write.
    """

    def __init__(self, cache: Any, attentions: Sequence[Occurrence], rows: int) -> None:
        self._cache, self._rows = cache, rows
        self._places = {each: place for place, each in enumerate(attentions, 1)}
        self._is_first = len(cache.layers) == 1

    def __len__(self) -> int:
        return 0 if self._is_first else len(self._places)

    def __iter__(self) -> Iterator[Occurrence]:
        return iter(() if self._is_first else self._places)

    def __getitem__(self, occurrence: Occurrence) -> Past:
        return self._layer(occurrence).past(self._rows)

    def side_by_side(self, occurrences: Sequence[Occurrence]) -> Past:
        """Return what was left at some attentions, the first one's batch entries first."""
        return OccurrenceLayer.side_by_side([self._layer(each) for each in occurrences], self._rows)

    def record(self, kept: Mapping[Occurrence, KeysValues]) -> None:
        """Write down what has been left at some attentions."""
        layers = self._cache.layers
        if kept and len(layers) == 1:
            layers += [OccurrenceLayer() for _ in self._places]
        for occurrence, each in kept.items():
            self._layer(occurrence).keep(each)

    def _layer(self, occurrence: Occurrence) -> OccurrenceLayer:
        return self._cache.layers[self._places[occurrence]]
