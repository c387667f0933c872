"""Rows that see some rows: the geometry of one packed forward.

A batch is ``batch`` sequences of ``new`` tokens, padded on the right, that follow ``past`` tokens
whose keys and values are there already. Some of the new tokens are *scored*: the model's
prediction after them is wanted. A block runs in one of three frames:

========  =============================  ==================================================
frame     rows                           each row sees
========  =============================  ==================================================
trunk     new tokens                     itself and the tokens before it
packed    new tokens, then scored ones   new: as in trunk; scored: the tokens before it as they
          as *current* rows              are as earlier tokens, and itself, no other current row
current   scored tokens as current rows  the same
========  =============================  ==================================================

Which of the positions before it a row may see is the layer's own rule (full, sliding window, …),
asked of the model by :meth:`impasto.model.opened.OpenedModel.visible`.
"""

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from impasto.model.block import Arguments
from impasto.model.opened import Entered, OpenedModel
from impasto.run.noise import prefix_keys


@dataclass(frozen=True)
class Batch:
    """Token sequences on their way in.

    Attributes:
        ids: New tokens.
        positions: Their positions.
        is_real: Where they are no padding.
        scored: Which of them (by index) a prediction is wanted after, padded on the right.
        is_scored: Where ``scored`` is real.
        past: The positions of the past keys.
        has_past: Where a past key is no padding's.
        total: The running sums of :func:`impasto.run.noise.prefix_keys` over the past.
    """

    ids: Int[Tensor, "batch new"]
    positions: Int[Tensor, "batch new"]
    is_real: Bool[Tensor, "batch new"]
    scored: Int[Tensor, "batch scored"]
    is_scored: Bool[Tensor, "batch scored"]
    past: Int[Tensor, "batch past"]
    has_past: Bool[Tensor, "batch past"]
    total: Int[Tensor, "batch"]

    @cached_property
    def index(self) -> Int[Tensor, "batch new"]:
        """How many tokens came before each new one."""
        seen = self.has_past.sum(1, keepdim=True)
        return seen + self.is_real.cumsum(1) - 1

    @cached_property
    def hashed(self) -> tuple[Int[Tensor, "batch new"], Int[Tensor, "batch new"]]:
        """A noise key for every new token, and the running sums after it."""
        return prefix_keys(self.ids, self.is_real, self.has_past.sum(1), self.total)

    def pick(self, rows: Tensor) -> Tensor:
        """Return the scored ones of ``rows`` (batch × new × …)."""
        index = self.scored.to(rows.device)
        index = index.reshape(*index.shape, *[1] * (rows.ndim - 2))
        return rows.gather(1, index.expand(-1, -1, *rows.shape[2:]))


def first_batch(sequences: list[list[int]], scored: list[range], device: torch.device) -> Batch:
    """Return the batch of whole sequences, predictions wanted after the ``scored`` tokens."""

    def padded(rows: list[list[int]]) -> Int[Tensor, "batch width"]:
        width = max(map(len, rows))
        filled = [[*row, *[0] * (width - len(row))] for row in rows]
        return torch.tensor(filled, dtype=torch.long, device=device)

    def real(counts: list[int]) -> Bool[Tensor, "batch width"]:
        index = torch.arange(max(counts), device=device)
        return index < torch.tensor(counts, device=device)[:, None]

    ids = padded(sequences)
    none = ids.new_zeros(len(sequences), 0)
    return Batch(
        ids=ids,
        positions=torch.arange(ids.shape[1], device=device).expand_as(ids),
        is_real=real([len(sequence) for sequence in sequences]),
        scored=padded([list(rows) for rows in scored]),
        is_scored=real([len(rows) for rows in scored]),
        past=none,
        has_past=none.bool(),
        total=none.sum(1),
    )


def following_batch(
    prefix: Batch, sequences: list[list[int]], scored: list[range], owners: Int[Tensor, "batch"]
) -> Batch:
    """Return the batch of sequences that each follow the sequence of a prefix that owns them."""
    batch = first_batch(sequences, scored, prefix.ids.device)
    has_past = torch.cat([prefix.has_past, prefix.is_real], 1)
    last = prefix.is_real.sum(1, keepdim=True) - 1
    return replace(
        batch,
        positions=batch.positions + has_past.sum(1, keepdim=True)[owners],
        past=torch.cat([prefix.past, prefix.positions], 1)[owners],
        has_past=has_past[owners],
        total=prefix.hashed[1].gather(1, last)[owners, 0],
    )


