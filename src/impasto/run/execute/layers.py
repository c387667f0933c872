"""Running layers and branches on the rows of a batch, with keys and values.

How rows run is said by the instruction (:mod:`impasto.plan.program`); a call of a block is made for
all rows that it can be made for at once (:mod:`impasto.run.execute.frames`).
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import NamedTuple, TypeVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from impasto.model.decoder import OpenedModel
from impasto.model.structure.block import Arguments, Entered
from impasto.plan.program import Occurrence, Run, RunBranches, RunLayer
from impasto.run.execute.branches import Branch, Merge, SideBySide, columns, scaled
from impasto.run.execute.frames import Frame, Frames
from impasto.run.execute.reached import Reached
from impasto.run.execute.rows import Batch
from impasto.run.kv.buffers import KeysValues, empty_keys_values
from impasto.run.kv.cache import BlockCache, KeysAndValuesReady, Past, PastByOccurrence

_T = TypeVar("_T")


class State(NamedTuple):
    """The rows of a batch after some instructions.

    Attributes:
        earlier: The new tokens' states; as long as rows are joint, of current tokens too.
        current: Once they are split: the scored tokens' states as current tokens.
        keys_values: The keys and values of earlier tokens at each attention so far, where they are
            recorded.
        prefix: The rows of the tokens that all sequences begin with, after the same instructions.
    """

    earlier: Float[Tensor, "batch new hidden"]
    current: Float[Tensor, "batch scored hidden"] | None = None
    keys_values: Mapping[Occurrence, KeysValues] = MappingProxyType({})
    prefix: "State | None" = None

    @property
    def latest(self) -> Float[Tensor, "batch rows hidden"]:
        """The states as current tokens: of the scored tokens, or of all before the first marker."""
        return self.earlier if self.current is None else self.current


@dataclass(frozen=True)
class LayerRunner:
    """Runs layers and branches on one batch.

    Attributes:
        model: The model.
        batch: Its sequences.
        past: The keys and values at each attention of tokens that were read before, or the buffer
            that holds them.
        records: Whether keys and values are recorded in the state, for tokens to come.
        given: The joint rows as the model's own forward prepared them, where that is under way.
        prefix: The executor of one sequence that all of these follow. It runs the same
            instructions first, and the keys and values that it records are the past of these.
        frozen: Which sequences' earlier rows stay as they are, where the mode of rows is split
            for all but KV-only for some.
        runs_kv_only_along: Whether KV-only rows run beside the current ones, though only their
            keys and values are wanted: where both are few, one call costs less than two.
        side_by_side: Which layers of branches can run in one call. Then the past is
            :class:`impasto.run.kv.cache.PastByOccurrence`, if there is any.
    """

    model: OpenedModel
    batch: Batch
    past: Mapping[Occurrence, Past] = field(default_factory=dict)
    records: bool = False
    given: Entered | None = None
    prefix: "LayerRunner | None" = None
    frozen: Bool[Tensor, "batch"] | None = None
    runs_kv_only_along: bool = False
    side_by_side: SideBySide | None = None

    @cached_property
    def frames(self) -> Frames:
        """The rows that each call of a block runs, and which keys they see."""
        return Frames(self.model, self.batch, self.given)

    @property
    def shared(self) -> int:
        """How many leading tokens the sequences read together."""
        return 0 if self.prefix is None else self.prefix.batch.ids.shape[1]

    def run(self, instruction: Run, state: State) -> State:
        """Run a layer or branches; the prefix has run them already."""
        if isinstance(instruction, RunBranches):
            return self._branches(instruction, state)
        return self._layer(instruction, state)

    def _branches(self, instruction: RunBranches, state: State) -> State:
        """Run every branch from the same state; merge by mean, or by sum of contributions."""
        stays, branches = instruction.rows == "kv-only", instruction.branches
        earlier = Merge(instruction, state.earlier)
        current = None if state.current is None else Merge(instruction, state.current)
        recorded = state.keys_values
        for run in self._runs(instruction, state):
            after = state._replace(keys_values=recorded)
            if len(run) > 1:
                after = self._together([branches[place] for place in run], after)
            else:
                for inner in branches[run[0]]:
                    after = self.run(inner, after)
            recorded = after.keys_values
            if not stays:
                earlier.add(after.earlier, len(run))
            if current is not None:
                current.add(_present(after.current), len(run))
        before = state.earlier
        return state._replace(
            earlier=before if stays else self._held(instruction, before, earlier.result()),
            current=None if current is None else current.result(),
            keys_values=recorded,
        )

    def _runs(self, instruction: RunBranches, state: State) -> Sequence[Sequence[int]]:
        """Part branches, by index, into runs that go side by side."""
        branches = instruction.branches
        if instruction.holds_prompt:  # in one call, a chain's first layer would move its rows
            return [[place] for place in range(len(branches))]
        if self.side_by_side is None or (
            instruction.rows == "kv-only" and not self.runs_kv_only_along
        ):
            return [[place] for place in range(len(branches))]
        return self.side_by_side.runs(branches, self._frame(state))

    def _together(self, branches: Sequence[Branch], state: State) -> State:
        """Run branches side by side; their last states come one branch's behind the other's."""
        stacked, frame, count = _present(self.side_by_side), self._frame(state), len(branches)
        size, new = state.earlier.shape[:2]
        before = rows = state.earlier.repeat(count, 1, 1)
        if state.current is not None:
            current = state.current.repeat(count, 1, 1)
            rows = torch.cat([before.to(current.device), current], 1)
        recorded = dict(state.keys_values)
        for column in columns(branches):
            arguments = stacked.arguments(column, frame)
            attentions = [each.occurrence for each in column if each.occurrence is not None]
            keys_values = None
            if not attentions or not (self.past or self.records):
                rows = stacked.call(column, rows, arguments)
            elif not self.model.blocks[column[0].layer].leaves_keys:
                rows = stacked.call(column, rows, arguments)
                keys_values = empty_keys_values(before, self._length(attentions[0], new))
            else:
                cache = BlockCache(self._past_side_by_side(attentions), new)
                rows = stacked.call(column, rows, self._cached(arguments, cache))
                keys_values = cache.keys_values
            if keys_values is not None and self.records:
                for place, occurrence in enumerate(attentions):
                    recorded[occurrence] = keys_values.sequences(
                        slice(place * size, (place + 1) * size)
                    )
            if column[0].rows == "kv-only":
                rows = torch.cat([before.to(rows.device), rows[:, new:]], 1)
        return state._replace(
            earlier=rows[:, :new],
            current=None if state.current is None else rows[:, new:],
            keys_values=recorded,
        )

    def _frame(self, state: State) -> Frame:
        """Return the frame of all rows."""
        return self.frames.joint if state.current is None else self.frames.split

    def _past_side_by_side(self, attentions: Sequence[Occurrence]) -> Past | None:
        if not self.past:
            return None
        assert isinstance(self.past, PastByOccurrence), (
            "keys and values of attentions can lie side by side"
        )
        return self.past.side_by_side(attentions)

    def _layer(self, instruction: RunLayer, state: State) -> State:
        if state.current is None and instruction.holds_prompt:
            return self._later(instruction, state)
        if state.current is None:
            earlier, state = self._call(instruction, state.earlier, self.frames.joint, state)
            return state._replace(earlier=earlier)
        is_kv_only = instruction.rows == "kv-only"
        if is_kv_only and (instruction.occurrence is None or not self.runs_kv_only_along):
            return self._kv_only(instruction, state, state.current)
        count = state.earlier.shape[1]
        rows = torch.cat([state.earlier.to(state.current.device), state.current], 1)
        rows, after = self._call(instruction, rows, self.frames.split, state)
        earlier = state.earlier if is_kv_only else rows[:, :count]
        if self.frozen is not None:
            frozen = self.frozen[:, None, None].to(earlier.device)
            earlier = torch.where(frozen, state.earlier.to(earlier.device), earlier)
        earlier = self._held(instruction, state.earlier, earlier)
        return after._replace(earlier=earlier, current=rows[:, count:])

    def _held(self, instruction: Run, before: Tensor, after: Tensor) -> Tensor:
        """Return earlier rows, the prompt's as they were where an instruction holds them."""
        if not instruction.holds_prompt:
            return after
        is_prompt = self.batch.is_prompt[..., None].to(after.device)
        return torch.where(is_prompt, before.to(after.device), after)

    def _later(self, instruction: RunLayer, state: State) -> State:
        """Run a layer on joint rows but the prompt's; of those, only their keys and values."""
        occurrence, later = instruction.occurrence, self.batch.later
        rows, arguments = later.pick(state.earlier), Arguments()
        if rows.shape[1]:
            arguments = self.frames.later.arguments(instruction.layer, instruction.reach)
        block, cache = self.model.blocks[instruction.layer], None
        if occurrence is not None and block.leaves_keys:
            new, past = self._keys_values_of_earlier(instruction, state)
            cache = BlockCache(past, rows.shape[1], between=new, adds=False)
            if not rows.shape[1]:  # of a prefix, all rows are the prompt's
                cache.update(*_none_of(new), instruction.layer)
            arguments = self._cached(arguments, cache)
        if rows.shape[1]:
            after = block(rows, arguments, instruction.part)
            after = after if instruction.scale == 1 else scaled(instruction.scale, rows, after)
            state = state._replace(earlier=later.put(state.earlier.to(after.device), after))
        return state if occurrence is None else self._noted(instruction, state, cache)

    def _kv_only(self, instruction: RunLayer, state: State, current: Tensor) -> State:
        """Run a layer on current rows; of earlier rows only their keys and values."""
        block, occurrence = self.model.blocks[instruction.layer], instruction.occurrence
        if occurrence is None:
            return state._replace(current=self._on_current(instruction, current, None))
        if not block.leaves_keys:
            current = self._on_current(instruction, current, None)
            return self._noted(instruction, state._replace(current=current), None)
        new, past = self._keys_values_of_earlier(instruction, state)
        joined = BlockCache(past, 0, between=new)
        if current.shape[1]:
            current = self._on_current(instruction, current, joined)
        else:  # a prefix has none
            joined.update(*_none_of(new), instruction.layer)
        return self._noted(instruction, state._replace(current=current), joined)

    def _keys_values_of_earlier(
        self, instruction: RunLayer, state: State
    ) -> tuple[KeysValues, Past | None]:
        """Return the keys and values of new rows as earlier tokens, and those before them."""
        assert instruction.occurrence is not None, "it has attention"
        past = self._past(instruction.occurrence, state)
        block = self.model.blocks[instruction.layer]
        cache = BlockCache(past, state.earlier.shape[1], kv_only=True)
        with suppress(KeysAndValuesReady), block.without_queries():
            arguments = self.frames.joint.arguments(instruction.layer)
            block(state.earlier, self._cached(arguments, cache))
        return _present(cache.new), past

    def _on_current(
        self, instruction: RunLayer, current: Tensor, cache: BlockCache | None
    ) -> Tensor:
        """Run a block on current rows alone, which see what a cache holds."""
        if not current.shape[1]:
            return current
        arguments = self.frames.current.arguments(instruction.layer, instruction.reach)
        if cache is not None:
            arguments = self._cached(arguments, cache)
        after = self.model.blocks[instruction.layer](current, arguments, instruction.part)
        return after if instruction.scale == 1 else scaled(instruction.scale, current, after)

    def _call(
        self, instruction: RunLayer, rows: Tensor, frame: Frame, state: State
    ) -> tuple[Tensor, State]:
        """Run a block on all rows of a frame; what it adds counts as often as its scale says."""
        after, state = self._called(instruction, rows, frame, state)
        return (after if instruction.scale == 1 else scaled(instruction.scale, rows, after)), state

    def _called(
        self, instruction: RunLayer, rows: Tensor, frame: Frame, state: State
    ) -> tuple[Tensor, State]:
        layer, part, occurrence = instruction.layer, instruction.part, instruction.occurrence
        block, arguments = self.model.blocks[layer], frame.arguments(layer, instruction.reach)
        if occurrence is None:
            return block(rows, arguments, part), state
        if not block.leaves_keys:
            return block(rows, arguments, part), self._noted(instruction, state, None)
        past = self._past(occurrence, state)
        if past is None and not self.records:
            return block(rows, arguments, part), state
        cache = BlockCache(past, state.earlier.shape[1])
        rows = block(rows, self._cached(arguments, cache), part)
        return rows, self._noted(instruction, state, cache)

    def _past(self, occurrence: Occurrence, state: State) -> Past | None:
        if self.prefix is None:
            return self.past[occurrence] if self.past else None
        shared = _present(state.prefix).keys_values[occurrence]
        size = self.batch.ids.shape[0]
        return KeysValues(*(each.expand(size, -1, -1, -1) for each in shared))

    def _noted(self, instruction: RunLayer, state: State, cache: BlockCache | None) -> State:
        """Record the keys and values at an attention, where they are recorded.

        Of one under a reach, those that later tokens can see.
        """
        if not self.records:
            return state
        occurrence = _present(instruction.occurrence)
        if cache is None:
            new = state.earlier.shape[1]
            keys_values = empty_keys_values(state.earlier, self._length(occurrence, new))
        else:
            keys_values = cache.keys_values
            if instruction.reach is not None:
                keys_values = Reached.of(self.batch, instruction.reach).kept(keys_values)
        return state._replace(keys_values={**state.keys_values, occurrence: keys_values})

    def _length(self, occurrence: Occurrence, new: int) -> int:
        """Return how many tokens an attention has read, ``new`` ones included."""
        before = self.past[occurrence].length if self.past else self.shared
        return before + new

    def _cached(self, arguments: Arguments, cache: BlockCache) -> Arguments:
        name = self.model.habits.cache_argument
        return arguments | {name: cache} | ({"use_cache": True} if "use_cache" in arguments else {})


def _none_of(new: KeysValues) -> KeysValues:
    return KeysValues(new.keys[:, :, :0], new.values[:, :, :0])


def _present(value: _T | None) -> _T:
    assert value is not None
    return value
