"""Attention by blocks of rows, where a mask of all rows × all keys would be too large.

A block's argument for its mask is then an :class:`UnmadeMask` mask, which holds no numbers but says
who sees whom (:mod:`impasto.run.attention.geometry`). Attention that finds one takes some rows at a
time, with the keys that any of them sees, and makes the mask of these alone. Rows that see just the
keys up to their own need none: torch knows that case. What rows see is the same, and so are the
sums.

On a processor a block attends to each run of keys by itself, to those that all of its rows see
without any mask, and the results are merged by their shares of the softmax, which torch's own
kernel returns beside them. Elsewhere, and where gradients are wanted (which those shares have not),
a block attends to all runs at once under a mask. Then it is computed once more on the way back, so
that no mask stays until then.

Query heads that share a key stand as further rows of one product, so keys are never copied for
each of them.
"""

from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from torch.utils.checkpoint import checkpoint

from impasto.error import ImpastoError
from impasto.run.attention.geometry import Geometry, Piece, Run
from impasto.run.attention.kernels import has_shares, together, with_shares
from impasto.run.tuning import FEWEST_ROWS, MASK_NUMBERS_AT_ONCE, MOST_ROWS


class UnmadeError(ImpastoError, RuntimeError):
    """Raised where somebody wants to read the numbers of a mask that was not made."""


class UnmadeMask(Tensor):
    """A mask that was not made: it has a shape, a type and a geometry, but no numbers.

    It may be handed on; whoever reads it gets an error, not numbers that say nothing.
    """

    geometry: Geometry

    @classmethod
    def of(cls, geometry: Geometry) -> "UnmadeMask":
        """Return the mask that a geometry stands in for."""
        nothing = torch.zeros((), dtype=torch.bool, device=geometry.rows.device)
        mask = nothing.expand(geometry.shape).as_subclass(cls)
        mask.geometry = geometry
        return mask

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is Tensor.to:
            return args[0]  # the geometry goes wherever attention runs
        if func in _OUTWARD:
            with torch._C.DisableTorchFunctionSubclass():
                return func(*args, **(kwargs or {}))
        raise UnmadeError(f"{func} reads a mask that was not made, for it would be too large")


_OUTWARD = {
    *(getattr(Tensor, name).__get__ for name in ("shape", "dtype", "device", "ndim")),
    *(getattr(Tensor, name).__get__ for name in ("layout", "requires_grad", "is_sparse")),
    *(Tensor.size, Tensor.dim, Tensor.is_floating_point, Tensor.__len__, Tensor.__repr__),
}


def attend(
    mask: UnmadeMask,
    query: Float[Tensor, "batch heads rows width"],
    key: Float[Tensor, "batch groups keys width"],
    value: Float[Tensor, "batch groups keys value_width"],
    scaling: float | None,
    dropout: float = 0.0,
) -> Float[Tensor, "batch rows heads value_width"]:
    """Return attention under a mask that was not made."""
    given = (query, key, value)
    blocks = _Blocks(mask.geometry, scaling, dropout)
    if _can_be_merged(given, dropout):
        return blocks.merged(*given)
    if torch.is_grad_enabled() and any(each.requires_grad for each in given):
        return blocks.with_gradients(*given)
    return blocks.written(*given)


def _can_be_merged(given: tuple[Tensor, Tensor, Tensor], dropout: float = 0.0) -> bool:
    """Whether a processor's kernel tells what is needed for merging what it returns."""
    if torch.is_grad_enabled() and any(each.requires_grad for each in given):
        return False
    return given[0].device.type == "cpu" and has_shares(*given) and not dropout


