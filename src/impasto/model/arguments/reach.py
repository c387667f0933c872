"""What a row sees within a reach: the first positions of a text, and the last ones up to its own.

All of it within what the layer's own rule lets the row see. A row that this would leave nothing to
see, since its layer's own window begins behind the first positions, sees itself alone. Positions
are counted from the beginning of the text, padding not counted.
"""

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from impasto.plan.steps import Reach


def nearest(
    reach: Reach, rows: Int[Tensor, "*any"], lowest: Int[Tensor, "*any"]
) -> Int[Tensor, "*any"]:
    """Return from which position on rows see all up to their own; behind their own for none.

    Args:
        reach: The reach.
        rows: The rows' positions.
        lowest: The lowest position that the layer's own rule lets each row see.
    """
    if reach.last:
        return rows - (reach.last - 1)
    return torch.where(lowest >= reach.first, rows, rows + 1)


def is_within(
    reach: Reach, near: Int[Tensor, "*rows"], keys: Int[Tensor, "*keys"]
) -> Bool[Tensor, "*both"]:
    """Return which keys are within a reach, given their positions, and what is near to rows."""
    return (keys < reach.first) | (keys >= near)
