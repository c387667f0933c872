"""Where an attention under a reach holds keys and values: only those that can still be seen.

The first positions of a text have an index each. The last ones share the others in turn: behind the
first ones, a position takes the index of the one that has just gone out of reach. So a sequence
takes as much memory as its reach is wide, however long it becomes; until then, the index of a
position is the position itself.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from impasto.plan.steps import Reach


@dataclass(frozen=True, slots=True)
class Ring:
    """Which index holds which position.

    Attributes:
        first: How many first positions are held for good.
        last: How many of the last ones are held, a row's own among them.
    """

    first: int
    last: int

    @classmethod
    def of(cls, reach: Reach) -> "Ring":
        """Return what holds all that is within a reach; a row may see itself in any case."""
        return cls(reach.first, max(reach.last, 1))

    @property
    def size(self) -> int:
        """How many positions are held at the most."""
        return self.first + self.last  # Reach.held

    def index(self, positions: Int[Tensor, "*any"]) -> Int[Tensor, "*any"]:
        """Return the index of positions."""
        turning = self.first + (positions - self.first) % self.last
        return torch.where(positions < self.first, positions, turning)

    def positions(
        self, read: Int[Tensor, "batch"], count: int
    ) -> tuple[Int[Tensor, "batch count"], Bool[Tensor, "batch count"]]:
        """Return the position that each of the first indices holds, and whether it holds any.

        Args:
            read: How many positions of each sequence were read.
            count: How many indices there are.
        """
        at, newest = torch.arange(count, device=read.device), read[:, None] - 1
        turned = newest - (newest - at) % self.last
        positions = torch.where(at < self.first, at, turned)
        return positions.clamp(min=0), (at <= newest) & (at < self.size)