class _Blocks:
    """Attention of a call, block of rows by block of rows."""

    def __init__(self, geometry: Geometry, scaling: float | None, dropout: float) -> None:
        self._geometry, self._scaling, self._dropout = geometry, scaling, dropout
        self._widest = 0  # how many keys a block sees at the most, where blocks share memory
        self._mask: Tensor | None = None  # zeros but for what the last block needed
        self._used: list[slice] = []  # its columns that are not zeros
        self._beside: list[_Beside] = []

    def merged(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Return attention, run of keys by run of keys."""
        batch, heads, rows = query.shape[:3]
        attended = query.new_empty(batch, rows, heads, value.shape[3])
        if leading := self._geometry.causal:
            attended[:, :leading] = self._leading(query, key, value)
        shared = heads // key.shape[1]
        for piece in self._geometry.pieces(max(MOST_ROWS // shared, 1)):
            own = query[piece.entry, :, piece.rows].unflatten(0, (-1, shared))
            rows = self._over_runs(own, key[piece.entry], value[piece.entry], piece)
            attended[piece.entry, piece.rows] = rows.flatten(0, 1).transpose(0, 1)
        return attended

    def _over_runs(
        self,
        query: Float[Tensor, "groups heads rows width"],
        key: Float[Tensor, "groups keys width"],
        value: Float[Tensor, "groups keys width"],
        piece: Piece,
    ) -> Float[Tensor, "groups heads rows width"]:
        """Return a block's attention, merged from that to each run of keys."""
        rows, outputs, logs = query.flatten(1, 2)[None], [], []
        for (begin, end), is_partial in piece.parts():
            mask = visible = None
            if is_partial:
                visible = self._geometry.visible(piece.entry, piece.rows, (begin, end)).to(
                    query.device
                )
                hidden = ~visible.repeat(query.shape[1], 1)
                mask = rows.new_zeros(hidden.shape).masked_fill_(hidden, -torch.inf)[None, None]
            keys, values = key[None, :, begin:end], value[None, :, begin:end]
            output, log = with_shares(rows, keys, values, mask, self._scaling)
            if visible is not None:  # of no key at all the kernel says 0
                log = log.masked_fill(~visible.any(1).repeat(query.shape[1]), -torch.inf)
            outputs.append(output)
            logs.append(log)
        return together(outputs, logs)[0].unflatten(1, query.shape[1:3])

    def written(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Return attention, each block's written where it belongs."""
        batch, heads, rows = query.shape[:3]
        attended = query.new_empty(batch, rows, heads, value.shape[3])
        if leading := self._geometry.causal:
            attended[:, :leading] = self._leading(query, key, value)
        pieces = self._geometry.pieces(self._height(query, key))
        self._widest = max((piece.width for piece in pieces), default=0)
        self._beside = [_Beside(key, self._widest), _Beside(value, self._widest)]
        for piece in pieces:
            attended[piece.entry, piece.rows] = self._attended(query, key, value, piece)
        return attended

    def with_gradients(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Return the same, in a way that gradients find back."""
        parts: list[list[Tensor]] = [[] for _ in query]
        if self._geometry.causal:
            for entry, own in zip(parts, self._leading(query, key, value), strict=True):
                entry.append(own)
        for piece in self._geometry.pieces(self._height(query, key)):
            attended = checkpoint(
                self._afresh, query, key, value, piece,
                use_reentrant=False, preserve_rng_state=bool(self._dropout),
            )  # fmt: skip
            parts[piece.entry].append(attended)
        return torch.stack([torch.cat(each) for each in parts])

    def _leading(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Return attention of the rows that see just the keys up to their own."""
        first = (each[:, :, : self._geometry.causal] for each in (query, key, value))
        attended = scaled_dot_product_attention(
            *first,
            dropout_p=self._dropout,
            is_causal=True,
            scale=self._scaling,
            enable_gqa=key.shape[1] < query.shape[1],
        )
        return attended.transpose(1, 2)

    def _afresh(self, query: Tensor, key: Tensor, value: Tensor, piece: Piece) -> Tensor:
        """Return a block's attention, under a mask of its own."""
        return _Blocks(self._geometry, self._scaling, self._dropout)._attended(
            query, key, value, piece
        )

    def _attended(
        self, query: Tensor, key: Tensor, value: Tensor, piece: Piece
    ) -> Float[Tensor, "rows heads value_width"]:
        heads, groups = query.shape[1], key.shape[1]
        rows = query[piece.entry, :, piece.rows].unflatten(0, (groups, heads // groups))
        if self._beside:
            pair = [beside.of(piece) for beside in self._beside]
        else:
            pair = [_of_runs(each[piece.entry], piece) for each in (key, value)]
        attended = scaled_dot_product_attention(
            rows.flatten(1, 2)[None],
            *(each[None] for each in pair),
            attn_mask=self._masked(rows, piece)[None, None],
            dropout_p=self._dropout,
            scale=self._scaling,
        )
        return attended[0].unflatten(1, rows.shape[1:3]).flatten(0, 1).transpose(0, 1)

    def _masked(
        self, rows: Float[Tensor, "groups heads rows width"], piece: Piece
    ) -> Float[Tensor, "heads_rows keys"]:
        """Return the mask of a block, in memory that the next one's is written over."""
        height, width = rows.shape[1] * rows.shape[2], piece.width
        if self._mask is None or len(self._mask) < height:
            self._mask, self._used = rows.new_zeros(height, max(width, self._widest)), []
        for columns in self._used:
            self._mask[:, columns] = 0
        self._used.clear()
        mask = self._mask[:height, :width]
        each = mask.unflatten(0, rows.shape[1:3])
        for part, columns in _columns(piece):
            visible = self._geometry.visible(piece.entry, piece.rows, part).to(mask.device)
            each[:, :, columns].masked_fill_(~visible, -torch.inf)
            self._used.append(columns)
        return mask

    def _height(self, query: Tensor, key: Tensor) -> int:
        """Return how many rows to take at once."""
        shared = query.shape[1] // key.shape[1]
        height = min(max(MASK_NUMBERS_AT_ONCE // key.shape[2], FEWEST_ROWS), MOST_ROWS)
        return max(height // shared, 1)


class _Beside:
    """Keys, or values, of blocks of rows, laid side by side in memory that blocks share.

    Blocks one behind the other often see the same keys first, which stay where they lie.
    """

    def __init__(self, every: Float[Tensor, "batch groups keys width"], widest: int) -> None:
        self._every, self._widest = every, widest
        self._room: Tensor | None = None
        self._first = (-1, 0, 0)  # the sequence and the run of keys that the memory begins with

    def of(self, piece: Piece) -> Float[Tensor, "groups keys width"]:
        """Return those that a block of rows sees."""
        every = self._every[piece.entry]
        (begin, end), *others = piece.runs
        if not others:
            return every[:, begin:end]
        if self._room is None:
            self._room = every.new_empty(len(every), self._widest, every.shape[2])
        entry, known, until = self._first
        there = min(until, end) - begin if (entry, known) == (piece.entry, begin) else 0
        self._room[:, there : end - begin] = every[:, begin + there : end]
        self._first = (piece.entry, begin, end)
        at = end - begin
        for run in others:
            self._room[:, at : at + run[1] - run[0]] = every[:, run[0] : run[1]]
            at += run[1] - run[0]
        return self._room[:, :at]


def _of_runs(every: Float[Tensor, "groups keys width"], piece: Piece) -> Tensor:
    """Return the keys, or values, that a block of rows sees."""
    runs = [every[:, begin:end] for begin, end in piece.runs]
    return runs[0] if len(runs) == 1 else torch.cat(runs, 1)


def _columns(piece: Piece) -> Iterator[tuple[Run, slice]]:
    """Yield the runs that not all rows of a block see, with where they stand among its keys."""
    before, runs = 0, iter(piece.runs)
    begin, end = next(runs)
    for part in piece.partial:
        while part[0] >= end:
            before += end - begin
            begin, end = next(runs)
        yield part, slice(before + part[0] - begin, before + part[1] - begin)
