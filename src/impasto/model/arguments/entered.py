"""What the blocks of a model are given."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from impasto.model.structure.block import Arguments


@dataclass(frozen=True)
class Entered:
    """What the model's own forward hands to its blocks.

    Attributes:
        states: The embedded tokens: what the first block reads.
        arguments: For each layer, the further arguments of its block.
    """

    states: Float[Tensor, "batch rows hidden"]
    arguments: list[Arguments]
