"""A Hugging Face cache under a plan: the tokens read, and keys and values by occurrence.

The cache's first layer holds the tokens; each occurrence of the plan has a layer of its own after
that. Both are layers like any other to Hugging Face, so beams reorder them and cropping crops them
as usual. The tensors of an occurrence are the beginning of a KV buffer that is larger than they
are, and grow in place, where Hugging Face's own layers are copied at every token.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Int
from torch import Tensor
from transformers import DynamicCache, EncoderDecoderCache
from transformers.cache_utils import DynamicLayer

from impasto.error import UserError
from impasto.plan import Plan
from impasto.plan.program import Occurrence, Program
from impasto.run.execute.rows import Batch
from impasto.run.kv.buffers import KeysValues, KVBuffer, trim_heap
from impasto.run.kv.cache import BufferEnd, Past, PastByOccurrence
from impasto.run.kv.ring import Ring
from impasto.run.tuning import LARGE_KEYS, TOKENS_TO_COME


def of_texts(cache: Any) -> Any:
    """Return the part of a call's cache that holds texts, where another part is for an encoder."""
    return cache.self_attention_cache if isinstance(cache, EncoderDecoderCache) else cache


class ReadTokens(DynamicLayer):
    """The first layer of a cache under a plan: the tokens read, and the plan.

    Attributes:
        plan: The plan.
        indexer_position_ids: Where a model's own forward keeps the positions that it has read.
    """

    indexer_position_ids: Tensor | None = None

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self.plan = plan

    @staticmethod
    def of(cache: Any, plan: Plan) -> "ReadTokens | None":
        """Return a cache's tokens; an empty cache gets the layer for them.

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
        if _is_filled(cache):
            raise UserError(f"this cache was filled without the plan {plan}; begin with a new one")
        tokens = ReadTokens(plan)
        cache.__dict__["layers"] = [tokens]
        return tokens

    @property
    def ids(self) -> Int[Tensor, "batch past"] | None:
        """The tokens read before this call; None before the first."""
        return None if self.keys is None else self.keys[:, 0, :, 0]

    @property
    def are_real(self) -> Bool[Tensor, "batch past"]:
        """Where the tokens that were read are no padding."""
        assert self.values is not None, "tokens were read"
        return self.values[:, 0, :, 0].bool()

    def append(self, batch: Batch) -> None:
        """Append the tokens that a call has read, and where they are no padding."""
        self.update(batch.ids[:, None, :, None], batch.is_real.long()[:, None, :, None])

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Begin with no tokens: an empty tensor of integers, to which others are joined."""
        super().lazy_initialization(key_states, value_states)
        self.keys, self.values = key_states[:, :, :0], value_states[:, :, :0]


def _is_filled(cache: DynamicCache) -> bool:
    """Whether a cache holds anything of any token."""
    for layer in cache.layers:
        states = getattr(layer, "has_previous_state", {})
        if any(states.values()) or (isinstance(layer, DynamicLayer) and layer.get_seq_length()):
            return True
    return False


class OccurrenceLayer(DynamicLayer):
    """A cache's layer for one occurrence of a plan."""

    _buffer: KVBuffer | None = None
    _share: "_BufferShare | None" = None  # where its buffer is a part of a larger one

    def past(self, rows: int) -> KeysValues | BufferEnd:
        """Return the keys and values of earlier tokens, with memory for so many rows behind them.

        Where they need gradients, they are returned as they are, not to be written over.
        """
        keys_values = self._keys_values
        if torch.is_grad_enabled() and keys_values.keys.requires_grad:
            return keys_values
        length, buffer = keys_values.length, self._buffer
        if buffer is None or not self._lies_in(buffer, length + rows):
            sequences = len(keys_values.keys)
            capacity = _capacity(length, rows)
            buffer = KVBuffer.empty_like(keys_values, sequences, capacity, transposed=False)
            del keys_values  # so that they are freed when they move
            self._move(buffer)
        return BufferEnd(buffer, length)

    @staticmethod
    def side_by_side(layers: "Sequence[OccurrenceLayer]", rows: int) -> BufferEnd:
        """Return the keys and values of several occurrences, the first one's sequences first.

        They come to share one buffer, of which each has a part, with memory for so many rows more.
        """
        first, share = layers[0]._keys_values, layers[0]._share
        size, length, parts = len(first.keys), first.length, len(layers)
        whole = None if share is None else share.whole
        if whole is None or not all(
            layer._shares(whole, place, parts) and layer._lies_in(layer._buffer, length + rows)
            for place, layer in enumerate(layers)
        ):
            capacity = _capacity(length, rows)
            whole = KVBuffer.empty_like(first, size * parts, capacity, transposed=False)
            for place, layer in enumerate(layers):
                layer._move(whole.sequences(slice(place * size, (place + 1) * size)))
                layer._share = _BufferShare(whole, place, parts)
        return BufferEnd(whole, length)

    def _move(self, buffer: KVBuffer) -> None:
        """Move keys and values to another buffer."""
        keys_values = self._keys_values
        buffer.copy_in(0, keys_values)
        self._buffer, self._share = buffer, None
        self.keys, self.values = buffer.first(keys_values.length)
        size = keys_values.keys.nbytes
        del keys_values
        if size > LARGE_KEYS:
            trim_heap()  # what lay in the heap would stay there beside the buffer

    def record(self, keys_values: KeysValues) -> None:
        """Hold the keys and values of all tokens read so far."""
        if not self.is_initialized:
            self.lazy_initialization(*keys_values)
        self.keys, self.values = keys_values

    @property
    def _keys_values(self) -> KeysValues:
        assert self.keys is not None, "no token was read"
        assert self.values is not None
        return KeysValues(self.keys, self.values)

    def _shares(self, whole: KVBuffer, place: int, parts: int) -> bool:
        share = self._share
        return share is not None and share.whole is whole and share[1:] == (place, parts)

    def _lies_in(self, buffer: KVBuffer | None, capacity: int) -> bool:
        """Whether the tensors are still the beginning of a buffer of such a capacity at the least.

        They are not once Hugging Face has reordered or replaced them.
        """
        if buffer is None:
            return False
        can_write = torch.is_inference_mode_enabled() or not buffer.keys.is_inference()
        pairs = zip(self._keys_values, (buffer.keys, buffer.values), strict=True)
        return (
            can_write
            and buffer.keys.shape[2] >= capacity
            and all(
                own.data_ptr() == whole.data_ptr()
                and own.stride() == whole.stride()
                and own.shape[:2] == whole.shape[:2]
                for own, whole in pairs
            )
        )


