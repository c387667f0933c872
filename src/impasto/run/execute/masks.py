"""What a batch says about who sees whom, whatever the layers' own rules: real, and an ancestor.

As a mask, or as the vectors that stand in for one that would be too large.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Int, Shaped
from torch import Tensor

from impasto.model.arguments.visibility import Interval
from impasto.plan.steps import Reach
from impasto.run.attention.blockwise import UnmadeMask
from impasto.run.attention.geometry import Geometry
from impasto.run.execute.rows import Batch


class Parts(NamedTuple):
    """Which rows run in a call of a block.

    Attributes:
        earlier: Whether new tokens run as earlier rows.
        current: Whether scored tokens run as current rows, behind those.
        later: Whether of new tokens only those run that are not the prompt's.
    """

    earlier: bool
    current: bool
    later: bool = False

    def of(self, new: Shaped[Tensor, "batch new"], batch: Batch) -> Shaped[Tensor, "batch rows"]:
        """Return what is said of new tokens, for each of these rows."""
        earlier = batch.later.pick(new) if self.later else new
        return torch.cat([earlier] * self.earlier + [batch.pick(new)] * self.current, 1)


def visible_rows(
    batch: Batch,
    parts: Parts,
    past: Int[Tensor, "batch past"],
    has_past: Bool[Tensor, "batch past"],
    positions: Int[Tensor, "batch new"],
) -> Bool[Tensor, "batch rows keys"]:
    """Return which rows may see which keys by the batch alone.

    Args:
        batch: The batch.
        parts: The rows.
        past: The positions of past keys.
        has_past: Where a past key is no padding's.
        positions: The positions of new tokens.
    """
    size, count, new, scored = *past.shape, batch.ids.shape[1], batch.scored.shape[1]
    real = torch.cat([has_past, batch.is_real], 1)
    blocks = []
    if parts.earlier:
        places = torch.arange(new, device=real.device)
        rows = batch.later.index if parts.later else places
        visible = real[:, None, :].repeat(1, rows.shape[-1], 1)
        if batch.end is not None:
            visible[:, :, count:] &= batch.are_ancestors(rows)
        own = rows[..., None] == places
        visible[:, :, count:] |= own  # padding sees itself, lest its softmax be empty
        none = real.new_zeros(size, visible.shape[1], scored * parts.current)
        blocks.append(torch.cat([visible, none], 2))
    if parts.current:
        before = torch.cat([past, positions], 1)[:, None] < batch.pick(positions)[:, :, None]
        if batch.end is not None:
            before[:, :, count:] &= batch.are_ancestors(batch.scored)
        itself = torch.eye(scored, dtype=torch.bool, device=real.device)
        itself = itself.expand(size, -1, -1)
        blocks.append(torch.cat([before & real[:, None, :], itself], 2))
    return torch.cat(blocks, 1)


def unmade_mask(
    batch: Batch,
    parts: Parts,
    rule: Interval,
    rows: Int[Tensor, "batch rows"],
    keys: Int[Tensor, "batch keys"],
    has_past: Bool[Tensor, "batch past"],
    reach: Reach | None = None,
) -> UnmadeMask:
    """Return a mask that holds no numbers, for rows and keys at these positions."""
    index = torch.arange(batch.ids.shape[1], device=batch.ids.device).expand_as(batch.ids)
    are_rows = batch.later.is_real if parts.later else batch.is_real
    geometry = Geometry(
        rule,
        rows=rows,
        index=parts.of(index, batch),
        is_row=torch.cat([are_rows] * parts.earlier + [batch.is_scored] * parts.current, 1),
        keys=keys,
        is_key=torch.cat([has_past, batch.is_real], 1),
        end=batch.end,
        past=has_past.shape[1],
        earlier=rows.shape[1] - batch.scored.shape[1] * parts.current,
        reach=reach,
    )
    return UnmadeMask.of(geometry)
