"""Rows that see some rows: the geometry of one packed forward.

A batch is ``batch`` sequences of ``new`` tokens, padded on the right, that follow ``past`` tokens
whose keys and values are there already. A sequence may be a prefix tree: then "before" means its own
ancestors. Some of the new tokens are *scored*: the model's
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
asked of the model by :meth:`impasto.model.decoder.OpenedModel.visibility`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from impasto.model.arguments.counted import PickedRows
from impasto.model.arguments.mask_rules import Read
from impasto.model.arguments.visibility import Causal, InOrder, Table, Visibility
from impasto.model.decoder import Entered, OpenedModel
from impasto.model.structure.block import Arguments
from impasto.run.attention.blockwise import UnmadeMask
from impasto.run.attention.choice import takes_unmade
from impasto.run.attention.geometry import Geometry
from impasto.run.batching.padding import padded
from impasto.run.batching.prefix_tree import PrefixTree
from impasto.run.execute.noise import along, prefix_keys
from impasto.run.tuning import NUMBERS_OF_A_MASK


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
        total: The running sums of :func:`impasto.run.execute.noise.prefix_keys` over the past.
        end: Where, among the new tokens, the descendants of each end, where they are a prefix tree
            (:attr:`impasto.run.batching.prefix_tree.PrefixTree.ends`); None where each follows the one before it.
        buffered: How many tokens of each sequence lie in KV buffers
            (:class:`impasto.run.kv.buffers.KVBuffer`), where the past does. Then ``past`` is empty
            and every new token is scored.
        visible: How many indices of the buffers rows may see then.
    """

    ids: Int[Tensor, "batch new"]
    positions: Int[Tensor, "batch new"]
    is_real: Bool[Tensor, "batch new"]
    scored: Int[Tensor, "batch scored"]
    is_scored: Bool[Tensor, "batch scored"]
    past: Int[Tensor, "batch past"]
    has_past: Bool[Tensor, "batch past"]
    total: Int[Tensor, "batch"]
    end: Int[Tensor, "batch new"] | None = None
    buffered: Int[Tensor, "batch"] | None = None
    visible: int = 0

    @cached_property
    def seen(self) -> Int[Tensor, "batch"]:
        """How many tokens came before the new ones."""
        return self.has_past.sum(1) if self.buffered is None else self.buffered

    @cached_property
    def index(self) -> Int[Tensor, "batch new"]:
        """How many tokens came before each new one."""
        return self.seen[:, None] + along(self.is_real.long(), self.end) - 1

    @cached_property
    def hashed(self) -> tuple[Int[Tensor, "batch new"], Int[Tensor, "batch new"]]:
        """A noise key for every new token, and the running sums after it."""
        return prefix_keys(self.ids, self.is_real, self.seen, self.total, self.end)

    def are_ancestors(self, rows: Int[Tensor, "*batch rows"]) -> Bool[Tensor, "batch rows new"]:
        """Return which new tokens of a prefix tree are ancestors of others, or they themselves."""
        assert self.end is not None, "it is a prefix tree"
        keys, rows = torch.arange(self.ids.shape[1], device=rows.device), rows[..., None]
        return (keys <= rows) & (rows < self.end[:, None])

    @cached_property
    def slots(self) -> Int[Tensor, "batch rows"]:
        """The slots of new tokens as earlier rows, then as current rows, which lie behind."""
        rows = torch.arange(2 * self.ids.shape[1], device=self.ids.device)
        return self.seen[:, None] + rows

    @cached_property
    def scored_alike(self) -> Int[Tensor, "scored"] | None:
        """Which tokens are scored, where they are the same ones in every sequence."""
        first = self.scored[0]
        return first if bool((self.scored == first).all()) else None

    def part(self, span: slice) -> "Batch":
        """Return some of the sequences."""
        values: dict[str, Any] = {each.name: getattr(self, each.name) for each in fields(self)}
        for name, value in values.items():
            values[name] = value[span] if isinstance(value, Tensor) else value
        return Batch(**values)

    def pick(self, rows: Tensor) -> Tensor:
        """Return the scored ones of ``rows`` (batch × new × …)."""
        index = self.scored.to(rows.device)
        index = index.reshape(*index.shape, *[1] * (rows.ndim - 2))
        return rows.gather(1, index.expand(-1, -1, *rows.shape[2:]))


