"""Attention over prefix trees, without the pairs of rows and keys that no row sees.

A mask says for every row and key whether the row sees it, and torch works through all of them. In
a prefix tree a row sees its ancestors only: half of the pairs at most, fewer with every branch.
Here rows are taken in blocks, and a block attends to the runs of keys that any of its rows sees. It
takes the place of ``sdpa`` while requests are scored on a processor, where pairs are what attention
costs, and only where that saves more than the further calls cost. The sums are the same but for the
zeros.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from jaxtyping import Float, Shaped
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from torch.utils.weak import WeakTensorKeyDictionary

from impasto.run.attention.choice import Attention, in_place_of_stock
from impasto.run.tuning import ATTENTION_CALL, ROWS_PER_PIECE, UNSEEN_KEYS

_Run = tuple[int, int]


@dataclass(frozen=True, slots=True)
class SparsePiece:
    """A block of rows, the runs of keys that it sees, and what of them each row sees."""

    entries: slice
    rows: slice
    runs: Sequence[_Run]
    mask: Tensor  # entries × heads or 1 × rows × keys

    def keys(self, every: Float[Tensor, "batch heads keys width"]) -> Tensor:
        """Return the keys, or values, of these runs."""
        mine = [every[self.entries, :, begin:end] for begin, end in self.runs]
        return mine[0] if len(mine) == 1 else torch.cat(mine, 2)


_Known = WeakTensorKeyDictionary  # by mask, as long as that is there


def tree_sparse_attention(device: torch.device) -> Attention | None:
    """Return an attention that passes over what no row of a block sees; None where it is slower."""
    if device.type != "cpu":  # elsewhere a call costs more than the pairs
        return None
    return partial(in_place_of_stock, partial(_attend, WeakTensorKeyDictionary()))


def _attend(
    known: _Known,
    query: Float[Tensor, "batch heads rows width"],
    key: Float[Tensor, "batch groups keys width"],
    value: Float[Tensor, "batch groups keys value_width"],
    mask: Shaped[Tensor, "_ _ rows keys"] | None,
    scaling: float | None,
) -> Float[Tensor, "batch rows heads value_width"] | None:
    """Return what attention adds up of the values; None where blocks of rows save nothing."""
    cut = [] if mask is None else _known_pieces(known, mask, query)
    if not cut:
        return None
    each = query.shape[1] // key.shape[1]
    key, value = (x.repeat_interleave(each, 1) if each > 1 else x for x in (key, value))
    attended = query.new_empty(*query.shape[:3], value.shape[3])
    for piece in cut:
        attended[piece.entries, :, piece.rows] = scaled_dot_product_attention(
            query[piece.entries, :, piece.rows],
            piece.keys(key),
            piece.keys(value),
            attn_mask=piece.mask,
            scale=scaling,
        )
    return attended.transpose(1, 2).contiguous()


def _known_pieces(
    known: _Known, mask: Tensor, query: Float[Tensor, "batch heads rows width"]
) -> list[SparsePiece]:
    """Return the pieces of a mask, which are made at its first use."""
    batch, heads, _, width = query.shape
    pair = heads * pair_nanoseconds(width)
    if mask.shape[0] != batch or mask[:, 0].numel() * pair < 4 * ATTENTION_CALL:
        return []
    if mask not in known:
        known[mask] = pieces(mask, pair)
    return known[mask]


def pair_nanoseconds(width: int) -> float:
    """Return about what a row and a key cost in one head: an exponential, and two products."""
    return 1 + width / 16


def pieces(mask: Tensor, pair: float) -> list[SparsePiece]:
    """Return what attention is cut into; nothing where all of it at once costs less.

    Args:
        mask: Batch × heads or 1 × rows × keys: True and False, or numbers that are added to scores.
        pair: What a row and a key cost in all heads, in nanoseconds.
    """
    visible = mask if mask.dtype == torch.bool else mask > torch.finfo(mask.dtype).min
    batch, _, rows, keys = mask.shape
    cut, cost = [], 0.0
    for begin in range(0, rows, ROWS_PER_PIECE):
        block = slice(begin, min(begin + ROWS_PER_PIECE, rows))
        mine: NDArray[np.bool_] = visible[:, :, block].any(2).any(1).numpy()
        if not mine.any(1).all():  # a block that sees nothing: what torch makes of that is torch's
            return []
        together, apart = _runs(mine.max(0)), [_runs(each) for each in mine]
        height = (block.stop - block.start) * pair
        at_once = batch * _size(together) * height + ATTENTION_CALL
        one_by_one = sum(map(_size, apart)) * height + batch * ATTENTION_CALL
        if at_once <= one_by_one:
            chosen = [(slice(0, batch), together)]
        else:
            chosen = [(slice(entry, entry + 1), runs) for entry, runs in enumerate(apart)]
        cut += [_piece(mask, entries, block, runs) for entries, runs in chosen]
        cost += min(at_once, one_by_one)
    return cut if cost < batch * rows * keys * pair + ATTENTION_CALL else []


def _piece(mask: Tensor, entries: slice, rows: slice, runs: Sequence[_Run]) -> SparsePiece:
    mine = torch.cat([mask[entries, :, rows, begin:end] for begin, end in runs], 3)
    return SparsePiece(entries, rows, runs, mine)


def _runs(visible: NDArray[np.bool_]) -> list[_Run]:
    """Return where runs of keys that are visible begin and end, joined over small gaps."""
    edges = np.flatnonzero(np.diff(visible, prepend=False, append=False)).tolist()
    runs: list[_Run] = []
    for begin, end in zip(edges[::2], edges[1::2], strict=True):
        if runs and begin - runs[-1][1] < UNSEEN_KEYS:
            runs[-1] = (runs[-1][0], end)
        else:
            runs.append((begin, end))
    return runs


def _size(runs: Sequence[_Run]) -> int:
    return sum(end - begin for begin, end in runs)
