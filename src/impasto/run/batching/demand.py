"""How many bytes a group of batches takes at the most, before it runs.

It is the sum of what is held while something runs (:mod:`impasto.run.batching.moments`), of what
that works on (:mod:`impasto.run.batching.working`), and of masks.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from impasto.model.decoder import OpenedModel
from impasto.plan.program import Program
from impasto.plan.tree import Node
from impasto.run.attention.choice import makes_no_large_masks
from impasto.run.batching.batches import BatchGroup, in_common, texts_at_once
from impasto.run.batching.moments import Mode, Moment, moments
from impasto.run.batching.prefix_tree import PrefixTree, chain
from impasto.run.batching.request import TokenRequest
from impasto.run.batching.working import working
from impasto.run.noise import NUMBERS_DRAWN_AT_ONCE, NUMBERS_DRAWN_AT_ONCE_ELSEWHERE
from impasto.run.tuning import (
    LOGITS_AT_ONCE,
    LOGITS_AT_ONCE_ELSEWHERE,
    MASK_NUMBERS_AT_ONCE,
    NORMALISED_AT_ONCE,
    NORMALISED_AT_ONCE_ELSEWHERE,
    NUMBERS_OF_A_MASK,
    PLANS_COMPARED_AT_ONCE,
    ROWS_PER_PIECE,
)

Reads = Literal["scores", "fidelity", "texts"]
_NUMBERS_OF_A_ROW = 8  # that say of a row which it is, eight bytes each
_BYTES_DRAWN = 40  # for each number of noise, on the way to it


@dataclass(frozen=True)
class Asked:
    """What is asked of a model, as far as it says how much memory that takes.

    Attributes:
        model: The model.
        tree: The plans that run.
        reads: What is read at the end.
        finished: How many final states of each scored row wait until they are read.
        plans: How many plans write texts.
        holding: What they hold, each kind once: how many attentions keep so many tokens at the
            most, None all of them.
        new_tokens: How many tokens they write at the most.
        most_held: The bytes that keys and values of plans that decode together may take.
    """

    model: OpenedModel
    tree: Node
    reads: Reads = "scores"
    finished: int = 0
    plans: int = 0
    holding: Sequence[Mapping[int | None, int]] = ()
    new_tokens: int = 0
    most_held: int = 0

    @classmethod
    def of_texts(
        cls,
        model: OpenedModel,
        tree: Node,
        programs: Sequence[Program],
        new_tokens: int,
        memory: int,
    ) -> "Asked":
        """Return what programs ask that write texts, within so many bytes of memory."""
        unique = set(programs)
        holding: list[Mapping[int | None, int]] = []
        for program in unique:
            if program.holding not in holding:
                holding.append(program.holding)
        return cls(model, tree, "texts", 0, len(unique), holding, new_tokens, memory // 2)

    @cached_property
    def moments(self) -> dict[Mode, set[Moment]]:
        """What is held at once."""
        at_once = PLANS_COMPARED_AT_ONCE if self.reads == "fidelity" else 1
        return moments(self.tree, self.reads == "texts", at_once)

    def bytes(self, group: BatchGroup, requests: Sequence[TokenRequest]) -> int:
        """Return the most bytes that a group takes, beside the weights."""
        if self.model.sequential is not None:
            return group.rows * self._sequential_row
        each = [_BatchBytes(self, batch, len(group.prefix)) for batch in group.batches]
        before, state = len(group.prefix), _state_bytes(self.model)
        new, scored = before + sum(b.new for b in each), sum(b.scored for b in each)
        common = in_common(self.model, before) if self.reads == "texts" else 0
        recorded = new - before + common + (before - common) * len(group.prefix_trees)
        donors = sum(_donor_rows(batch, requests) for batch in group.batches)
        masked, kept, most = list(each), working(self.model).kept, 0.0
        lets_go = group.lets_masks_go(self.model.counted_device)
        if before:
            request = TokenRequest(group.prefix, range(0), {})
            masked.append(_BatchBytes(self, [chain(0, request)], 0))
        for mode, some in self.moments.items():
            works = self._read(scored) if mode == "read" else max(b.works(mode) for b in each)
            works += self._held(group, reads=mode == "read")
            for held in some:
                rows = held.new * new + held.scored * scored + held.donors * donors
                keys = held.kept * recorded + held.shared * before
                masks = sum(b.tables for b in masked) + (max if lets_go else sum)(
                    b.masks(held) for b in masked
                )
                most = max(most, rows * state + keys * kept + masks + works)
        return int(most + self.finished * scored * state)

    @cached_property
    def _sequential_row(self) -> int:
        """About what a row takes where sequences run as they are, by the sizes of a layer."""
        config = self.model.hf.config.get_text_config(decoder=True)
        inner = getattr(config, "intermediate_size", None) or 4 * self.model.hidden
        inner = max(inner) if isinstance(inner, list) else inner  # one for each layer
        states = 2 * (self.tree.forks + 1) + self.finished
        numbers = states * self.model.hidden + 2 * (8 * self.model.hidden + 3 * inner)
        return numbers * _state_itemsize(self.model)

    def _read(self, scored: int) -> float:
        """Return what reading the final states of so many scored rows works on."""
        model, logits = self.model, working(self.model).logits
        kind, width = model.counted_device.type, model.vocabulary
        slab = min(scored, max(1, LOGITS_AT_ONCE.get(kind, LOGITS_AT_ONCE_ELSEWHERE) // width))
        at_once = NORMALISED_AT_ONCE.get(kind, NORMALISED_AT_ONCE_ELSEWHERE)
        part = min(slab, max(1, at_once // width)) * width * 4  # single precision
        states = float(scored) * _state_bytes(model)
        if self.reads == "fidelity":  # the full model's log p and p, or its logits
            return slab * (8 * width + logits) + 3 * part
        return states + slab * logits + part * (self.reads == "scores")

    def _held(self, group: BatchGroup, reads: bool) -> int:
        """Return what keys and values take of plans that write texts behind a group's prompts.

        While a plan reads its prompts, the others leave room for what it will have.
        """
        if self.reads != "texts":
            return 0
        together, of_plan = self._texts_allow(group), self.keys_of_plan(group)
        if not reads:
            return max(0, min((together - 1) * of_plan, self.most_held - of_plan))
        return min(together * of_plan, max(self.most_held, of_plan))

    def plans_at_once(self, group: BatchGroup) -> int:
        """Return how many plans write texts together behind a group's prompts.

        They are so many as have not more texts than decode at once, and not more keys and values
        than may be held, and one in any case.
        """
        of_plan = max(1, self.keys_of_plan(group))
        return min(self._texts_allow(group), max(1, self.most_held // of_plan))

    def _texts_allow(self, group: BatchGroup) -> int:
        return min(self.plans, max(1, texts_at_once(self.model) // len(group.prefix_trees)))

    def keys_of_plan(self, group: BatchGroup) -> int:
        """Return the most bytes that keys and values of a plan take behind a group's prompts."""
        before = len(group.prefix)
        common = in_common(self.model, before)
        lengths = [before + len(tree.ids) + self.new_tokens for tree in group.prefix_trees]
        of_all = common + sum(length - common for length in lengths)
        tokens = {
            most: of_all if most is None else sum(min(length, most) for length in lengths)
            for most in {most for each in self.holding for most in each}
        }
        numbers = [sum(tokens[most] * n for most, n in each.items()) for each in self.holding]
        return max(numbers, default=0) * working(self.model).kept