def makes_no_large_masks(model: OpenedModel, length: int) -> bool:
    """Whether a model can go without masks that are too large, for texts of so many tokens."""
    is_table = (isinstance(rule, Table) for rule in model.visibility(length).rules)
    return takes_unmade(model) and not any(is_table)


def first_batch(prefix_trees: Sequence[PrefixTree], device: torch.device) -> Batch:
    """Return the batch of some prefix trees that follow nothing."""
    ids, is_real = padded([prefix_tree.ids for prefix_tree in prefix_trees], 0, device)
    scored, is_scored = padded([prefix_tree.scored for prefix_tree in prefix_trees], 0, device)
    none, end = ids.new_zeros(len(prefix_trees), 0), None
    if not all(prefix_tree.is_chain for prefix_tree in prefix_trees):
        end, _ = padded([prefix_tree.ends for prefix_tree in prefix_trees], ids.shape[1], device)
    return Batch(
        ids=ids,
        positions=padded([prefix_tree.depths for prefix_tree in prefix_trees], 0, device)[0],
        is_real=is_real,
        scored=scored,
        is_scored=is_scored,
        past=none,
        has_past=none.bool(),
        total=none.sum(1),
        end=end,
    )


def following_batch(prefix: Batch, prefix_trees: Sequence[PrefixTree]) -> Batch:
    """Return the batch of prefix trees that all follow one prefix (a batch of one, unpadded)."""
    batch = first_batch(prefix_trees, prefix.ids.device)
    past = prefix.positions.expand(len(prefix_trees), -1)
    return replace(
        batch,
        positions=batch.positions + past.shape[1],
        past=past,
        has_past=torch.ones_like(past, dtype=torch.bool),
        total=prefix.hashed[1][:, -1].expand(len(prefix_trees)),
    )


