"""Rows of unequal length as one tensor."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor


def padded(
    rows: Sequence[Sequence[int]], fill: int, device: torch.device
) -> tuple[Int[Tensor, "batch width"], Bool[Tensor, "batch width"]]:
    """Return rows of whole numbers, padded on the right, and where they are no padding.

    Args:
        rows: One for each of the batch, at least one; the longest is as wide as the result.
        fill: What stands behind the shorter ones.
        device: Where both tensors go.
    """
    counts = np.array([len(row) for row in rows])
    filled = np.full((len(rows), counts.max()), fill)
    for into, row in zip(filled, rows, strict=True):
        into[: len(row)] = row
    is_real = np.arange(counts.max()) < counts[:, None]
    return torch.from_numpy(filled).to(device), torch.from_numpy(is_real).to(device)
