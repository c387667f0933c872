"""The states of texts in the full model and under the plan, depth by depth.

Both are kept where they are and go on from there, so however many maps are fitted, one after the
other, the full model runs once and each step of the plan a few times. Kept are two states a token,
in the CPU's memory.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from impasto.mending.gaps import Gap, Place
from impasto.mending.sides import Item, batches
from impasto.model.decoder import OpenedModel
from impasto.model.structure.block import Block, Entered
from impasto.plan import Layer, Plan

ROWS_PER_BATCH = 4096
"""Tokens that are read at once: enough for fast products, and a few layers' states in memory."""


@dataclass
class _Batch:
    """Texts of equal length, and how far they were run.

    Attributes:
        ids: Their tokens.
        full: The full model's states behind its first ``layers`` layers.
        layers: How many of its layers have run.
        own: The plan's states behind its first ``steps`` steps.
        steps: How many of its steps have run.
    """

    ids: Tensor
    full: Tensor | None = None
    layers: int = 0
    own: Tensor | None = None
    steps: int = 0


class Depths:
    """Texts on their way through the full model and the plan.

    Args:
        model: The full model.
        repaired: The layers that the plan runs; those that were passed may not be changed any more.
        plan: The plan.
        items: The texts.
    """

    def __init__(
        self, model: OpenedModel, repaired: Sequence[Block], plan: Plan, items: Sequence[Item]
    ) -> None:
        self._model, self._repaired, self._plan = model, repaired, plan
        longest = max(len(piece) for item in items for piece in item.pieces)
        self._batches = [
            _Batch(torch.tensor([piece for _, piece in batch], device=model.device))
            for batch in batches(items, max(1, ROWS_PER_BATCH // longest))
        ]

    def __len__(self) -> int:
        """Return the number of batches."""
        return len(self._batches)

    def at(
        self, gap: Gap
    ) -> Iterator[
        tuple[Entered, Float[Tensor, "batch rows hidden"], Float[Tensor, "batch rows hidden"]]
    ]:
        """Yield what each batch hands to the blocks, what the carrier of a gap reads, and the full
        model's states behind the gap. Gaps are asked in the order of their depths.
        """
        for batch in self._batches:
            yield self._reached(batch, gap)

    def first(self, gap: Gap) -> tuple[Entered, Float[Tensor, "batch rows hidden"]]:
        """Return what the first batch hands to the blocks, and what the carrier reads of it."""
        entered, states, _ = self._reached(self._batches[0], gap)
        return entered, states

    def _reached(self, batch: _Batch, gap: Gap) -> tuple[Entered, Tensor, Tensor]:
        ids, device = batch.ids, self._model.device
        entered = self._model.enter(ids, torch.arange(ids.shape[1], device=device).expand_as(ids))
        full, own = (
            entered.states if kept is None else kept.to(device) for kept in (batch.full, batch.own)
        )
        until = gap.target.layer + (not gap.target.attention_only)
        for layer in range(batch.layers, until):
            full = self._model.blocks[layer](full, entered.arguments[layer])
        for step in self._plan.steps[batch.steps : gap.carrier]:
            assert isinstance(step, Layer), "gaps are of plans of layers"
            own = self._repaired[step.index](own, entered.arguments[step.index], step.part)
        batch.layers, batch.steps = max(batch.layers, until), gap.carrier
        batch.full, batch.own = full.cpu(), own.cpu()
        return entered, own, self._target(full, entered, gap.target)

    def _target(self, full: Tensor, entered: Entered, place: Place) -> Tensor:
        if not place.attention_only:
            return full
        return self._model.blocks[place.layer](full, entered.arguments[place.layer], "attention")
