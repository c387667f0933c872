"""The cache that a block is handed for one call, in the place of Hugging Face's.

Every attention module calls ``cache.update(keys, values, layer)`` after its projections. A
:class:`BlockCache` answers that call for one occurrence of a layer in a plan, whatever the layer's
own number is: it appends the new keys to the past ones and records those of earlier tokens. Only a
current row itself sees its key, which is never recorded.
"""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from jaxtyping import Float, Int
from torch import Tensor
from transformers import Cache

from impasto.model.structure.anatomy import ModelError
from impasto.plan.program import Occurrence
from impasto.run.common_keys import CommonKeys, hand_over
from impasto.run.kv.buffers import KeysValues, KVBuffer, concatenate


class BufferEnd(NamedTuple):
    """The end of what a KV buffer holds, where new rows are written: the same in all sequences.

    Attributes:
        buffer: The buffer.
        length: The number of tokens that it holds of each sequence.
    """

    buffer: KVBuffer
    length: int

    def append(self, new: Sequence[KeysValues]) -> KeysValues:
        """Write the keys and values of new rows in place, and return all of them."""
        end = self.length
        for keys, values in new:
            begin, end = end, end + keys.shape[2]
            self.buffer.keys[:, :, begin:end] = keys
            self.buffer.values[:, :, begin:end] = values
        return self.buffer.first(end)


class BufferRows(NamedTuple):
    """Where in a KV buffer the rows of one call are written, and how much of it they may see.

    Attributes:
        buffer: The buffer.
        indices: The index in the buffer of each earlier row, then of as many current rows.
        visible: The number of indices, from 0 on, that rows may see.
        length: The number of tokens that were read of the longest sequence.
        common: The keys and values before those of the buffer, if sequences have some in common.
    """

    buffer: KVBuffer
    indices: Int[Tensor, "batch rows"]
    visible: int
    length: int
    common: CommonKeys | None = None

    def append(self, new: Sequence[KeysValues]) -> KeysValues:
        """Write the keys and values of new rows in place, and return all that rows may see.

        Those in common are handed over to the attention that will be called with these.
        """
        if self.common is not None:
            hand_over(self.common)
        end = 0
        for part in new:
            begin, end = end, end + part.length
            self.buffer.write(self.indices[:, begin:end], part)
        return self.buffer.first(self.visible)


Past = KeysValues | BufferEnd | BufferRows
"""The keys and values of earlier tokens at an occurrence, or where they lie."""


class PastByOccurrence(Mapping[Occurrence, Past]):
    """The keys and values of earlier tokens by occurrence; of several occurrences side by side."""

    @abstractmethod
    def side_by_side(self, occurrences: Sequence[Occurrence]) -> Past:
        """Return those of several occurrences as one batch, the first one's sequences first."""


class KeysAndValuesReady(Exception):  # noqa: N818  (not an error: it ends a block early)
    """Raised from inside a block that runs for its keys and values only, once they are there."""


class BlockCache(Cache):
    """A cache for one call of one block.

    Past and new keys are joined once: the record for later tokens is a view of the keys that this
    call's rows may see.

    Args:
        past: The keys and values of earlier tokens at this occurrence.
        earlier: The number of new rows that are earlier tokens; the rows after them are current.
        between: The keys and values of earlier rows that ran in a call before this one; they stand
            between the past and the new ones.
        kv_only: Whether to end the block (with :class:`KeysAndValuesReady`) as soon as it has made
            keys and values.
        adds: Whether this call's own rows add keys and values; else they see those of ``between``.

    Attributes:
        new: The keys and values of this call's own rows, if ``kv_only``.
    """

    def __init__(
        self,
        past: Past | None,
        earlier: int,
        between: KeysValues | None = None,
        kv_only: bool = False,
        adds: bool = True,
    ) -> None:
        super().__init__(layers=[])
        self.new: KeysValues | None = None
        self._past, self._current = past, 0
        self._visible: KeysValues | None = None
        self._earlier, self._between, self._kv_only = earlier, between, kv_only
        self._adds = adds

    def update(  # type: ignore[override]
        self,
        key_states: Float[Tensor, "batch heads rows width"],
        value_states: Float[Tensor, "batch heads rows width_of_values"],
        layer_idx: int,
        *_: Any,
        **__: Any,
    ) -> tuple[
        Float[Tensor, "batch heads keys width"], Float[Tensor, "batch heads keys width_of_values"]
    ]:
        """Append new keys and values to the past ones, and return all that rows may see.

        Raises:
            ModelError: when the block calls this twice.
            KeysAndValuesReady: if ``kv_only``.
        """
        new = KeysValues(key_states, value_states)
        if self._visible is not None:
            raise ModelError("a block writes keys and values twice in one call")
        if self._kv_only:
            self.new = new
            raise KeysAndValuesReady
        parts = [new] if self._between is None else [self._between, new]
        self._current = new.length - self._earlier
        if not self._adds:
            parts, self._current = parts[:-1], 0
        self._visible = concatenate(parts) if self._past is None else self._past.append(parts)
        return self._visible

    @property
    def keys_values(self) -> KeysValues:
        """The keys and values of earlier tokens, this call's among them, for later calls."""
        visible = self._visible
        assert visible is not None, "no attention has run"
        assert not isinstance(self._past, BufferRows), "its buffer holds them already"
        if not self._current:
            return visible
        if isinstance(self._past, BufferEnd):
            return self._past.buffer.first(visible.length - self._current)
        return visible.without_last(self._current)

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Return the number of tokens that were read before at this occurrence."""
        return 0 if self._past is None else self._past.length
