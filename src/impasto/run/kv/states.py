"""What an occurrence of a layer has read so far, where rows are not packed: its state.

A state is one sequence's or several sequences' keys and values, convolutional and recurrent states
at one occurrence (:class:`CarriedState`), or, where a block does not go on from what it wrote, all
the rows that it has read (:class:`RowsRead`), which then run again before each new one.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from copy import copy
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import Cache
from transformers.cache_utils import LinearAttentionAndFullAttentionLayer

Picked = Callable[[Tensor], Tensor]


class LayerState(ABC):
    """What an occurrence has read of some sequences."""

    @abstractmethod
    def select(self, sequences: Int[Tensor, "some"]) -> "LayerState":
        """Return a copy of the state of some sequences, given by index, perhaps several times."""

    @abstractmethod
    def copied(self) -> "LayerState":
        """Return a copy, so that one may go on and the other stay."""


class RowsRead(LayerState):
    """All rows that an occurrence has read, for blocks that carry no state."""

    def __init__(self, rows: Float[Tensor, "batch past hidden"]) -> None:
        self.rows = rows

    def select(self, sequences: Int[Tensor, "some"]) -> "RowsRead":
        """Return a copy of the rows of some sequences."""
        return RowsRead(self.rows[sequences.to(self.rows.device)])

    def copied(self) -> "RowsRead":
        """Return these rows themselves, which are never changed."""
        return self


class StateLayer(LinearAttentionAndFullAttentionLayer):
    """Keys, values, convolutional and recurrent states of an occurrence, as Hugging Face has them.

    Attributes:
        length: The number of tokens that it has read, padding included.
        linear: The state of a linear attention that its family keeps under no other name.
        indexer: The keys of a sparse attention's indexer.
        indexer_position_ids: Where a model's own forward notes positions, which it is told anew.
    """

    indexer_position_ids: Tensor | None = None

    def __init__(self, number_of_states: int = 1) -> None:
        super().__init__(number_of_states=number_of_states)
        self.length = 0
        self.linear: Any = None
        self.indexer: Tensor | None = None

    def mapped(self, pick: Picked) -> "StateLayer":
        """Return a copy whose tensors are these, picked."""
        other = copy(self)
        vars(other).pop("indexer_position_ids", None)
        for name, value in vars(other).items():
            if isinstance(value, Tensor):
                vars(other)[name] = pick(value)
            elif isinstance(value, dict):
                vars(other)[name] = {
                    key: pick(each) if isinstance(each, Tensor) else each
                    for key, each in value.items()
                }
        return other

    def without_first(self, count: int) -> "StateLayer":
        """Return a copy without the keys of the first ``count`` tokens, which are padding."""
        other = copy(self)
        if self.is_initialized:
            assert self.keys is not None, "keys and values were written"
            assert self.values is not None
            other.keys, other.values = self.keys[:, :, count:], self.values[:, :, count:]
        other.length = self.length - count
        if self.indexer is not None:
            other.indexer = self.indexer[:, count:]
        return other

    @classmethod
    def joined(cls, layers: "Sequence[StateLayer]", length: int) -> "StateLayer":
        """Return the states of several, one's sequences behind the other's.

        Where some have read fewer tokens than ``length``, their keys and values begin with zeros.
        """
        joined = copy(layers[0])
        for name, value in vars(layers[0]).items():
            each = [vars(layer)[name] for layer in layers]
            if isinstance(value, Tensor):
                axis = 1 if name == "indexer" else 2 if name in ("keys", "values") else None
                vars(joined)[name] = _cat(each, axis, length)
            elif isinstance(value, dict):
                vars(joined)[name] = {
                    key: _cat([one[key] for one in each], None, length)
                    if isinstance(own, Tensor)
                    else own
                    for key, own in value.items()
                }
        joined.length = length
        return joined

    def get_seq_length(self) -> int:
        """Return the number of tokens that were read."""
        return self.length

    def update_index(self, index_keys: Tensor) -> Tensor:
        """Append the keys of an indexer of blocks (batch × 1 × new × width), and return all."""
        before, new = self.indexer, index_keys[:, 0]
        self.indexer = new if before is None else torch.cat([before, new], 1)
        return self.indexer[:, None]

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Let each sequence stand several times, one behind the other."""
        vars(self).update(vars(self.mapped(lambda each: each.repeat_interleave(repeats, 0))))

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep some of the sequences."""
        self.reorder_cache(indices)

    @property
    def has_read(self) -> bool:
        """Whether a convolution or a recurrence has left a state."""
        return any(self.has_previous_state.values())

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Let each sequence go on from the state of another, as beams do."""
        vars(self).update(vars(self.mapped(lambda each: each[beam_idx.to(each.device)])))


