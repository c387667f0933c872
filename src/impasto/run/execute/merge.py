"""What comes of branches: the mean, or the sum of what they add."""

from typing import Literal

import torch
from torch import Tensor


class Merge:
    """The mean of branches, or x + Σ(branch(x) − x), taken one branch at a time."""

    def __init__(self, combine: Literal["mean", "sum"], before: Tensor) -> None:
        self._combine, self._before = combine, before
        self._total = torch.zeros_like(before) if combine == "mean" else before
        self._count = 0

    def add(self, end: Tensor, branches: int = 1) -> None:
        """Take in where a branch ended, or several, one's batch entries behind the other's."""
        end = end.to(self._before.device)
        if branches > 1:
            ends = end.unflatten(0, (branches, -1))
            added = (ends if self._combine == "mean" else ends - self._before).sum(0)
        else:
            added = end if self._combine == "mean" else end - self._before
        self._total = self._total + added
        self._count += branches

    def result(self) -> Tensor:
        """Return the merged state."""
        return self._total / self._count if self._combine == "mean" else self._total
