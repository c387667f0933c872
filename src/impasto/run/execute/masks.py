"""What stands in for a mask that would be too large: who of a batch sees whom, as vectors."""

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from impasto.model.arguments.visibility import Interval
from impasto.plan.steps import Reach
from impasto.run.attention.blockwise import UnmadeMask
from impasto.run.attention.geometry import Geometry
from impasto.run.execute.rows import Batch, Parts


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