class _TheOne(list[Any]):
    """A list of one layer, which blocks ask for by the number of their own."""

    def __getitem__(self, index: Any) -> Any:
        return next(iter(self))


class CarriedState(Cache, LayerState):
    """The cache that a block is handed for one occurrence, whatever number its layer carries.

    Args:
        layer: What the occurrence has read so far; it is written to.
    """

    def __init__(self, layer: StateLayer) -> None:
        super().__init__(layers=_TheOne([layer]))
        self.layer = layer

    @property
    def length(self) -> int:
        """The number of tokens that it has read."""
        return self.layer.length

    @classmethod
    def empty(cls, config: Any) -> "CarriedState":
        """Return the state of an occurrence that has read nothing."""
        count = getattr(config, "number_of_conv_states", None)
        return cls(StateLayer(count if isinstance(count, int) else 1))

    def select(self, sequences: Int[Tensor, "some"]) -> "CarriedState":
        """Return a copy of the state of some sequences."""
        pick: Picked = lambda each: each[sequences.to(each.device)]  # noqa: E731
        return CarriedState(self.layer.mapped(pick))

    def copied(self) -> "CarriedState":
        """Return a copy; families write recurrent states in place."""
        return CarriedState(self.layer.mapped(torch.clone))

    def update(self, key_states: Tensor, value_states: Tensor, layer_idx: int, *_: Any, **__: Any):
        """Append keys and values, and return all."""
        return self.layer.update(key_states, value_states)

    def get_conv_state(self, layer_idx: int, state_idx: int = 0) -> Tensor | None:
        """Return a convolution's state; None before the first token."""
        return self.layer.conv_states[state_idx] if self._has(state_idx) else None

    def get_recurrent_state(self, layer_idx: int, state_idx: int = 0) -> Tensor | None:
        """Return a recurrence's state; None before the first token."""
        return self.layer.recurrent_states[state_idx] if self._has(state_idx) else None

    def update_conv_state(
        self, conv_states: Tensor, layer_idx: int, state_idx: int = 0, **given: Any
    ) -> Tensor:
        """Write a convolution's inputs, and return those that it reads now."""
        return self.layer.update_conv_state(conv_states, state_idx, **given)

    def update_recurrent_state(
        self, recurrent_states: Tensor, layer_idx: int, state_idx: int = 0, **given: Any
    ) -> Tensor:
        """Write a recurrence's state."""
        return self.layer.update_recurrent_state(recurrent_states, state_idx, **given)

    def update_indexer(self, indexer_key_states: Tensor, layer_idx: int) -> Tensor:
        """Append an indexer's keys, and return all."""
        before = self.layer.indexer
        new = indexer_key_states if before is None else torch.cat([before, indexer_key_states], 1)
        self.layer.indexer = new
        return new

    def get_linear_cache(self, layer_idx: int) -> Any:
        """Return the state of a linear attention; None before the first token."""
        return self.layer.linear

    def set_linear_cache(self, layer_idx: int, linear_cache: Any) -> None:
        """Write the state of a linear attention."""
        self.layer.linear = linear_cache

    def has_previous_state(
        self, layer_idx: int | None = None, state_idx: int | None = None
    ) -> bool:
        """Whether a convolution or a recurrence has read anything."""
        return self.layer.has_read if state_idx is None else self._has(state_idx)

    def is_recording_past(self, layer_idx: int) -> bool:
        """Return False: states are never rolled back."""
        return False

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Return the number of tokens that were read before this call."""
        return self.length

    def get_query_offset(self, layer_idx: int = 0) -> int:
        """Return the position of the first new token."""
        return self.length

    def get_mask_sizes(self, query_length: int, layer_idx: int) -> tuple[int, int]:
        """Return the number of keys that new tokens may see, and the position of the first."""
        return self.length + query_length, 0

    def _has(self, state_idx: int) -> bool:
        return self.layer.has_previous_state[state_idx]


def joined_states(states: Sequence[LayerState], length: int) -> LayerState:
    """Return the states of several, one's sequences behind the other's.

    Keys and values, or rows, are padded with zeros on the left, to a length.
    """
    rows = [each.rows for each in states if isinstance(each, RowsRead)]
    if rows:
        return RowsRead(_cat(rows, 1, length))
    layers = [each.layer for each in states if isinstance(each, CarriedState)]
    return CarriedState(StateLayer.joined(layers, length))


def _cat(tensors: Sequence[Tensor], axis: int | None, length: int) -> Tensor:
    """Return the tensors of several sequences as one, with zeros before the first of an axis."""
    if axis is not None:
        widths = [length - each.shape[axis] for each in tensors]
        tensors = [
            torch.cat(
                [each.new_zeros(*each.shape[:axis], width, *each.shape[axis + 1 :]), each], axis
            )
            for each, width in zip(tensors, widths, strict=True)
        ]
    return torch.cat(list(tensors))
