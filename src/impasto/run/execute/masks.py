"""What blocks are called with: where that lies, and what stands in for a mask too large to make."""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from impasto.model.arguments.visibility import Interval
from impasto.model.structure.block import Arguments
from impasto.plan.steps import Reach
from impasto.run.attention.blockwise import UnmadeMask
from impasto.run.attention.geometry import Geometry
from impasto.run.attention.kernels import aligned
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


def put(arguments: Arguments, device: torch.device | None) -> Arguments:
    """Return call arguments on a device, a mask as a GPU's kernels need it; as they are on None."""
    if device is None:
        return arguments
    there = {
        name: changed(value, lambda each: each.to(device)) for name, value in arguments.items()
    }
    mask, before = there.get("attention_mask"), arguments.get("attention_mask")
    if isinstance(mask, Tensor) and mask is not before and device.type != "cpu":
        there["attention_mask"] = aligned(mask)
    return there


def changed(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """Return a call argument of a block with each of its tensors changed."""
    if isinstance(value, dict):
        return {name: changed(each, change) for name, each in value.items()}
    if isinstance(value, tuple):
        return tuple(changed(each, change) for each in value)
    return change(value) if isinstance(value, Tensor) else value
