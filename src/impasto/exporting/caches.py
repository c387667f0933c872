"""What an exported model's blocks keep of earlier tokens; copied beside its modeling file.

Part of impasto, Apache-2.0.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers import Cache, DynamicCache
from transformers.cache_utils import DynamicIndexedLayer, DynamicLayer


class KeysAndValuesReady(Exception):  # noqa: N818  (not an error: it ends a block early)
    """Raised from inside a block that runs for its keys and values only, once they are there."""


class BlockCache(Cache):
    """The keys and values of one occurrence of a layer, for one call of its block."""

    def __init__(self, past: Any, kv_only: bool = False) -> None:
        super().__init__(layers=[])
        self.keys: Any = None if past is None else past.keys
        self.values: Any = None if past is None else past.values
        self._kv_only = kv_only

    def update(self, key_states: Any, value_states: Any, layer_idx: int, *_: Any, **__: Any) -> Any:
        """Append new keys and values to the past ones, and return all."""
        if self.keys is not None:
            key_states = torch.cat([self.keys, key_states], 2)
            value_states = torch.cat([self.values, value_states], 2)
        self.keys, self.values = key_states, value_states
        if self._kv_only:
            raise KeysAndValuesReady
        return key_states, value_states

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Return the number of tokens that were read before at this occurrence."""
        return 0 if self.keys is None else self.keys.shape[2]


class ReadTokens(DynamicLayer):
    """The first layer of a cache under a plan: the tokens read. The others are occurrences'."""

    @staticmethod
    def of(cache: Any) -> ReadTokens:
        """Return a cache's tokens; an empty cache gets the layer for them."""
        if not isinstance(cache, DynamicCache):
            raise ValueError(f"a plan runs with a DynamicCache or none, not {type(cache).__name__}")
        if not (cache.layers and isinstance(cache.layers[0], ReadTokens)):
            if _is_filled(cache):
                raise ValueError("this cache was filled without the plan; begin with a new one")
            cache.__dict__["layers"] = [ReadTokens()]
        tokens_read: Any = cache.layers[0]
        return tokens_read

    @property
    def ids(self) -> Any:
        """The tokens read before; None before the first."""
        return None if self.keys is None else self.keys[:, 0, :, 0]

    def record(self, cache: Any, ids: Any, recorded: list[Any]) -> None:
        """Let a cache hold the tokens of a call, and each occurrence's keys and values so far."""
        self.update(ids[:, None, :, None], ids[:, None, :, None])
        while len(cache.layers) <= len(recorded):
            cache.layers.append(DynamicLayer())
        for layer, each in zip(cache.layers[1:], recorded, strict=True):
            if not layer.is_initialized:
                layer.lazy_initialization(each.keys, each.values)
            layer.keys, layer.values = each.keys, each.values

    def lazy_initialization(self, key_states: Any, value_states: Any) -> None:
        """Begin with no tokens: an empty tensor of integers, to which others are joined."""
        super().lazy_initialization(key_states, value_states)
        self.keys, self.values = key_states[:, :, :0], value_states[:, :, :0]


class ReadBefore(Cache):
    """A cache that says how many tokens were read, for a forward that prepares further ones."""

    def __init__(self, count: int, size: int, device: Any) -> None:
        super().__init__(layers=[])
        self.count = count
        self.__dict__["layers"] = _PositionsAlone(torch.arange(count, device=device), size)

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Return the number of tokens that were read."""
        return self.count

    def get_query_offset(self, layer_idx: int = 0) -> int:
        """Return the position of the first new token."""
        return self.count

    def has_previous_state(
        self, layer_idx: int | None = None, state_idx: int | None = None
    ) -> bool:
        """Whether a recurrence has read anything."""
        return True

    def get_mask_sizes(self, query_length: int, layer_idx: int) -> tuple[int, int]:
        """Return the number of keys in a mask, and the position of the first."""
        return self.count + query_length, 0


class _PositionsAlone(list[Any]):
    """The layers of a cache without any; one that a forward asks for holds positions."""

    def __init__(self, positions: Any, size: int) -> None:
        super().__init__()
        self._positions = positions.expand(3, size, -1)

    def __getitem__(self, index: Any) -> Any:
        layer = DynamicIndexedLayer()
        layer.indexer_position_ids = self._positions
        return layer


def _is_filled(cache: Any) -> bool:
    """Whether a cache holds anything of any token."""
    for layer in cache.layers:
        states = getattr(layer, "has_previous_state", {})
        if any(states.values()) or (isinstance(layer, DynamicLayer) and layer.get_seq_length()):
            return True
    return False
