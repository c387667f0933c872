"""Keys and values of one occurrence, handed to a block in the place of Hugging Face's cache.

Every attention module calls ``cache.update(keys, values, layer)`` after its projections. A
:class:`Slot` answers that call for one occurrence of a layer in a plan, whatever the layer's own
number is: it joins the new keys to the past ones and remembers those of earlier tokens. Keys of a
current row are seen by that row alone and are never remembered.
"""

from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import Cache


class KeysValues(NamedTuple):
    """What earlier tokens left at one occurrence."""

    keys: Float[Tensor, "batch heads slots width"]
    values: Float[Tensor, "batch heads slots width"]

    def joined(self, keys: Tensor, values: Tensor) -> "KeysValues":
        """Return these followed by ``keys`` and ``values``."""
        return KeysValues(torch.cat([self.keys, keys], 2), torch.cat([self.values, values], 2))

    def of(self, batch: Tensor) -> "KeysValues":
        """Return those of the given batch entries."""
        return KeysValues(self.keys.index_select(0, batch), self.values.index_select(0, batch))


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

    def __init__(self, past: KeysValues | None, earlier: int, only: bool = False) -> None:
        super().__init__(layers=[])
        self.kept = past
        self._earlier = earlier
        self._only = only

    def update(  # type: ignore[override]
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *_: Any, **__: Any
    ) -> tuple[Tensor, Tensor]:
        """Join new keys and values to the past ones; keep those of earlier tokens."""
        past, count = self.kept, self._earlier
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
        return 0 if self.kept is None else self.kept.keys.shape[2]
