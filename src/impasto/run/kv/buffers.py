"""Memory for keys and values: what attentions record of earlier tokens, and preallocated buffers.

Keys and values stay for long while many small tensors come and go. In the heap of the process the
small ones would settle between them, and large ones would not fit into the gaps: the heap would
grow with every group of plans. So on a CPU buffers lie in memory mappings of their own, which go
back to the system as soon as nobody holds them.
"""

import ctypes
import mmap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from impasto.run.tuning import LEAST_MAPPING

_PRIVATE = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if hasattr(mmap, "MAP_PRIVATE") else {}


class KeysValues(NamedTuple):
    """Keys and values of some tokens at one occurrence of a layer's attention."""

    keys: Float[Tensor, "batch heads keys width"]
    values: Float[Tensor, "batch heads keys width_of_values"]

    @property
    def length(self) -> int:
        """The number of tokens of each sequence, padding included."""
        return self.keys.shape[2]

    @property
    def nbytes(self) -> int:
        """The bytes that they take, where they are no views."""
        return self.keys.nbytes + self.values.nbytes

    def append(self, new: Sequence["KeysValues"]) -> "KeysValues":
        """Return these followed by the ones of new rows."""
        return concatenate([self, *new])

    def behind(self, count: int) -> "KeysValues":
        """Return these without the first ``count`` tokens, as views."""
        return KeysValues(self.keys[:, :, count:], self.values[:, :, count:])

    def first(self, count: int) -> "KeysValues":
        """Return those of the first ``count`` tokens, as views."""
        return KeysValues(self.keys[:, :, :count], self.values[:, :, :count])

    def without_last(self, count: int) -> "KeysValues":
        """Return these without the last ``count`` tokens.

        They are copied where a view would keep alive over an eighth more memory than it shows.
        """
        end = self.length - count
        views = (tensor[:, :, :end] for tensor in self)
        return KeysValues(*(view.contiguous() if count > end // 8 else view for view in views))

    def sequences(self, span: slice) -> "KeysValues":
        """Return those of some sequences of the batch, as views."""
        return KeysValues(self.keys[span], self.values[span])

    def select(self, sequences: Int[Tensor, "some"], length: int) -> "KeysValues":
        """Return those of some sequences, given in ascending order, for their first tokens."""
        if len(sequences) == len(self.keys):
            return KeysValues(self.keys[:, :, :length], self.values[:, :, :length])
        sequences = sequences.to(self.keys.device)
        return KeysValues(*(tensor[:, :, :length].index_select(0, sequences) for tensor in self))


def empty_keys_values(states: Float[Tensor, "batch rows hidden"], length: int) -> KeysValues:
    """Return the record of a layer without keys and values: no heads, for so many tokens."""
    empty = states.new_zeros(states.shape[0], 0, length, 0)
    return KeysValues(empty, empty)


def merge_batches(parts: Sequence[KeysValues]) -> KeysValues:
    """Return the keys and values of several batches as one, in a memory mapping of its own.

    The first batch's sequences come first. Where the batches differ in length, the shorter ones
    end in zeros.
    """
    count, length = sum(len(part.keys) for part in parts), max(part.length for part in parts)
    buffer = KVBuffer.empty_like(parts[0], count, length, transposed=False)
    begin = 0
    for part in parts:
        buffer.copy_in(begin, part)
        begin += len(part.keys)
    return KeysValues(buffer.keys, buffer.values)


def concatenate(parts: Sequence[KeysValues]) -> KeysValues:
    """Return the keys and values of the same sequences as one, the first part's tokens first."""
    if len(parts) == 1:
        return parts[0]
    return KeysValues(*(torch.cat(tensors, 2) for tensors in zip(*parts, strict=True)))


@dataclass(frozen=True)
class KVBuffer:
    """Preallocated memory for the keys and values of one occurrence, written in place.

    Index i of a sequence belongs to its token i; indices up to the capacity are for later tokens.
    """

    keys: Float[Tensor, "batch heads capacity width"]
    values: Float[Tensor, "batch heads capacity width_of_values"]

    @classmethod
    def empty_like(
        cls, example: KeysValues, sequences: int, capacity: int, transposed: bool
    ) -> "KVBuffer":
        """Return a buffer of zeros for ``sequences`` of up to ``capacity`` tokens.

        Heads, width, dtype and device are the example's. Transposed keys (width before tokens in
        memory) are read fastest by products with few queries, others by torch's own attention.

        Raises:
            MemoryError: when the system has no such memory.
        """
        heads, width = example.keys.shape[1], example.keys.shape[3]
        layout = (width, capacity) if transposed else (capacity, width)
        keys = mapped_zeros(example.keys, (sequences, heads, *layout))
        values = mapped_zeros(example.values, (sequences, heads, capacity, example.values.shape[3]))
        return cls(keys.transpose(2, 3) if transposed else keys, values)

    def copy_in(self, begin: int, source: KeysValues) -> None:
        """Copy keys and values to the sequences from ``begin`` on, from index 0 on."""
        self.move_in([(begin, source)])

    def move_in(self, sources: list[tuple[int, KeysValues]]) -> None:
        """Copy several keys and values in, each to the sequences from a first one on.

        The list is emptied on the way: keys that nobody else holds are freed before values are
        copied, so that not everything is in memory twice.
        """
        keys = [(begin, source.keys) for begin, source in sources]
        values = [(begin, source.values) for begin, source in sources]
        sources.clear()
        for target, tensors in ((self.keys, keys), (self.values, values)):
            while tensors:
                begin, tensor = tensors.pop()
                target[begin : begin + len(tensor), :, : tensor.shape[2]] = tensor

    def write(self, index: Int[Tensor, "batch rows"], new: KeysValues) -> None:
        """Write the keys and values of new rows, each at its index in its sequence."""
        index = index.to(self.keys.device)
        sequences = torch.arange(len(index), device=index.device)[:, None]
        for target, rows in ((self.keys, new.keys), (self.values, new.values)):
            target[sequences, :, index] = rows.transpose(1, 2)

    def first(self, length: int) -> KeysValues:
        """Return the keys and values at the first indices, as views."""
        return KeysValues(self.keys[:, :, :length], self.values[:, :, :length])

    def sequences(self, span: slice) -> "KVBuffer":
        """Return the buffer of some sequences, as views."""
        return KVBuffer(self.keys[span], self.values[span])


def mapped_zeros(example: Tensor, shape: Sequence[int]) -> Shaped[Tensor, "..."]:
    """Return zeros of a shape, in a memory mapping of their own where they are large.

    Dtype and device are the example's. Only CPU memory is mapped.

    Raises:
        MemoryError: when the system has no such memory.
    """
    count = torch.Size(shape).numel()
    size = count * example.itemsize
    if example.device.type != "cpu" or size < LEAST_MAPPING:
        return example.new_zeros(shape)
    try:
        pages = mmap.mmap(-1, size, **_PRIVATE)
    except OSError as error:
        raise MemoryError(f"the system gives no {size} bytes: {error}") from error
    return torch.frombuffer(pages, dtype=example.dtype, count=count).view(torch.Size(shape))


def trim_heap() -> None:
    """Return the free memory of this process's heap to the system, where glibc can."""
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    except (OSError, AttributeError):  # no glibc: another C library decides by itself
        return
