"""Who sees whom in one call of a block, as vectors: what stands in for a mask that is too large.

Rows and keys are those of :mod:`impasto.run.execute.rows`: keys lie past ones first, then those of
new tokens, then those of current rows; rows are new tokens as earlier ones, then scored ones as
current ones. A row sees a run of positions that its layer's rule gives (:data:`Interval`), of these
the real ones, and in a prefix tree its ancestors: of the new tokens key k is an ancestor of row r,
or r itself, if k ≤ r < end[k]. So a few numbers for each row and key say it all, and
:mod:`impasto.run.attention.blockwise` attends without ever making a mask of all rows × all keys.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Int
from numpy.typing import NDArray
from torch import Tensor

from impasto.model.arguments.reach import is_within, nearest
from impasto.model.arguments.visibility import Interval
from impasto.plan.steps import Reach
from impasto.run.tuning import KEYS_PER_TILE

_FAR = int(np.iinfo(np.int64).max)  # a position that no row has

Run = tuple[int, int]
Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]


class Piece(NamedTuple):
    """Some rows of one sequence, and the keys that any of them sees.

    Attributes:
        entry: The sequence.
        rows: Its rows.
        runs: The runs of keys, in their order, not touching each other.
        partial: The runs of keys that not all of these rows see: parts of ``runs``.
    """

    entry: int
    rows: slice
    runs: list[Run]
    partial: list[Run]

    def parts(self) -> Iterator[tuple[Run, bool]]:
        """Yield the runs cut at where ``partial`` ones begin and end, and whether each is one."""
        partial = iter([*self.partial, (_FAR, _FAR)])
        begin, end = next(partial)
        for at, last in self.runs:
            while at < last:
                if at < begin:
                    yield (at, min(begin, last)), False
                    at = min(begin, last)
                else:
                    yield (begin, end), True
                    at = end
                    begin, end = next(partial)

    @property
    def width(self) -> int:
        """How many keys the runs hold."""
        return sum(end - begin for begin, end in self.runs)


@dataclass(frozen=True, eq=False)
class Geometry:
    """Which row of a call sees which key.

    Attributes:
        rule: The layer's own rule.
        rows: The rows' positions.
        index: The place of each row's token among the new ones.
        is_row: Where rows are no padding.
        keys: The keys' positions.
        is_key: Where past and new keys are no padding's.
        end: Where, among the new tokens, the descendants of each end; None where each token follows
            the one before it.
        past: How many keys are past ones.
        earlier: How many of the rows are earlier tokens; the rest are current.
        reach: What rows see at the most; None for all that the rule lets them see.
    """

    rule: Interval
    rows: Int[Tensor, "batch rows"]
    index: Int[Tensor, "batch rows"]
    is_row: Bool[Tensor, "batch rows"]
    keys: Int[Tensor, "batch keys"]
    is_key: Bool[Tensor, "batch before"]
    end: Int[Tensor, "batch new"] | None
    past: int
    earlier: int
    reach: Reach | None = None

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """The shape of the mask that this stands in for."""
        return len(self.rows), 1, self.rows.shape[1], self.keys.shape[1]

    @property
    def before(self) -> int:
        """How many keys are not those of current rows."""
        return self.is_key.shape[1]

    def visible(self, entry: int, rows: slice, run: Run) -> Bool[Tensor, "rows keys"]:
        """Return which rows of a sequence see which keys of a run."""
        at, end = self.rows[entry, rows, None], min(run[1], self.before)
        is_current = rows.start >= self.earlier
        sees_itself = self._sees_itself[entry, rows, None]
        parts = []
        if run[0] < end:
            some = slice(run[0], end)
            keys = self.keys[entry, None, some]
            visible = (keys < at) if is_current else (keys <= at)
            visible &= keys >= self.rule.first_visible(at)
            visible &= self.is_key[entry, None, some]
            if self.reach is not None:
                visible &= is_within(self.reach, self._near[entry, rows, None], keys)
            if end > self.past:
                visible[:, max(self.past - run[0], 0) :] &= self._is_along(entry, rows, some)
                if not is_current:
                    itself = self._itself(entry, rows, some)
                    visible |= itself if self.reach is None else itself & sees_itself
            parts.append(visible)
        if run[1] > self.before:
            own = torch.arange(rows.start, rows.stop, device=at.device) - self.earlier
            keys = torch.arange(max(run[0], self.before), run[1], device=at.device) - self.before
            parts.append((own[:, None] == keys) & is_current & sees_itself)
        return torch.cat(parts, 1)

    @cached_property
    def _near(self) -> Int[Tensor, "batch rows"]:
        """From which position on rows see all up to their own."""
        lowest = self.rule.first_visible(self.rows)
        return lowest if self.reach is None else nearest(self.reach, self.rows, lowest)

    @cached_property
    def _sees_itself(self) -> Bool[Tensor, "batch rows"]:
        """Which rows see themselves; padding does, lest it see nothing."""
        if self.reach is None:
            return torch.ones_like(self.is_row)
        return ~self.is_row | is_within(self.reach, self._near, self.rows)

    def _is_along(self, entry: int, rows: slice, some: slice) -> Bool[Tensor, "rows keys"]:
        """Return which new keys are ancestors of rows in a prefix tree, or they themselves."""
        begin, end = max(some.start - self.past, 0), some.stop - self.past
        index = self.index[entry, rows, None]
        if self.end is None:
            return index.new_ones(1, 1, dtype=torch.bool)
        keys = torch.arange(begin, end, device=index.device)
        return (keys <= index) & (index < self.end[entry, begin:end])

    def _itself(self, entry: int, rows: slice, some: slice) -> Bool[Tensor, "rows keys"]:
        """Return which key is an earlier row's own: padding sees itself, lest it see nothing."""
        keys = torch.arange(some.start, some.stop, device=self.index.device) - self.past
        return self.index[entry, rows, None] == keys

    def dense(self) -> Bool[Tensor, "batch 1 rows keys"]:
        """Return the mask of all rows and keys."""
        count, keys = self.rows.shape[1], self.keys.shape[1]
        parts = [slice(0, self.earlier)] * bool(self.earlier)
        parts += [slice(self.earlier, count)] * (self.earlier < count)
        every = [
            torch.cat([self.visible(entry, part, (0, keys)) for part in parts])
            for entry in range(len(self.rows))
        ]
        return torch.stack(every)[:, None]

    @cached_property
    def causal(self) -> int:
        """How many leading rows see just the keys up to their own; padding behind them may too."""
        rows, count = self._rows, self.earlier
        if self.past or not count or self.rule.first_visible(self.rows.max()) > 0:
            return 0
        real = rows.is_row[:, :count]
        goes_on = np.ones_like(real)
        goes_on[:, 0] = rows.place[:, 0] == 0  # the first row's key is the first
        upwards = np.diff(rows.position[:, :count]) > 0
        goes_on[:, 1:] = ~real[:, 1:] | (real[:, :-1] & upwards)
        leading = int(np.logical_and.accumulate(goes_on, 1).sum(1).min())
        if self.end is not None and leading:  # each of them an ancestor of all that follow
            least = np.minimum.accumulate(self.end[:, :leading].cpu().numpy(), 1)
            alike = np.logical_and.accumulate(least > np.arange(leading), 1)
            leading = int(alike.sum(1).min())
        if self.reach is not None and leading:  # each of them sees all before it
            sees_all = rows.position[:, :leading] < self.reach.first + self.reach.last
            leading = int(np.logical_and.accumulate(sees_all, 1).sum(1).min())
        return leading

    def pieces(self, height: int) -> list[Piece]:
        """Return what rows behind the ``causal`` ones are cut into, ``height`` or fewer each."""
        if height not in self._pieces:
            bounds = ((self.causal, self.earlier), (self.earlier, self.rows.shape[1]))
            self._pieces[height] = [
                self._piece(entry, slice(start, min(start + height, end)), tiles)
                for entry, tiles in enumerate(self._tiles)
                for begin, end in bounds
                for start in range(begin, end, height)
            ]
        return self._pieces[height]

    def _piece(self, entry: int, rows: slice, tiles: "_Tiles") -> Piece:
        """Return what some rows of a sequence, all earlier or all current, see."""
        is_current = rows.start >= self.earlier
        begin = rows.start + (self.before - self.earlier if is_current else self.past)
        own = (begin, begin + rows.stop - rows.start)
        every = self._rows
        real = every.is_row[entry, rows]
        spans = [each[entry, rows][real] for each in (every.position, every.first, every.place)]
        some = all_of_them = np.zeros(len(tiles.begin), dtype=bool)
        if real.any():
            some, all_of_them = tiles.visible(spans[0] - is_current, *spans[1:])
            if self.reach is not None:
                within = tiles.within(self.reach.first, every.near[entry, rows][real])
                some, all_of_them = some & within[0], all_of_them & within[1]
        is_own = (tiles.begin < own[1]) & (tiles.end > own[0])
        some, all_of_them = some | is_own, all_of_them & ~is_own
        return Piece(entry, rows, tiles.runs(some), tiles.runs(some & ~all_of_them))

    @cached_property
    def _pieces(self) -> dict[int, list[Piece]]:
        return {}

    @cached_property
    def _tiles(self) -> "list[_Tiles]":
        edges = [0, self.past, self.before, self.keys.shape[1]]
        return [_Tiles.of(self, entry, edges) for entry in range(len(self.rows))]

    @cached_property
    def _rows(self) -> "_Rows":
        first = self.rule.first_visible(self.rows)
        vectors = (self.rows, first, self._near, self.index, self.is_row)
        return _Rows(*(each.cpu().numpy() for each in vectors))


