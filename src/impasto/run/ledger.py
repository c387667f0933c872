"""A Hugging Face cache under a plan: which tokens were read, and what they left where.

The cache's first layer is the ledger; each attention occurrence of the plan has a layer of its own
after that. Both are layers like any other to Hugging Face, so that beams reorder them and cropping
crops them as ever. What an occurrence holds is the beginning of a room that is larger than it, and
grows in place, where Hugging Face's own layers are copied at every token.
"""

from collections.abc import Sequence
from typing import Any, overload

import torch
from jaxtyping import Int
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from impasto.error import UserError
from impasto.plan import Plan
from impasto.run.rows import Batch
from impasto.run.slot import KeysValues, Past, Room, Tail

_LEAST_ROOM = 64  # slots; a room is an eighth larger than what it holds, but not less than this


class Ledger(DynamicLayer):
    """The first layer of a cache under a plan: which tokens were read, and under which plan."""

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self.plan = plan

    @staticmethod
    def of(cache: Any, plan: Plan) -> "Ledger | None":
        """Return a cache's ledger; an empty cache gets one.

        Raises:
            UserError: when the cache is of a kind that cannot hold a plan's keys and values, or was
                filled without this plan.
        """
        if cache is None:
            return None
        if not isinstance(cache, DynamicCache):
            raise UserError(f"a plan runs with a DynamicCache or none, not {type(cache).__name__}")
        first = cache.layers[0] if cache.layers else None
        if isinstance(first, Ledger):
            if first.plan != plan:
                raise UserError(f"this cache was filled under the plan {first.plan}, not {plan}")
            return first
        if cache.get_seq_length():
            raise UserError(f"this cache was filled without the plan {plan}; begin with a new one")
        ledger = Ledger(plan)
        cache.__dict__["layers"] = [ledger]
        return ledger

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


class Occurrence(DynamicLayer):
    """A cache's layer for one attention occurrence."""

    _room: Room | None = None

    def past(self, rows: int) -> KeysValues | Tail:
        """Return what earlier tokens left, with room for so many rows behind it where it may be."""
        kept = KeysValues(*self._both)
        if torch.is_grad_enabled() and kept.keys.requires_grad:
            return kept  # what gradients need must not be written over
        length, room = kept.taken, self._room
        if room is None or not self._is_in(room, length + rows):
            more = rows + max(_LEAST_ROOM, length // 8)
            room = Room.like(kept, len(kept.keys), length + more, transposed=False)
            room.fill(0, kept)
            self._room = room
        self.keys, self.values = room.first(length)
        return Tail(room, length)

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

    def _is_in(self, room: Room, end: int) -> bool:
        """Whether what is held still is the beginning of a room, and that is large enough."""
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


class CachePast(Sequence[Past]):
    """What earlier tokens left at each occurrence, made ready as it is asked for.

    So it is never there twice for all layers at once.

    Args:
        cache: The cache, with its ledger.
        rows: The most rows that a call will write.
    """

    def __init__(self, cache: Any, rows: int) -> None:
        self._cache, self._rows, self._first = cache, rows, len(cache.layers) == 1

    def __len__(self) -> int:
        return 0 if self._first else len(self._cache.layers) - 1

    @overload
    def __getitem__(self, index: int) -> Past: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Past]: ...
    def __getitem__(self, index: Any) -> Any:
        return self._cache.layers[index + 1].past(self._rows)

    def record(self, kept: Sequence[KeysValues], since: int) -> None:
        """Write down what has been left at the occurrences from ``since`` on."""
        layers = self._cache.layers
        for index in range(since, len(kept)):
            if self._first:
                layers.append(Occurrence())
            layers[index + 1].keep(kept[index])
