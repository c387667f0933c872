"""Memory for what stays long, and goes back to the system when it is let go.

Keys and values stay while much that is small comes and goes. In the heap of the process what is
small would settle between them, and what is large would not fit into the gaps that they leave: the
heap would grow with every group of plans. So on a processor they lie in mappings of their own.
"""

import ctypes
import mmap
from collections.abc import Sequence

import torch
from torch import Tensor

from impasto.run.tuning import LEAST_MAPPING

_PRIVATE = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if hasattr(mmap, "MAP_PRIVATE") else {}


def returned_zeros(like: Tensor, shape: Sequence[int]) -> Tensor:
    """Return zeros of a shape, of the type of another tensor and where that is.

    Raises:
        MemoryError: when the system has none.
    """
    count = torch.Size(shape).numel()
    size = count * like.itemsize
    if like.device.type != "cpu" or size < LEAST_MAPPING:
        return like.new_zeros(shape)
    try:
        pages = mmap.mmap(-1, size, **_PRIVATE)
    except OSError as error:
        raise MemoryError(f"the system gives no {size} bytes: {error}") from error
    return torch.frombuffer(pages, dtype=like.dtype, count=count).view(torch.Size(shape))


def give_back() -> None:
    """Give memory of the heap that is free, but still this process's, back to the system."""
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    except (OSError, AttributeError):  # another C library keeps what it keeps
        return