class _Rows(NamedTuple):
    """What :class:`Geometry` says of rows (batch × rows), where it can be looked through fast."""

    position: Ints
    first: Ints
    near: Ints
    place: Ints
    is_row: Flags


class _Tiles(NamedTuple):
    """Keys of one sequence, so many at a time: the range of what is said of those that are real.

    Attributes:
        begin: The first key of each.
        end: The key behind its last.
        lowest: The lowest position; higher than any where no key is real.
        highest: The highest position; −1 where no key is real.
        is_real: Whether all keys are real.
        first: The lowest place among the new tokens, which is that of the first; −1 for past keys,
            and where new tokens are no prefix_tree.
        least: The lowest place where descendants end.
        most: The highest.
    """

    begin: Ints
    end: Ints
    lowest: Ints
    highest: Ints
    is_real: Flags
    first: Ints
    least: Ints
    most: Ints

    @classmethod
    def of(cls, geometry: Geometry, entry: int, edges: Sequence[int]) -> "_Tiles":
        """Cut a sequence's keys, at these edges and everywhere between."""
        cuts = [range(begin, end, KEYS_PER_TILE) for begin, end in pairwise(edges)]
        begin = np.array([at for cut in cuts for at in cut], dtype=np.int64)
        end = np.append(begin[1:], edges[-1])
        keys = geometry.keys[entry].cpu().numpy()
        real = np.zeros(len(keys), dtype=bool)
        real[: geometry.before] = geometry.is_key[entry].cpu().numpy()
        last = np.full(len(keys), len(keys))
        first = np.full(len(begin), -1)
        if geometry.end is not None:
            last[geometry.past : geometry.before] = geometry.end[entry].cpu().numpy()
            first = np.maximum(begin - geometry.past, -1)
        return cls(
            begin,
            end,
            lowest=np.minimum.reduceat(np.where(real, keys, _FAR), begin),
            highest=np.maximum.reduceat(np.where(real, keys, -1), begin),
            is_real=np.logical_and.reduceat(real, begin),
            first=first,
            least=np.minimum.reduceat(last, begin),
            most=np.maximum.reduceat(np.where(real, last, 0), begin),
        )

    def visible(self, position: Ints, first: Ints, index: Ints) -> tuple[Flags, Flags]:
        """Return which of them rows see anything of, and which all of these rows see wholly.

        Args:
            position: The highest position that each row sees.
            first: The lowest.
            index: Each row's place among the new tokens.
        """
        some = (self.lowest <= position.max()) & (self.highest >= first.min())
        some &= (self.first <= index.max()) & (self.most > index.min())
        wholly = self.is_real & (self.highest <= position.min()) & (self.lowest >= first.max())
        last = np.where(self.first < 0, -1, self.first + (self.end - self.begin) - 1)
        return some, wholly & (last <= index.min()) & (self.least > index.max())

    def within(self, first: int, near: Ints) -> tuple[Flags, Flags]:
        """Return which of them a reach lets rows see anything of, and which all see wholly.

        Args:
            first: How many first positions are seen.
            near: From which position on each row sees all up to its own.
        """
        some = (self.lowest < first) | (self.highest >= near.min())
        return some, (self.highest < first) | (self.lowest >= near.max())

    def runs(self, chosen: Flags) -> list[Run]:
        """Return the runs of keys of some of them, joined where one follows the other."""
        edges = np.flatnonzero(np.diff(chosen, prepend=False, append=False)).tolist()
        pairs = zip(edges[::2], edges[1::2], strict=True)
        return [(int(self.begin[one]), int(self.end[other - 1])) for one, other in pairs]
