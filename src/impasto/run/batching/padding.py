"""Lists of unequal length as one padded tensor."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

_COPIED_LATER = {"cpu", "mps"}  # devices that may read the memory after it was given back


def padded(
    lists: Sequence[Sequence[int]], fill: int, device: torch.device
) -> tuple[Int[Tensor, "batch longest"], Bool[Tensor, "batch longest"]]:
    """Return whole numbers as one tensor, padded on the right, and where it is not padding.

    Args:
        lists: One for each sequence of the batch, at least one.
        fill: What pads the shorter ones.
        device: Where both tensors go.
    """
    counts = np.array([len(values) for values in lists])
    filled = np.full((len(lists), counts.max()), fill)
    for row, values in zip(filled, lists, strict=True):
        row[: len(values)] = values
    is_real = np.arange(counts.max()) < counts[:, None]
    return sent(torch.from_numpy(filled), device), sent(torch.from_numpy(is_real), device)


def sent(tensor: Tensor, device: torch.device) -> Tensor:
    """Return a tensor of the processor, which nobody changes, on a device that need not be ready.

    A copy from the processor waits for all that a GPU was told to do, unless it is asked not to.
    """
    return tensor.to(device, non_blocking=device.type not in _COPIED_LATER)
