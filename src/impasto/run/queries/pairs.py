"""How many pairs of a row and a key an attention multiplies on a group of batches.

Most are seen. Where rows stand in one sequence of which not all see all, an attention on a
processor passes over blocks of keys that no row of a block sees
(:mod:`impasto.run.attention.tree_sparse`); elsewhere all pairs are multiplied.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch

from impasto.run.batching.batches import BatchGroup
from impasto.run.batching.prefix_tree import PrefixTree
from impasto.run.tuning import ROWS_PER_PIECE


class Pairs(NamedTuple):
    """Pairs of rows and keys at one attention.

    Attributes:
        new: Those of new rows, the rows of a common prefix included.
        scored: Those of scored rows that run as current ones beside or behind them.
    """

    new: float
    scored: float

    def __add__(self, other: "Pairs") -> "Pairs":  # type: ignore[override]
        return Pairs(self.new + other.new, self.scored + other.scored)


def attended(group: BatchGroup, device: torch.device) -> Pairs:
    """Return the pairs that an attention multiplies on a group."""
    before = len(group.prefix)
    total = Pairs(before * (before + 1) / 2, 0.0)
    for batch in group.batches:
        total += _of_batch(batch, before, device.type == "cpu")
    return total


def seen(group: BatchGroup) -> float:
    """Return the pairs of which a row sees the key, every new row taken once."""
    before = len(group.prefix)
    own = sum(before + depth + 1 for tree in group.prefix_trees for depth in tree.depths)
    return before * (before + 1) / 2 + own


def _of_batch(batch: Sequence[PrefixTree], before: int, skips: bool) -> Pairs:
    size, rows = len(batch), len(batch[0].ids)
    scored = max(len(tree.scored) for tree in batch)
    keys = float(before + rows)
    if not before and all(tree.is_chain for tree in batch):
        return Pairs(size * rows * (rows + 1) / 2, size * scored * (keys + scored))
    if skips:
        depths = sum(depth for tree in batch for depth in tree.depths)
        real = sum(len(tree.ids) for tree in batch)
        keys = min(keys, before + depths / max(real, 1) + 1 + ROWS_PER_PIECE)
    return Pairs(size * rows * keys, size * scored * (keys + min(scored, ROWS_PER_PIECE)))