@dataclass(frozen=True)
class Frame:
    """The rows that one call of a block runs, and what they may see.

    Attributes:
        model: The model whose blocks are called.
        batch: The sequences.
        earlier: Whether new tokens run as earlier rows.
        current: Whether scored tokens run as current rows.
        trunk: The frame of the new tokens alone, whose arguments serve these rows, too.
        is_given: Whether a forward that is under way has prepared what blocks are called with.
    """

    model: OpenedModel
    batch: Batch
    earlier: bool
    current: bool
    trunk: "Frame | None" = None
    is_given: bool = False

    @classmethod
    def given(cls, model: OpenedModel, batch: Batch, entered: Entered) -> "Frame":
        """Return the trunk of a forward that the model itself has prepared, masks and all."""
        frame = cls(model, batch, earlier=True, current=False, is_given=True)
        frame.__dict__.update(entered=entered, arguments=entered.arguments.__getitem__)
        return frame

    def part(self, span: slice) -> "Frame":
        """Return the frame of some of the sequences, which are called with their share."""
        size, known = self.batch.ids.shape[0], dict[int, Any]()
        if span == slice(0, size):
            return self

        def share(value: Any) -> Any:  # layers are called with much that is the same
            if id(value) not in known:
                known[id(value)] = _share(value, span, size)
            return known[id(value)]

        def arguments(layer: int) -> Arguments:
            whole = self.arguments(layer)
            if id(whole) not in known:
                known[id(whole)] = {name: share(value) for name, value in whole.items()}
            return known[id(whole)]

        frame = Frame(self.model, self.batch.part(span), self.earlier, self.current)
        frame.__dict__["arguments"] = arguments
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
        unread = Read(0, masked=1) if self.is_long else None  # the model makes no masks then
        return self.model.enter(torch.cat(parts, 1), self.rows, read=unread)

    @cached_property
    def is_long(self) -> bool:
        """Whether masks of all rows × all keys would be too large, and need not be made."""
        batch = self.batch
        (size, new), current = batch.ids.shape, batch.scored.shape[1] * self.current
        numbers = size * (new * self.earlier + current) * (batch.past.shape[1] + new + current)
        if batch.buffered is not None or numbers <= NUMBERS_OF_A_MASK:
            return False
        return makes_no_large_masks(self.model, int(self._keys.max()) + 1)

    def arguments(self, layer: int) -> Arguments:
        """Return what block ``layer`` is to be called with, its own mask among it.

        Layers that are called with the same are given the same, once made.
        """
        if layer not in self._arguments:
            twin = next((known for known in self._arguments if self._is_alike(known, layer)), None)
            self._arguments[layer] = self._made(layer) if twin is None else self._arguments[twin]
        return self._arguments[layer]

    @cached_property
    def _arguments(self) -> dict[int, Arguments]:
        return {}

    def _is_alike(self, one: int, other: int) -> bool:
        """Whether the model's own forward calls two blocks with the same."""
        given = (self.trunk or self).entered.arguments
        first, second = given[one], given[other]
        kinds = (self._seen if self.is_long else self.model.visibility(1)).kinds
        return (
            kinds[one] == kinds[other]
            and first.keys() == second.keys()
            and all(value is second[name] for name, value in first.items())
        )

    def _made(self, layer: int) -> Arguments:
        given = self._given(layer)
        if self._is_plain and not self.is_long and given["attention_mask"] is None:
            return given  # the model itself calls a plain causal sequence so
        if self._is_plain and self.is_long and self.is_given:
            return given  # it has made its masks, and what it computes is the same to the last bit
        kind = self._seen.kinds[layer]
        if self._is_plain and self.is_long and self._seen.rules[kind] == Causal():
            return given | {"attention_mask": None}
        masks = self._unmade if self.is_long else self._masks
        return given | self._further | {"attention_mask": masks[kind]}

    @property
    def _is_plain(self) -> bool:
        """Whether rows are tokens one after the other, with none before them."""
        batch = self.batch
        follows = batch.past.shape[1] or batch.buffered is not None
        return not (self.current or follows or batch.end is not None)

    def _given(self, layer: int) -> Arguments:
        """Return what the model's own forward hands to a block for these rows."""
        if self.trunk is None or self._picked is None:
            return self.entered.arguments[layer]
        return self._picked.of(layer, self.trunk.entered.arguments[layer])

    @cached_property
    def _picked(self) -> PickedRows | None:
        """Which of the trunk's rows these are, where sequences and the model allow to say so."""
        scored, rowwise = self.batch.scored_alike, self.model.rowwise
        if scored is None or rowwise is None:
            return None
        every = torch.arange(self.batch.ids.shape[1], device=scored.device)
        return PickedRows(rowwise, torch.cat([every] * self.earlier + [scored]))

    @cached_property
    def _seen(self) -> Visibility:
        return self.model.visibility(int(self._keys.max()) + 1)

    @cached_property
    def _keys(self) -> Int[Tensor, "batch keys"]:
        """The keys' positions."""
        batch = self.batch
        current = [batch.pick(batch.positions)] * self.current
        if batch.buffered is None:
            return torch.cat([batch.past, batch.positions, *current], 1)
        keys = self.model.position(torch.arange(batch.visible, device=batch.ids.device))
        keys = keys.expand(len(batch.ids), -1)
        for positions in current:
            keys = keys.scatter(1, self._own, positions)
        return keys

    @cached_property
    def _own(self) -> Int[Tensor, "batch scored"]:
        """The slots of current rows."""
        return self.batch.slots[:, self.batch.ids.shape[1] :]

    @cached_property
    def _masks(self) -> list[Tensor]:
        """A mask (batch × heads or 1 × rows × keys) for each kind of layer."""
        kinds, dtype = range(len(self._seen.rules)), (self.trunk or self).entered.states.dtype
        if self.batch.buffered is not None:
            return [self._in_order(self._seen.in_order(dtype), kind) for kind in kinds]
        return [self._seen.mask(k, self.rows, self._keys, self._allowed, dtype) for k in kinds]

    @cached_property
    def _unmade(self) -> Sequence[Tensor]:
        """What stands in for these masks where they would be too large."""
        batch = self.batch
        index = torch.arange(batch.ids.shape[1], device=batch.ids.device).expand_as(batch.ids)
        new, scored = [(index, batch.is_real)], [(batch.scored, batch.is_scored)]
        parts = new * self.earlier + scored * self.current
        rows = [torch.cat(vectors, 1) for vectors in zip(*parts, strict=True)]
        return [
            UnmadeMask.of(
                Geometry(
                    rule,
                    rows=self.rows,
                    index=rows[0],
                    is_row=rows[1],
                    keys=self._keys,
                    is_key=torch.cat([batch.has_past, batch.is_real], 1),
                    end=batch.end,
                    past=batch.past.shape[1],
                    earlier=batch.ids.shape[1] * self.earlier,
                )
            )
            for rule in self._seen.rules
            if not isinstance(rule, Table)
        ]

    def _in_order(self, seen: InOrder, kind: int) -> Tensor:
        """Return the mask for keys that lie in KV buffers, each at the index of its position."""
        batch, parts = self.batch, []
        if self.earlier:
            parts.append(seen.mask(kind, batch.positions, batch.visible))
        if self.current:
            positions = batch.pick(batch.positions)
            parts.append(seen.mask_apart(kind, positions, self._own, batch.visible))
        return torch.cat(parts, 2)

    @cached_property
    def _further(self) -> Arguments:
        return self._seen.further(self._keys)

    @cached_property
    def _allowed(self) -> Bool[Tensor, "batch rows keys"]:
        """Which rows may see which keys, whatever the layer."""
        batch = self.batch
        size, past, new, scored = *batch.past.shape, batch.ids.shape[1], batch.scored.shape[1]
        real = torch.cat([batch.has_past, batch.is_real], 1)
        blocks = []
        if self.earlier:
            seen = real[:, None, :].repeat(1, new, 1)
            if batch.end is not None:
                seen[:, :, past:] &= batch.are_ancestors(torch.arange(new, device=real.device))
            own = torch.eye(new, dtype=torch.bool, device=real.device)
            seen[:, :, past:] |= own  # padding sees itself, lest its softmax be empty
            none = real.new_zeros(size, new, scored * self.current)
            blocks.append(torch.cat([seen, none], 2))
        if self.current:
            before = self._keys[:, None, : past + new] < batch.pick(batch.positions)[:, :, None]
            if batch.end is not None:
                before[:, :, past:] &= batch.are_ancestors(batch.scored)
            itself = torch.eye(scored, dtype=torch.bool, device=real.device)
            itself = itself.expand(size, -1, -1)
            blocks.append(torch.cat([before & real[:, None, :], itself], 2))
        return torch.cat(blocks, 1)


