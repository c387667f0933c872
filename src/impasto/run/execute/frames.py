"""The rows that one call of a block runs, and which keys each may see.

========  =============================  ==================================================
frame     rows                           each row sees
========  =============================  ==================================================
joint     new tokens                     itself and the tokens before it
split     new tokens, then scored ones   new: as where rows are joint; scored: the tokens before
          as *current* rows              it as they are as earlier tokens, and itself, no other
                                         current row
current   scored tokens as current rows  the same
later     new tokens that are not the    as where rows are joint
          prompt's
========  =============================  ==================================================

Keys lie in the order past, new, current. Which of the positions before it a row may see is the
layer's own rule (full, sliding window, …), asked of the model by
:meth:`impasto.model.decoder.OpenedModel.visibility`.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from impasto.model.arguments.counted import PickedRows
from impasto.model.arguments.mask_rules import LengthOnlyCache
from impasto.model.arguments.reach import is_within, nearest
from impasto.model.arguments.visibility import Causal, InOrder, MaskTable, Visibility
from impasto.model.decoder import OpenedModel
from impasto.model.structure.block import Arguments, Entered
from impasto.plan.steps import Reach
from impasto.run.attention.blockwise import UnmadeMask
from impasto.run.attention.choice import makes_no_large_masks
from impasto.run.attention.kernels import aligned
from impasto.run.execute.masks import changed, put, unmade_mask
from impasto.run.execute.reached import Reached
from impasto.run.execute.rows import Batch, Parts, visible_rows
from impasto.run.tuning import NUMBERS_OF_A_MASK


@dataclass(frozen=True)
class Frame:
    """The rows that one call of a block runs, and which keys each may see.

    Attributes:
        model: The model whose blocks are called.
        batch: The sequences.
        earlier: Whether new tokens run as earlier rows.
        current: Whether scored tokens run as current rows.
        joint: The frame of the new tokens alone, from whose call arguments those of these rows are
            picked.
        is_given: Whether the model's own forward, under way, has prepared the call arguments.
        later: Whether only those new tokens run that are not the prompt's.
    """

    model: OpenedModel
    batch: Batch
    earlier: bool
    current: bool
    joint: "Frame | None" = None
    is_given: bool = False
    later: bool = False

    @classmethod
    def given(cls, model: OpenedModel, batch: Batch, entered: Entered) -> "Frame":
        """Return the joint frame of a forward that the model itself has prepared, masks and all."""
        frame = cls(model, batch, earlier=True, current=False, is_given=True)
        frame.__dict__.update(entered=entered)
        return frame

    def part(self, span: slice) -> "Frame":
        """Return the frame of some of the sequences, with their part of the call arguments."""
        size, known = self.batch.ids.shape[0], dict[int, Any]()
        if span == slice(0, size):
            return self

        def share(value: Any) -> Any:  # layers are called with much that is the same
            if id(value) not in known:
                known[id(value)] = changed(value, lambda each: _share(each, span, size))
            return known[id(value)]

        def arguments(layer: int, reach: Reach | None = None) -> Arguments:
            whole = self.arguments(layer, reach)
            if id(whole) not in known:
                known[id(whole)] = {name: share(value) for name, value in whole.items()}
            return known[id(whole)]

        frame = Frame(self.model, self.batch.part(span), self.earlier, self.current)
        frame.__dict__["arguments"] = arguments
        return frame

    @property
    def parts(self) -> Parts:
        """Which rows these are."""
        return Parts(self.earlier, self.current, self.later)

    @cached_property
    def rows(self) -> Int[Tensor, "batch rows"]:
        """The rows' positions."""
        return self.parts.of(self.batch.positions, self.batch)

    @cached_property
    def entered(self) -> Entered:
        """The rows' embeddings, and the call arguments of each block."""
        batch = self.batch
        ids = self.parts.of(batch.ids, batch)
        # Then the model makes masks of one key, which nobody reads.
        unread = LengthOnlyCache(0, keys=1) if self.is_long else None
        return self.model.enter(ids, self.rows, past=unread)

    @cached_property
    def is_long(self) -> bool:
        """Whether masks of all rows × all keys would be too large, and need not be made."""
        batch = self.batch
        (size, new), current = batch.ids.shape, batch.scored.shape[1] * self.current
        earlier = batch.later.index.shape[1] if self.later else new * self.earlier
        numbers = size * (earlier + current) * (batch.past.shape[1] + new + current)
        is_small = batch.buffered is not None or numbers <= NUMBERS_OF_A_MASK
        return not is_small and makes_no_large_masks(self.model, batch.length(self._keys))

    def arguments(self, layer: int, reach: Reach | None = None) -> Arguments:
        """Return the call arguments of block ``layer``, its own attention mask among them.

        They are made once for layers that are called with the same. Within a ``reach``, the mask
        hides what is beyond it.
        """
        if reach is not None and Reached.of(self.batch, reach).is_all:
            reach = None
        if reach is None and self.is_given:
            return self.entered.arguments[layer]
        made = self._arguments.setdefault(reach, {})
        if layer not in made:
            twin = next((known for known in made if self._is_alike(known, layer)), None)
            made[layer] = self._made(layer, reach) if twin is None else made[twin]
        return made[layer]

    @cached_property
    def _arguments(self) -> dict[Reach | None, dict[int, Arguments]]:
        return {}

    def _is_alike(self, one: int, other: int) -> bool:
        """Whether the model's own forward calls two blocks with the same arguments."""
        given = (self.joint or self).entered.arguments
        first, second = given[one], given[other]
        kinds = (self._visibility if self.is_long else self.model.visibility(1)).kinds
        return (
            kinds[one] == kinds[other]
            and self.model.blocks[one].device == self.model.blocks[other].device
            and first.keys() == second.keys()
            and all(value is second[name] for name, value in first.items())
        )

    def _made(self, layer: int, reach: Reach | None) -> Arguments:
        # On its device, lest they go there in every call.
        return put(self._made_here(layer, reach), self.model.blocks[layer].device)

    def _made_here(self, layer: int, reach: Reach | None) -> Arguments:
        given = self._given(layer)
        if reach is not None:
            return given | self._within(reach, layer)
        if self._is_plain and not self.is_long and given["attention_mask"] is None:
            return given  # the model itself calls a plain causal sequence so
        kind = self._visibility.kinds[layer]
        if self._is_plain and self.is_long and self._visibility.rules[kind] == Causal():
            return given | {"attention_mask": None}
        masks = self._unmade if self.is_long else self._masks
        return given | self._further | {"attention_mask": masks[kind]}

    @property
    def _is_plain(self) -> bool:
        """Whether rows are tokens one after the other, with none before them."""
        batch = self.batch
        follows = batch.past.shape[1] or batch.buffered is not None
        return not (self.current or self.later or follows or batch.end is not None)

    def _given(self, layer: int) -> Arguments:
        """Return the call arguments that the model's own forward makes for these rows."""
        if self.joint is None or self.later or self._picked is None:
            return self.entered.arguments[layer]
        return self._picked.of(layer, self.joint.entered.arguments[layer])

    @cached_property
    def _picked(self) -> PickedRows | None:
        """Which joint rows these are, where all sequences score the same ones."""
        scored, rowwise = self.batch.scored_alike, self.model.rowwise
        if scored is None or rowwise is None:
            return None
        every = torch.arange(self.batch.ids.shape[1], device=scored.device)
        return PickedRows(rowwise, torch.cat([every] * self.earlier + [scored]))

    @cached_property
    def _visibility(self) -> Visibility:
        return self.model.visibility(self.batch.length(self._keys))

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
        """The indices of current rows in the KV buffers."""
        return self.batch.buffer_indices[:, self.batch.ids.shape[1] :]

    @cached_property
    def _masks(self) -> list[Float[Tensor, "batch #heads rows keys"]]:
        """A mask (batch × heads or 1 × rows × keys) for each kind of layer."""
        kinds, dtype = range(len(self._visibility.rules)), (self.joint or self).entered.states.dtype
        if self.batch.buffered is not None:
            made = [self._in_order(self._visibility.in_order(dtype), kind) for kind in kinds]
        else:
            given = self.rows, self._keys, self._allowed, dtype
            made = [self._visibility.mask(kind, *given) for kind in kinds]
        return made if self.batch.ids.device.type == "cpu" else list(map(aligned, made))

    @cached_property
    def _unmade(self) -> list[UnmadeMask]:
        """Masks that hold no numbers, one for each kind of layer."""
        has_past, rules = self.batch.has_past, self._visibility.rules
        intervals = [rule for rule in rules if not isinstance(rule, MaskTable)]
        return [
            unmade_mask(self.batch, self.parts, rule, self.rows, self._keys, has_past)
            for rule in intervals
        ]

    def _within(self, reach: Reach, layer: int) -> Arguments:
        """Return what a layer is called with whose attention sees less: a mask, if nothing more."""
        reached = Reached.of(self.batch, reach)
        visibility, keys = self.model.visibility(reached.length), reached.keys(self.current)
        key = (visibility.kinds[layer], reach)
        if key not in self._masks_within:
            self._masks_within[key] = self._mask_within(reached, visibility, key[0])
        return visibility.further(keys) | {"attention_mask": self._masks_within[key]}

    @cached_property
    def _masks_within(self) -> dict[tuple[int, Reach], Tensor]:
        return {}

    def _mask_within(
        self, reached: Reached, visibility: Visibility, kind: int
    ) -> Shaped[Tensor, "batch #heads rows keys"]:
        """Return the mask for layers of a kind whose attention sees less."""
        rows, keys = reached.rows(self.parts), reached.keys(self.current)
        rule = visibility.rules[kind]
        if self.is_long and not isinstance(rule, MaskTable):
            given = (self.batch, self.parts, rule, rows, keys, reached.held[1])
            return unmade_mask(*given, reached.reach)
        near = nearest(reached.reach, rows, rule.first_visible(rows))
        allowed = reached.visible_rows(self.parts)
        allowed &= is_within(reached.reach, near[:, :, None], keys[:, None])
        dtype = (self.joint or self).entered.states.dtype
        return visibility.mask(kind, rows, keys, allowed, dtype)

    def _in_order(self, visible: InOrder, kind: int) -> Float[Tensor, "batch #heads rows keys"]:
        """Return the mask for keys that lie in a buffer, each at the index of its position."""
        batch, parts = self.batch, []
        if self.earlier:
            parts.append(visible.mask(kind, batch.positions, batch.visible))
        if self.current:
            positions = batch.pick(batch.positions)
            parts.append(visible.mask_apart(kind, positions, self._own, batch.visible))
        return torch.cat(parts, 2)

    @cached_property
    def _further(self) -> Arguments:
        return self._visibility.further(self._keys)

    @property
    def _allowed(self) -> Bool[Tensor, "batch rows keys"]:
        """Which rows may see which keys by the batch alone, whatever the layer's own rule."""
        batch = self.batch
        return visible_rows(batch, self.parts, batch.past, batch.has_past, batch.positions)