@dataclass(frozen=True)
class Frame:
    """The rows that one call of a block runs, and what they may see.

    Attributes:
        model: The model whose blocks are called.
        batch: The sequences.
        earlier: Whether new tokens run as earlier rows.
        current: Whether scored tokens run as current rows.
    """

    model: OpenedModel
    batch: Batch
    earlier: bool
    current: bool

    @classmethod
    def given(cls, model: OpenedModel, batch: Batch, entered: Entered) -> "Frame":
        """Return the trunk of a forward that the model itself has prepared, masks and all."""
        frame = cls(model, batch, earlier=True, current=False)
        frame.__dict__.update(entered=entered, arguments=entered.arguments.__getitem__)
        return frame

    @cached_property
    def rows(self) -> Int[Tensor, "batch rows"]:
        """The rows' positions."""
        batch = self.batch
        parts = [batch.positions] * self.earlier + [batch.pick(batch.positions)] * self.current
        return torch.cat(parts, 1)

    @cached_property
    def entered(self) -> Entered:
        """The rows' embeddings and what each block is called with."""
        batch = self.batch
        parts = [batch.ids] * self.earlier + [batch.pick(batch.ids)] * self.current
        return self.model.enter(torch.cat(parts, 1), self.rows)

    def arguments(self, layer: int) -> Arguments:
        """Return what block ``layer`` is to be called with, its own mask among it."""
        given = self.entered.arguments[layer]
        plain = not self.current and not self.batch.past.shape[1]
        if plain and given["attention_mask"] is None:
            return given  # the model itself calls a plain causal sequence so
        return given | {"attention_mask": self._masks[self._kinds[0][layer]]}

    @cached_property
    def _kinds(self) -> tuple[list[int], list[Bool[Tensor, "length length"]]]:
        return self.model.visible(int(self._keys.max()) + 1)

    @cached_property
    def _keys(self) -> Int[Tensor, "batch keys"]:
        batch = self.batch
        parts = [batch.past, batch.positions] + [batch.pick(batch.positions)] * self.current
        return torch.cat(parts, 1)

    @cached_property
    def _masks(self) -> list[Tensor]:
        """A mask (batch × 1 × rows × keys) for each kind of layer."""
        allowed = self._allowed
        masks = []
        for visible in self._kinds[1]:
            mask = visible[self.rows[:, :, None], self._keys[:, None, :]] & allowed
            if not self.model.habits.boolean_masks:
                mask = as_numbers(mask, self.model.hf.dtype)
            masks.append(mask[:, None])
        return masks

    @cached_property
    def _allowed(self) -> Bool[Tensor, "batch rows keys"]:
        """Which rows may see which keys, whatever the layer."""
        batch = self.batch
        size, past, new, scored = *batch.past.shape, batch.ids.shape[1], batch.scored.shape[1]
        real = torch.cat([batch.has_past, batch.is_real], 1)
        own = torch.eye(new, dtype=torch.bool, device=real.device)
        blocks = []
        if self.earlier:
            seen = real[:, None, :].repeat(1, new, 1)
            seen[:, :, past:] |= own  # padding sees itself, lest its softmax be empty
            none = real.new_zeros(size, new, scored * self.current)
            blocks.append(torch.cat([seen, none], 2))
        if self.current:
            before = self._keys[:, None, : past + new] < batch.pick(batch.positions)[:, :, None]
            itself = torch.eye(scored, dtype=torch.bool, device=real.device)
            itself = itself.expand(size, -1, -1)
            blocks.append(torch.cat([before & real[:, None, :], itself], 2))
        return torch.cat(blocks, 1)


def as_numbers(mask: Bool[Tensor, "*shape"], dtype: torch.dtype) -> Float[Tensor, "*shape"]:
    """Return a mask to be added to attention scores."""
    return torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill_(
        ~mask, torch.finfo(dtype).min
    )