class ReachLayer(OccurrenceLayer):
    """A cache's layer for an occurrence that sees less: it holds what can still be seen.

    So its tensors have fewer entries than tokens were read. They are replaced at every call, for
    the last ones go round in them.

    Args:
        tokens: The cache's first layer.
        size: How many tokens it holds of a sequence at the most.
    """

    is_croppable = False

    def __init__(self, tokens: ReadTokens, size: int) -> None:
        super().__init__()
        self._tokens, self._size = tokens, size

    def past(self, rows: int) -> KeysValues:
        """Return the keys and values of earlier tokens that can still be seen."""
        return self._keys_values

    def get_seq_length(self) -> int:
        """Return how many tokens of each sequence were read."""
        return self._tokens.get_seq_length()

    def crop(self, tokens_to_remove: int) -> None:
        """Take back the last tokens, which the cache's first layer has done already.

        Raises:
            UserError: when tokens that would be seen again are no longer held.
        """
        left = self.get_seq_length()
        if not tokens_to_remove or not self.is_initialized:
            return
        if left - tokens_to_remove > self._size:
            raise UserError(
                f"the plan {self._tokens.plan} lets attention see {self._size} tokens at the most, "
                f"so the cache holds no others, and cannot take back {-tokens_to_remove} of "
                f"{left - tokens_to_remove}; generate without an assistant and without prompt "
                "lookup, which need that"
            )
        self.keys, self.values = (each[:, :, :left] for each in self._keys_values)


class _BufferShare(NamedTuple):
    """Which part of a buffer is an occurrence's, of how many."""

    whole: KVBuffer
    place: int
    parts: int


def _capacity(length: int, rows: int) -> int:
    """Return the capacity of a buffer for so many tokens, the rows of a call, and later tokens."""
    return length + rows + max(TOKENS_TO_COME, length // 8)


class HuggingFacePast(PastByOccurrence):
    """The keys and values that a Hugging Face cache holds, by occurrence.

    Each is moved to a buffer as it is read, so that they are never twice in memory for all
    occurrences at once.

    Args:
        cache: The cache, with its tokens.
        program: The plan, lowered; its occurrences are in the order of the cache's layers.
        rows: The most rows that a call will write.
    """

    def __init__(self, cache: Any, program: Program, rows: int) -> None:
        self._cache, self._rows, self._reaches = cache, rows, program.reaches
        self._places = {each: place for place, each in enumerate(program.occurrences, 1)}
        self._is_first = len(cache.layers) == 1

    def __len__(self) -> int:
        return 0 if self._is_first else len(self._places)

    def __iter__(self) -> Iterator[Occurrence]:
        return iter(() if self._is_first else self._places)

    def __getitem__(self, occurrence: Occurrence) -> Past:
        return self._layer(occurrence).past(self._rows)

    def side_by_side(self, occurrences: Sequence[Occurrence]) -> Past:
        """Return those of several occurrences as one batch, the first one's sequences first."""
        return OccurrenceLayer.side_by_side([self._layer(each) for each in occurrences], self._rows)

    def record(self, keys_values: Mapping[Occurrence, KeysValues]) -> None:
        """Let the cache hold the keys and values of all tokens read so far at some occurrences."""
        layers = self._cache.layers
        if keys_values and len(layers) == 1:
            layers += [self._new_layer(layers[0], occurrence) for occurrence in self._places]
        for occurrence, each in keys_values.items():
            self._layer(occurrence).record(each)

    def _new_layer(self, tokens: ReadTokens, occurrence: Occurrence) -> OccurrenceLayer:
        reach = self._reaches.get(occurrence)
        return OccurrenceLayer() if reach is None else ReachLayer(tokens, Ring.of(reach).size)

    def _layer(self, occurrence: Occurrence) -> OccurrenceLayer:
        return self._cache.layers[self._places[occurrence]]