@dataclass(frozen=True)
class Frames:
    """The three frames of a batch.

    Attributes:
        model: The model.
        batch: The sequences.
        given: The trunk as the model's own forward prepared it, where that is under way.
        whole: The frames, and which of their sequences, that these are a part of.
    """

    model: OpenedModel
    batch: Batch
    given: Entered | None = None
    whole: "tuple[Frames, slice] | None" = None

    @cached_property
    def are_long(self) -> bool:
        """Whether some of them have masks that are not made."""
        if self.whole is not None or self.batch.buffered is not None:
            return False
        return any(frame.is_long for frame in (self.trunk, self.packed, self.current))

    @cached_property
    def trunk(self) -> Frame:
        """New tokens as earlier rows."""
        if self.given is not None:
            return Frame.given(self.model, self.batch, self.given)
        if self.whole is not None:
            return self.whole[0].trunk.part(self.whole[1])
        return Frame(self.model, self.batch, earlier=True, current=False)

    @cached_property
    def packed(self) -> Frame:
        """The same, with scored tokens as current rows behind them."""
        if self.whole is not None:
            return self.whole[0].packed.part(self.whole[1])
        return Frame(self.model, self.batch, earlier=True, current=True, trunk=self.trunk)

    @cached_property
    def current(self) -> Frame:
        """Scored tokens as current rows."""
        if self.whole is not None:
            return self.whole[0].current.part(self.whole[1])
        return Frame(self.model, self.batch, earlier=False, current=True, trunk=self.trunk)

    def part(self, span: slice) -> "Frames":
        """Return the frames of some of the sequences."""
        if span == slice(0, self.batch.ids.shape[0]):
            return self
        return Frames(self.model, self.batch.part(span), whole=(self, span))


def _share(value: Any, span: slice, size: int) -> Any:
    """Return some batch entries' share of what a block is called with.

    A tensor of several dimensions whose first is the batch, or the batch times the heads, is cut.
    """
    if isinstance(value, dict):
        return {name: _share(each, span, size) for name, each in value.items()}
    if isinstance(value, tuple):
        return tuple(_share(each, span, size) for each in value)
    if isinstance(value, Tensor) and value.ndim > 1 and value.shape[0] % size == 0:
        each = value.shape[0] // size
        return value[span.start * each : span.stop * each]
    return value
