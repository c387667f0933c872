"""Running a program: one instruction after another, on the rows of a batch.

What each instruction does to which rows is said by :mod:`impasto.plan.program`; here it is done.
States are values, so that a run can part anywhere. ``tests/reference.py`` is the same in its naive
form.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import NamedTuple, TypeVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from impasto.model.decoder import Entered, OpenedModel
from impasto.model.structure.anatomy import ModelError
from impasto.model.structure.block import Arguments
from impasto.plan.program import (
    InjectDonor,
    Instruction,
    Occurrence,
    ReplaceByNoise,
    Run,
    RunBranches,
    RunLayer,
    Split,
)
from impasto.run.attention.choice import own_attention
from impasto.run.execute.merge import Merge
from impasto.run.execute.noise import NoiseSource, noise
from impasto.run.execute.rows import Batch, Frame, Frames
from impasto.run.execute.side_by_side import Branch, SideBySide, columns
from impasto.run.kv.buffers import KeysValues, empty_keys_values, trim_heap
from impasto.run.kv.cache import (
    BlockCache,
    BufferRows,
    KeysAndValuesReady,
    Past,
    PastByOccurrence,
)

_T = TypeVar("_T")


class State(NamedTuple):
    """Where a run stands.

    Attributes:
        earlier: The new tokens' states; as long as rows are joint, of current tokens too.
        current: Once they are split: the scored tokens' states as current tokens.
        kept: What earlier tokens left at each attention so far, where that is recorded.
        prefix: Where the run of the tokens stands that all sequences begin with.
    """

    earlier: Float[Tensor, "batch new hidden"]
    current: Float[Tensor, "batch scored hidden"] | None = None
    kept: Mapping[Occurrence, KeysValues] = MappingProxyType({})
    prefix: "State | None" = None

    @property
    def latest(self) -> Float[Tensor, "batch rows hidden"]:
        """The states as current tokens: of the scored tokens, or of all before the first marker."""
        return self.earlier if self.current is None else self.current


@dataclass(frozen=True)
class Splice:
    """Rows to be set to rows of a donor prompt.

    Attributes:
        target: The rows to be replaced, by index among the new tokens.
        source: The donor's rows that replace them.
        is_real: Where the two above are no padding.
    """

    target: Int[Tensor, "batch width"]
    source: Int[Tensor, "batch width"]
    is_real: Bool[Tensor, "batch width"]


@dataclass(frozen=True)
class Executor:
    """Runs steps on one batch.

    Attributes:
        model: The model.
        batch: Its sequences.
        past: What earlier tokens left at each attention.
        records: Whether keys and values are to be kept for tokens to come.
        given: The trunk as the model's own forward prepared it, where that is under way.
        prefix: The executor of one sequence that all of these follow. It walks along and keeps its
            keys and values, which are the past of these.
        held: Which sequences' earlier tokens are frozen, where they are not all alike.
        packs_held: Whether frozen rows run beside the current ones, though only their keys and
            values are wanted: where both are few, one call costs less than two.
        abreast: Which layers of branches can run side by side, in one call. Then the past is
            :class:`impasto.run.kv.cache.PastByOccurrence`, if there is any.
    """

    model: OpenedModel
    batch: Batch
    past: Mapping[Occurrence, Past] = field(default_factory=dict)
    records: bool = False
    given: Entered | None = None
    prefix: "Executor | None" = None
    held: Bool[Tensor, "batch"] | None = None
    packs_held: bool = False
    abreast: SideBySide | None = None

    @cached_property
    def frames(self) -> Frames:
        """The rows that each call of a block runs, and what they see."""
        return Frames(self.model, self.batch, self.given)

    def part(
        self,
        frames: Frames,
        past: Mapping[Occurrence, BufferRows],
        held: Bool[Tensor, "batch"] | None,
    ) -> "Executor":
        """Return the executor of some batch entries, with places for their keys and values."""
        executor = Executor(self.model, frames.batch, past, held=held)
        executor.__dict__["frames"] = frames
        return executor

    def start(self) -> State:
        """Return the state at depth 0: the embeddings."""
        self._refuse_changing_tables()
        before = None if self.prefix is None else self.prefix.start()
        return State(self.frames.trunk.entered.states, prefix=before)

    def _refuse_changing_tables(self) -> None:
        """Raise where a model's rotary tables would be others than for the beginning of a text."""
        limit, batch = self.model.length_limit, self.batch
        if limit is None or batch.ids.shape[1] + batch.past.shape[1] <= limit.tokens:
            return
        length = int(batch.positions[batch.is_real].max()) + 1
        if length > limit.tokens:
            raise ModelError(
                f"a text of {length} tokens is too long for plans on this model: beyond "
                f"{limit.tokens} tokens its rotary tables change with the length of the text "
                f"(rope_type {limit.rope_type!r}), so what it makes of a token depends on how many "
                "follow; shorten the text"
            )

    @property
    def shared(self) -> int:
        """How many leading tokens the sequences read together."""
        return 0 if self.prefix is None else self.prefix.batch.ids.shape[1]

    def step(self, instruction: Instruction, state: State) -> State:
        """Run one instruction of a program; injections have :meth:`inject`."""
        return self.follow(instruction, self.ahead(instruction, state))

    def ahead(self, instruction: Instruction, state: State) -> State:
        """Run an instruction on the prefix, if there is one."""
        if self.prefix is None:
            return state
        return state._replace(prefix=self.prefix.step(instruction, _present(state.prefix)))

    def follow(self, instruction: Instruction, state: State) -> State:
        """Run an instruction that the prefix has run already."""
        match instruction:
            case RunLayer() | RunBranches():
                if not self.frames.are_long:
                    return self._advance(instruction, state)
                trim_heap()  # what the last block worked on, lest the heap grow around what stays
                with own_attention(self.model):
                    return self._advance(instruction, state)
            case Split():
                return state._replace(current=self.batch.pick(state.earlier))
            case ReplaceByNoise():
                return self._noised(instruction, state)
            case InjectDonor():
                raise TypeError("an injection is run by Executor.inject, with its donor's state")

    def finish(self, state: State) -> Float[Tensor, "predictions hidden"]:
        """Return the states of depth T that predictions are made from, batch entry by entry."""
        rows = self.batch.pick(state.earlier) if state.current is None else state.current
        return rows[self.batch.is_scored.to(rows.device)]

    def inject(
        self,
        instruction: InjectDonor,
        state: State,
        splice: Splice,
        donor: "Executor",
        given: State,
    ) -> State:
        """Set target rows to the donor's rows at the same depth."""
        rows = given.earlier
        if given.current is not None:  # the donor prompt's last token is its current one
            last = donor.batch.scored
            rows = rows.scatter(1, last[..., None].expand_as(given.current), given.current)
        at = splice.is_real.nonzero(as_tuple=True)
        index, source = splice.target[at], splice.source[at]
        replaced = state.earlier.clone()
        replaced[at[0], index] = rows[at[0], source].to(replaced.device)
        if state.current is None:
            return state._replace(earlier=replaced)
        hit = torch.zeros(replaced.shape[:2], dtype=torch.bool, device=replaced.device)
        hit[at[0], index] = True
        picked = self.batch.pick(hit)[..., None]
        current = torch.where(picked, self.batch.pick(replaced), state.current)
        earlier = state.earlier if instruction.rows == "kv-only" else replaced
        return state._replace(earlier=earlier, current=current)

    def _noised(self, instruction: ReplaceByNoise, state: State) -> State:
        keys = self.batch.hashed[0].to(state.earlier.device)
        drawn = noise(state.earlier, keys, source_of(instruction))
        spared = (self.batch.index < instruction.keep)[..., None].to(drawn.device)
        return state._replace(earlier=torch.where(spared, state.earlier, drawn))

    def _advance(self, instruction: Run, state: State) -> State:
        if isinstance(instruction, RunBranches):
            return self._branches(instruction, state)
        return self._layer(instruction, state)

    def _branches(self, instruction: RunBranches, state: State) -> State:
        """Run every branch from the same state; merge by mean, or by sum of contributions."""
        stays, branches = instruction.rows == "kv-only", instruction.branches
        earlier = Merge(instruction.combine, state.earlier)
        current = None if state.current is None else Merge(instruction.combine, state.current)
        kept = state.kept
        for run in self._runs(instruction, state):
            after = state._replace(kept=kept)
            if len(run) > 1:
                after = self._together([branches[place] for place in run], after)
            else:
                for inner in branches[run[0]]:
                    after = self._advance(inner, after)
            kept = after.kept
            if not stays:
                earlier.add(after.earlier, len(run))
            if current is not None:
                current.add(_present(after.current), len(run))
        return state._replace(
            earlier=state.earlier if stays else earlier.result(),
            current=None if current is None else current.result(),
            kept=kept,
        )

    def _runs(self, instruction: RunBranches, state: State) -> Sequence[Sequence[int]]:
        """Part branches, by index, into runs that go side by side."""
        branches = instruction.branches
        if self.abreast is None or (instruction.rows == "kv-only" and not self.packs_held):
            return [[place] for place in range(len(branches))]
        return self.abreast.runs(branches, self._frame(state))

    def _together(self, branches: Sequence[Branch], state: State) -> State:
        """Run branches side by side; the states that they end in come one's behind the other's."""
        abreast, frame, count = _present(self.abreast), self._frame(state), len(branches)
        size, new = state.earlier.shape[:2]
        before = rows = state.earlier.repeat(count, 1, 1)
        if state.current is not None:
            rows = torch.cat([before, state.current.repeat(count, 1, 1)], 1)
        kept = dict(state.kept)
        for column in columns(branches):
            arguments = abreast.arguments(column, frame)
            attentions = [each.occurrence for each in column if each.occurrence is not None]
            left = None
            if not attentions or not (self.past or self.records):
                rows = abreast.call(column, rows, arguments)
            elif not self.model.blocks[column[0].layer].leaves_keys:
                rows = abreast.call(column, rows, arguments)
                left = empty_keys_values(before, self._slots(attentions[0], new))
            else:
                slot = BlockCache(self._past_abreast(attentions), new)
                rows = abreast.call(column, rows, self._cached(arguments, slot))
                left = slot.keys_values
            if left is not None and self.records:
                for place, occurrence in enumerate(attentions):
                    kept[occurrence] = left.sequences(slice(place * size, (place + 1) * size))
            if column[0].rows == "kv-only":
                rows = torch.cat([before, rows[:, new:]], 1)
        return state._replace(
            earlier=rows[:, :new],
            current=None if state.current is None else rows[:, new:],
            kept=kept,
        )

    def _frame(self, state: State) -> Frame:
        """Return the frame of all rows."""
        return self.frames.trunk if state.current is None else self.frames.packed

    def _past_abreast(self, attentions: Sequence[Occurrence]) -> Past | None:
        if not self.past:
            return None
        assert isinstance(self.past, PastByOccurrence), "what attentions left can lie side by side"
        return self.past.side_by_side(attentions)

    def _layer(self, instruction: RunLayer, state: State) -> State:
        if state.current is None:
            earlier, state = self._call(instruction, state.earlier, self.frames.trunk, state)
            return state._replace(earlier=earlier)
        is_kv_only = instruction.rows == "kv-only"
        if is_kv_only and (instruction.occurrence is None or not self.packs_held):
            return self._kv_only(instruction, state, state.current)
        count = state.earlier.shape[1]
        rows = torch.cat([state.earlier, state.current], 1)
        rows, after = self._call(instruction, rows, self.frames.packed, state)
        earlier = state.earlier if is_kv_only else rows[:, :count]
        if self.held is not None:
            earlier = torch.where(self.held[:, None, None], state.earlier, earlier)
        return after._replace(earlier=earlier, current=rows[:, count:])

    def _kv_only(self, instruction: RunLayer, state: State, current: Tensor) -> State:
        """Run a layer on current rows; earlier rows give it keys and values, no more."""
        block, occurrence = self.model.blocks[instruction.layer], instruction.occurrence
        if occurrence is None:
            return state._replace(current=self._on_current(instruction, current, None))
        if not block.leaves_keys:
            current = self._on_current(instruction, current, None)
            return self._noted(occurrence, state._replace(current=current), None)
        past, count = self._past(occurrence, state), state.earlier.shape[1]
        slot = BlockCache(past, count, kv_only=True)
        with suppress(KeysAndValuesReady), block.without_queries():
            arguments = self.frames.trunk.arguments(instruction.layer)
            block(state.earlier, self._cached(arguments, slot))
        seen = BlockCache(past, 0, between=slot.new)
        if current.shape[1]:
            current = self._on_current(instruction, current, seen)
        else:  # a prefix has none
            keys, values = _present(slot.new)
            seen.update(keys[:, :, :0], values[:, :, :0], instruction.layer)
        return self._noted(occurrence, state._replace(current=current), seen)

    def _on_current(
        self, instruction: RunLayer, current: Tensor, seen: BlockCache | None
    ) -> Tensor:
        """Run a block on current rows alone, which see what a slot holds."""
        if not current.shape[1]:
            return current
        arguments = self.frames.current.arguments(instruction.layer)
        if seen is not None:
            arguments = self._cached(arguments, seen)
        return self.model.blocks[instruction.layer](current, arguments, instruction.part)

    def _call(
        self, instruction: RunLayer, rows: Tensor, frame: Frame, state: State
    ) -> tuple[Tensor, State]:
        """Run a block on all rows of a frame."""
        layer, part, occurrence = instruction.layer, instruction.part, instruction.occurrence
        block, arguments = self.model.blocks[layer], frame.arguments(layer)
        if occurrence is None:
            return block(rows, arguments, part), state
        if not block.leaves_keys:
            return block(rows, arguments, part), self._noted(occurrence, state, None)
        past = self._past(occurrence, state)
        if past is None and not self.records:
            return block(rows, arguments, part), state
        slot = BlockCache(past, state.earlier.shape[1])
        rows = block(rows, self._cached(arguments, slot), part)
        return rows, self._noted(occurrence, state, slot)

    def _past(self, occurrence: Occurrence, state: State) -> Past | None:
        if self.prefix is None:
            return self.past[occurrence] if self.past else None
        shared = _present(state.prefix).kept[occurrence]
        size = self.batch.ids.shape[0]
        return KeysValues(*(each.expand(size, -1, -1, -1) for each in shared))

    def _noted(self, occurrence: Occurrence, state: State, slot: BlockCache | None) -> State:
        """Note what an attention has left, where that is recorded."""
        if not self.records:
            return state
        if slot is None:
            new = state.earlier.shape[1]
            left = empty_keys_values(state.earlier, self._slots(occurrence, new))
        else:
            left = slot.keys_values
        return state._replace(kept={**state.kept, occurrence: left})

    def _slots(self, occurrence: Occurrence, new: int) -> int:
        """Return how many tokens an attention has seen, so many new ones with them."""
        before = self.past[occurrence].length if self.past else self.shared
        return before + new

    def _cached(self, arguments: Arguments, slot: BlockCache) -> Arguments:
        name = self.model.habits.cache_argument
        return arguments | {name: slot} | ({"use_cache": True} if "use_cache" in arguments else {})


def source_of(instruction: ReplaceByNoise) -> NoiseSource:
    """Return what an instruction's noise is drawn from."""
    return NoiseSource(instruction.kind, instruction.seed, instruction.depth, instruction.number)


def _present(value: _T | None) -> _T:
    assert value is not None
    return value