@dataclass(frozen=True)
class Frames:
    """The frames of a batch.

    Attributes:
        model: The model.
        batch: The sequences.
        given: The joint rows as the model's own forward prepared them, where that is under way.
        whole: The frames of which these are a part, and which of their sequences.
    """

    model: OpenedModel
    batch: Batch
    given: Entered | None = None
    whole: "tuple[Frames, slice] | None" = None

    @cached_property
    def are_long(self) -> bool:
        """Whether some of them have masks that are not made."""
        is_whole = self.whole is None and self.batch.buffered is None
        return is_whole and any(each.is_long for each in (self.joint, self.split, self.current))

    @cached_property
    def joint(self) -> Frame:
        """New tokens as earlier rows."""
        if self.given is not None:
            return Frame.given(self.model, self.batch, self.given)
        if self.whole is not None:
            return self.whole[0].joint.part(self.whole[1])
        return Frame(self.model, self.batch, earlier=True, current=False)

    @cached_property
    def split(self) -> Frame:
        """The same, with scored tokens as current rows behind them."""
        if self.whole is not None:
            return self.whole[0].split.part(self.whole[1])
        return Frame(self.model, self.batch, earlier=True, current=True, joint=self.joint)

    @cached_property
    def current(self) -> Frame:
        """Scored tokens as current rows."""
        if self.whole is not None:
            return self.whole[0].current.part(self.whole[1])
        return Frame(self.model, self.batch, earlier=False, current=True, joint=self.joint)

    @cached_property
    def later(self) -> Frame:
        """New tokens that are not the prompt's, as earlier rows."""
        return Frame(self.model, self.batch, True, False, joint=self.joint, later=True)

    def part(self, span: slice) -> "Frames":
        """Return the frames of some of the sequences."""
        if span == slice(0, self.batch.ids.shape[0]):
            return self
        return Frames(self.model, self.batch.part(span), whole=(self, span))


def _share(value: Tensor, span: slice, size: int) -> Tensor:
    """Return some sequences' part of a tensor whose first axis is the batch, or that × heads."""
    if value.ndim < 2 or value.shape[0] % size:
        return value
    each = value.shape[0] // size
    return value[span.start * each : span.stop * each]