class _BatchBytes:
    """What runs on one batch works on, and its masks."""

    def __init__(self, asked: Asked, batch: Sequence[PrefixTree], prefix: int) -> None:
        self._asked, self._model, self._size, self._prefix = asked, asked.model, len(batch), prefix
        self._rows = len(batch[0].ids)
        self._tokens = prefix + max(max(tree.depths) for tree in batch) + 1  # of the longest text
        self._scored = max(len(tree.scored) for tree in batch)
        self.new, self.scored = self._size * self._rows, self._size * self._scored
        self._batch = batch
        self._are_chains = all(tree.is_chain for tree in batch)

    def works(self, mode: Mode) -> float:
        """Return the most bytes that an instruction takes beside what it reads and returns."""
        state, each = _state_bytes(self._model), working(self._model)
        behind = self._prefix + self._rows
        if mode == "noise":
            kind, numbers = self._model.counted_device.type, self.new * self._model.hidden
            drawn = NUMBERS_DRAWN_AT_ONCE.get(kind, NUMBERS_DRAWN_AT_ONCE_ELSEWHERE)
            return float(self.new * state) + _BYTES_DRAWN * min(numbers, drawn)
        if mode == "inject":
            return 2.0 * self.new * state
        if mode == "current":
            return self._block(self.scored, 0, 0) - self.scored * state
        if mode == "joint":
            is_plain = not self._prefix and self._are_chains and self._asked.reads != "texts"
            works = self._block(self.new, behind, self._rows, is_plain)
            return works - self.new * state
        if mode == "record":
            return 0.0
        keys = behind + self._scored
        if mode == "split":
            both = self.new + self.scored  # they are read as one tensor, made for that
            return self._block(both, keys, self._rows + self._scored)
        alone = self.new * each.keys_alone
        current = self._block(self.scored, keys, self._scored) - self.scored * state
        return max(alone, self.new * each.kept + current)

    def _block(self, rows: int, keys: int, of_sequence: int, is_plain: bool = False) -> float:
        pairs = self._size * of_sequence * keys
        each = working(self._model)
        pieces = 0.0
        if self._is_long(of_sequence, keys):
            pairs, pieces = 0, MASK_NUMBERS_AT_ONCE * (1 + _state_itemsize(self._model))
        return each.block(rows, self._size * keys, pairs, is_plain) + pieces

    def _is_long(self, rows: int, keys: int) -> bool:
        numbers = self._size * rows * keys
        return numbers > NUMBERS_OF_A_MASK and makes_no_large_masks(self._model, self._tokens)

    def masks(self, held: Moment) -> float:
        """Return the bytes of what blocks are called with: masks, and tables of rows run apart."""
        return sum((size for name, size in self._frames.items() if getattr(held, name)), 0.0)

    @property
    def tables(self) -> float:
        """The bytes of positions, rotary tables and what else says which row is which."""
        return float(self.new) * (working(self._model).entered + 8 * _NUMBERS_OF_A_ROW)

    @cached_property
    def _frames(self) -> dict[str, float]:
        """By the rows that run, what is there once they have run."""
        behind, frames = self._prefix + self._rows, dict[str, float]()
        if self._prefix or not self._are_chains:
            frames["joint"] = self._mask(self._rows, behind, is_picked=False)
        are_alike = all(tree.scored == self._batch[0].scored for tree in self._batch)
        is_picked = are_alike and self._model.rowwise is not None
        each = working(self._model).entered - is_picked * _state_bytes(self._model)
        both, keys = self._rows + self._scored, behind + self._scored
        frames["split"] = self._size * both * each + self._mask(both, keys, is_picked)
        frames["current"] = self.scored * each + self._mask(self._scored, keys, is_picked)
        return frames

    def _mask(self, rows: int, keys: int, is_picked: bool) -> float:
        """Return the bytes of the masks of so many rows, one for each kind of layer.

        The model's own forward leaves one, too, unless arguments are picked from a call before. On
        a processor attention keeps the parts of them that any row sees.
        """
        if self._is_long(rows, keys):
            return 0.0
        numbers = self._size * rows * keys
        rules = self._model.visibility(self._tokens).rules
        size = numbers * _state_itemsize(self._model) * len(rules)
        own = 0 if is_picked else self._size * rows * rows
        if self._model.counted_device.type != "cpu" or self._asked.reads == "texts":
            return float(own + size)
        seen = sum(depth + 1 for tree in self._batch for depth in tree.depths) / self.new
        return float(own) + size * (1 + min(1, (self._prefix + seen + ROWS_PER_PIECE / 2) / keys))


def _donor_rows(batch: Sequence[PrefixTree], requests: Sequence[TokenRequest]) -> int:
    """Return the rows of the donor prompts of a batch, padding included, of the longest name."""
    given = [requests[tree.requests[0]].transplants.values() for tree in batch]
    return len(batch) * max((len(one.ids) for some in given for one in some), default=0)


def _state_itemsize(model: OpenedModel) -> int:
    return model.hf.dtype.itemsize


def _state_bytes(model: OpenedModel) -> int:
    return model.hidden * model.hf.dtype.itemsize
