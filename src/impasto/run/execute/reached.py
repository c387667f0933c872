"""Attention that sees less: which keys a batch has within a reach, where they lie, what is kept.

An attention under a reach holds keys and values of what can still be seen, and of nothing else
(:mod:`impasto.run.kv.ring`). So its past keys are others than those of an attention that sees all,
and lie in another order; each comes with its position. The layer's own rule and the reach say by
positions who sees whom, wherever keys lie.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from impasto.plan.steps import Reach
from impasto.run.execute.rows import Batch, Parts, visible_rows
from impasto.run.kv.buffers import KeysValues
from impasto.run.kv.ring import Ring


@dataclass(frozen=True)
class Reached:
    """What a batch has within a reach.

    Attributes:
        batch: The batch.
        reach: The reach.
    """

    batch: Batch
    reach: Reach

    @staticmethod
    def of(batch: Batch, reach: Reach) -> "Reached":
        """Return what a batch has within a reach; always the same for the same batch."""
        if reach not in batch.reached:
            batch.reached[reach] = Reached(batch, reach)
        return batch.reached[reach]

    @cached_property
    def ring(self) -> Ring:
        """Where keys and values are held."""
        return Ring.of(self.reach)

    @property
    def visible(self) -> int:
        """How many indices of buffers rows may see, one of them a current row's own."""
        return min(self.batch.visible, self.ring.size + 1)

    @property
    def count(self) -> int:
        """How many keys there are beside those of new rows; of all, where they lie in buffers."""
        is_buffered = self.batch.buffered is not None
        return self.visible if is_buffered else min(self.batch.past.shape[1], self.ring.size)

    @cached_property
    def length(self) -> int:
        """The number of positions of the longest sequence."""
        if self.batch.buffered is not None:
            return self.batch.read + 1
        return int(self.batch.index.max()) + 1

    @cached_property
    def is_all(self) -> bool:
        """Whether all keys are seen, and lie where those of attentions without a reach do."""
        if self.length > self.reach.first + self.reach.last:
            return False
        return self.batch.buffered is not None or bool(self.batch.has_past.all())

    @cached_property
    def positions(self) -> Int[Tensor, "batch new"]:
        """The new tokens' positions in their texts; padding before a text counts as its first."""
        return self.batch.index.clamp(min=0)

    def rows(self, parts: Parts) -> Int[Tensor, "batch rows"]:
        """Return the positions of rows."""
        return parts.of(self.positions, self.batch)

    def keys(self, current: bool) -> Int[Tensor, "batch keys"]:
        """Return the positions of all keys; those of current rows, if they run, come last."""
        rows = [self.batch.pick(self.positions)] * current
        if self.batch.buffered is None:
            return torch.cat([self.held[0], self.positions, *rows], 1)
        keys = self.held[0]
        for own in rows:
            keys = keys.scatter(1, self._own, own)
        return keys

    @cached_property
    def held(self) -> tuple[Int[Tensor, "batch count"], Bool[Tensor, "batch count"]]:
        """The position of the key at each index, and whether there is one."""
        batch = self.batch
        read = batch.past_lengths + (0 if batch.buffered is None else 1)
        return self.ring.positions(read, self.count)

    @cached_property
    def buffer_indices(self) -> Int[Tensor, "batch rows"]:
        """The indices in buffers of a new token's earlier row, and of its current one."""
        current = (self.batch.past_lengths + 1).clamp(max=self.ring.size)
        return torch.cat([self.ring.index(self.positions), current[:, None]], 1)

    @property
    def _own(self) -> Int[Tensor, "batch scored"]:
        return self.buffer_indices[:, 1:]

    def visible_rows(self, parts: Parts) -> Bool[Tensor, "batch rows keys"]:
        """Return which rows may see which keys by the batch alone."""
        if self.batch.buffered is None:
            return visible_rows(self.batch, parts, *self.held, self.positions)
        keys, is_held = (each[:, None] for each in self.held)
        itself = torch.arange(self.count, device=keys.device) == self._own[:, :, None]
        before = is_held & (keys < self.positions[:, :, None])
        return torch.cat([is_held] * parts.earlier + [before | itself] * parts.current, 1)

    def kept(self, keys_values: KeysValues) -> KeysValues:
        """Return what of past and new keys and values can still be seen by later tokens."""
        if self._sources is None:
            return keys_values
        index = self._sources.to(keys_values.keys.device)[:, None, :, None]
        return KeysValues(
            *(each.gather(2, index.expand(-1, each.shape[1], -1, each.shape[3]))
              for each in keys_values)
        )  # fmt: skip

    @cached_property
    def _sources(self) -> Int[Tensor, "batch count"] | None:
        """For each index to be held, that of the key among past and new ones; None for all."""
        batch, new = self.batch, self.batch.ids.shape[1]
        assert batch.end is None, "what later tokens follow is no tree"
        columns = torch.arange(new, device=batch.ids.device)
        count = min(batch.past.shape[1] + new, self.ring.size)
        is_in_place = (batch.index == columns + self.count) | ~batch.is_real
        if count == self.count + new and bool(batch.has_past.all() & is_in_place.all()):
            return None
        read = batch.past_lengths[:, None]
        column = torch.zeros_like(batch.ids).scatter_add(
            1,
            (batch.index - read).clamp(min=0),
            torch.where(batch.is_real, columns, 0).expand_as(batch.ids),
        )
        positions, _ = self.ring.positions(read[:, 0] + batch.is_real.sum(1), count)
        is_new = positions >= read
        at = (positions - read).clamp(min=0, max=new - 1)
        before = torch.arange(count, device=positions.device).clamp(max=max(self.count - 1, 0))
        return torch.where(is_new, self.count + column.gather(1, at), before)
