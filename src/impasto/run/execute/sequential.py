"""Running a program where rows cannot be packed: whole sequences, one stretch behind the other.

Every occurrence has a state of its own (:mod:`impasto.run.kv.states`): what it has read of each
sequence. A layer runs stretch by stretch (:mod:`impasto.run.batching.stretches`), each from the
states in which the one before left its sequences; sequences that part go on from copies. A current
row takes one step from a copy of the state that the earlier rows before it left, so once rows are
split, each scored token begins a stretch.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from impasto.model.decoder import OpenedModel
from impasto.model.structure.block import Entered
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
from impasto.run.batching.batches import rows_per_call
from impasto.run.batching.stretches import TokenTree, stretches
from impasto.run.execute.branches import Merge
from impasto.run.execute.executor import refuse_changing_tables, source_of
from impasto.run.execute.handed import Handed, Handing
from impasto.run.execute.stretch_calls import Before, Read, StretchCall, TreeSplice, habits_of
from impasto.run.execute.stretch_layer import StretchLayer
from impasto.run.kv.states import CarriedState, LayerState, RowsRead, joined_states
from impasto.run.noise import noise, prefix_keys

EndStates = Sequence[tuple[list[int], LayerState]]
"""The states at the end of requests: for each stretch at which some end, these and their state."""


class TreeState(NamedTuple):
    """The rows of a tree of tokens after some instructions.

    Attributes:
        earlier: The tokens' states; as long as rows are joint, of current tokens too.
        current: Once they are split: the scored tokens' states as current tokens.
        last: The states of each occurrence at the end of requests, where they are kept.
        handed: The keys and values that layers have written for others, by name.
    """

    earlier: Float[Tensor, "tokens hidden"]
    current: Float[Tensor, "scored hidden"] | None = None
    last: Mapping[Occurrence, EndStates] = MappingProxyType({})
    handed: Mapping[Any, Handed] = MappingProxyType({})


@dataclass(frozen=True)
class SequentialExecutor:
    """Runs the instructions of a program on a tree of tokens.

    Attributes:
        model: The model.
        tree: The tokens.
        records: Whether the states at the end of requests are kept, for tokens to come.
        past: What was read before; None for nothing.
        given: What the model's own forward prepared, where all tokens are read in one stretch.
    """

    model: OpenedModel
    tree: TokenTree
    records: bool = False
    past: Read | None = None
    given: Entered | None = None

    @cached_property
    def joint(self) -> list[StretchCall]:
        """The stretches in which joint rows are read."""
        return self._calls(single=False)

    @cached_property
    def split(self) -> list[StretchCall]:
        """The stretches in which split rows are read."""
        return self._calls(single=True)

    def start(self) -> TreeState:
        """Return the state at depth 0: the embeddings."""
        for call in self.joint:
            refuse_changing_tables(self.model, call.read.shape[1])
        parts = [(call, call.embedded) for call in self.joint]
        like = parts[0][1]
        return TreeState(self._scattered(parts, like.new_zeros(len(self.tree.ids), like.shape[2])))

    def step(self, instruction: Instruction, state: TreeState) -> TreeState:
        """Run one instruction of a program; injections have :meth:`inject`."""
        match instruction:
            case RunLayer():
                return self._layer(instruction, state)
            case RunBranches():
                return self._branches(instruction, state)
            case Split():
                handed = {name: each.split(self._scored) for name, each in state.handed.items()}
                return state._replace(current=state.earlier[self._scored], handed=handed)
            case ReplaceByNoise():
                return self._noised(instruction, state)
            case InjectDonor():
                raise TypeError("an injection is run by inject, with its donor's state")

    def finish(self, state: TreeState) -> Float[Tensor, "predictions hidden"]:
        """Return the last states, from which predictions are made, in the order of the tree's."""
        return state.earlier[self._scored] if state.current is None else state.current

    def inject(
        self,
        instruction: InjectDonor,
        state: TreeState,
        splice: TreeSplice,
        donor: "SequentialExecutor",
        given: TreeState,
    ) -> TreeState:
        """Set target rows to the donor's rows at the same depth."""
        rows = given.earlier
        if given.current is not None:  # the donor prompt's last token is its current one
            rows = rows.index_copy(0, donor._scored, given.current)
        target, source = splice.target, splice.source
        if instruction.holds_prompt:
            is_free = ~self._is_prompt[target]
            target, source = target[is_free], source[is_free]
        replaced = state.earlier.index_copy(0, target, rows[source])
        if state.current is None:
            return state._replace(earlier=replaced)
        hit = torch.zeros(len(replaced), dtype=torch.bool, device=replaced.device)
        hit[target] = True
        picked = hit[self._scored][:, None]
        current = torch.where(picked, replaced[self._scored], state.current)
        earlier = state.earlier if instruction.rows == "kv-only" else replaced
        return state._replace(earlier=earlier, current=current)

    def read_at_ends(self, state: TreeState) -> Iterator[tuple[list[int], Read]]:
        """Yield the requests that are equally long, and what was read of them."""
        _, totals, places = self._hashed
        by_length: dict[int, dict[int, Tensor]] = {}
        for call in self.joint:
            for sequence, request in call.stretch.ended:
                by_length.setdefault(call.read.shape[1], {})[request] = call.read[sequence]
        for length, ids in by_length.items():
            requests = sorted(ids)
            states = {
                occurrence: _state_of(kept, requests, length)
                for occurrence, kept in state.last.items()
            }
            ends = [self.tree.ends[request] for request in requests]
            read = torch.stack([ids[request] for request in requests])
            yield requests, Read(read, states, totals[ends], places[ends] + 1)

    @cached_property
    def _is_prompt(self) -> Bool[Tensor, "tokens"]:
        return torch.tensor(self.tree.is_prompt, dtype=torch.bool, device=self.model.device)

    def _held(self, run: Run, before: Tensor, after: Tensor) -> Float[Tensor, "tokens hidden"]:
        """Return rows, the prompt's as they were where an instruction holds them."""
        if not run.holds_prompt:
            return after
        return torch.where(self._is_prompt[:, None], before.to(after.device), after)

    @cached_property
    def _scored(self) -> Int[Tensor, "scored"]:
        return torch.tensor(self.tree.scored, dtype=torch.long, device=self.model.device)

    def _calls(self, single: bool) -> list[StretchCall]:
        ids = torch.tensor(self.tree.ids, device=self.model.device)
        scored = {row: place for place, row in enumerate(self.tree.scored)} if single else {}
        first = ids.new_zeros(self.tree.parents.count(-1), 0)
        first = first if self.past is None else self.past.ids
        before = Before(first, first[:, :0], torch.arange(len(first), device=first.device))
        calls: list[StretchCall] = []
        in_step = single or habits_of(self.model).goes_on == "tokens"
        cost = rows_per_call(self.model)
        for stretch in stretches(self.tree, single, self.records, in_step, cost):
            begin = before if stretch.before is None else calls[stretch.before].after
            calls.append(StretchCall(self.model, stretch, ids, begin, scored))
        if self.given is not None and len(calls) == 1:
            calls[0].is_given(self.given)
        return calls

    def _branches(self, instruction: RunBranches, state: TreeState) -> TreeState:
        """Run every branch from the same state; merge by mean, or by sum of contributions."""
        earlier = Merge(instruction, state.earlier[None])
        current = None if state.current is None else Merge(instruction, state.current[None])
        last, handed = state.last, dict(state.handed)
        for branch in instruction.branches:
            after = state._replace(last=last)
            for inner in branch:
                after = self.step(inner, after)
            last = after.last
            for name, each in after.handed.items():
                if each is not state.handed.get(name):  # what this branch has written
                    handed[name] = each
            earlier.add(after.earlier[None])
            if current is not None and after.current is not None:
                current.add(after.current[None])
        stays = instruction.rows == "kv-only"
        return TreeState(
            state.earlier if stays else self._held(instruction, state.earlier, earlier.result()[0]),
            None if current is None else current.result()[0],
            last,
            handed,
        )

    def _layer(self, run: RunLayer, state: TreeState) -> TreeState:
        calls = self.joint if state.current is None else self.split
        layer = StretchLayer(self.model, run, self._handing(run, state))
        parts: list[tuple[StretchCall, Tensor]] = []
        current, kept = state.current, list[tuple[list[int], LayerState]]()
        left: list[LayerState | None] = []
        for call in calls:
            begin = self._begin(run, call, left)
            if current is not None and len(call.current):
                rows = layer.through_current(current[call.scored][:, None], call, begin)
                scored = call.scored.to(current.device)
                current = current.index_copy(0, scored, rows[:, 0].to(current.device))
            is_read = current is None or call.stretch.is_followed
            if is_read and not (run.occurrence is None and run.rows == "kv-only"):
                rows, begin = layer.through(state.earlier[call.rows], call, begin)
                parts.append((call, rows))
            left.append(begin)
            if call.stretch.ended and begin is not None:
                sequences, requests = zip(*call.stretch.ended, strict=True)
                kept.append((list(requests), begin.select(torch.tensor(sequences))))
        earlier = state.earlier
        if run.rows != "kv-only":
            earlier = self._held(run, earlier, self._scattered(parts, earlier))
        last = state.last
        if self.records and run.occurrence is not None:
            last = {**last, run.occurrence: kept}
        handed = state.handed if layer.handing is None else layer.handing.after(current is not None)
        return TreeState(earlier, current, last, handed)

    def _handing(self, run: RunLayer, state: TreeState) -> Handing | None:
        """Return the keys and values that a layer shares with others; None where no layers do."""
        sharing = habits_of(self.model).sharing
        if sharing is None:
            return None
        past = None if self.past is None else self.past.states
        counts = len(self.tree.ids), len(self.tree.scored)
        return Handing(sharing, run, state.handed, past, counts)

    def _past(self, occurrence: Occurrence | None) -> LayerState | None:
        if self.past is None or occurrence is None:
            return None
        return self.past.states[occurrence]

    def _begin(
        self, run: RunLayer, call: StretchCall, left: Sequence[LayerState | None]
    ) -> LayerState | None:
        """Return the state from which a stretch goes on; None where none is needed.

        Args:
            run: The layer.
            call: The stretch.
            left: The states that the stretches before it have left.
        """
        if run.occurrence is None:
            return None
        stretch = call.stretch
        if stretch.before is not None or self.past is not None:
            before = self._past(run.occurrence) if stretch.before is None else left[stretch.before]
            assert before is not None, "a stretch that is followed leaves a state"
            return before.select(call.parents)
        if not habits_of(self.model).goes_on:
            like = call.embedded
            return RowsRead(like.new_zeros(like.shape[0], 0, like.shape[2]))
        if not call.stretch.is_followed:
            return None
        return CarriedState.empty(self.model.hf.config.get_text_config(decoder=True))

    def _scattered(
        self, parts: Sequence[tuple[StretchCall, Tensor]], before: Tensor
    ) -> Float[Tensor, "tokens hidden"]:
        """Return rows of the tree, those of some stretches replaced."""
        rows = [call.rows[call.is_real] for call, _ in parts]
        states = [each[call.is_real.to(each.device)].to(before.device) for call, each in parts]
        if not parts:
            return before
        return before.index_copy(0, torch.cat(rows).to(before.device), torch.cat(states))

    def _noised(self, instruction: ReplaceByNoise, state: TreeState) -> TreeState:
        keys, _, place = self._hashed
        drawn = noise(state.earlier[None], keys[None], source_of(instruction))[0]
        spared = place < instruction.keep
        if instruction.whose != "all":
            spared = spared | (self._is_prompt ^ (instruction.whose == "prompt"))
        spared = spared[:, None]
        return state._replace(earlier=torch.where(spared, state.earlier, drawn))

    @cached_property
    def _hashed(self) -> tuple[Tensor, Tensor, Tensor]:
        """For each row: a noise key, the running sum after it, the number of tokens before it."""
        count, device = len(self.tree.ids), self.model.device
        keys = torch.zeros(count, dtype=torch.long, device=device)
        sums, place = keys.clone(), keys.clone()
        total = lengths = keys.new_zeros(self.tree.parents.count(-1))
        if self.past is not None:
            total, lengths = self.past.total, self.past.lengths
        after: list[tuple[Tensor, Tensor]] = []
        for call in self.joint:
            before = call.stretch.before
            base = (total, lengths) if before is None else after[before]
            sums_before, count_before = (each[call.parents] for each in base)
            own = prefix_keys(call.ids, call.is_real, count_before, sums_before)
            real, width = call.rows[call.is_real], call.rows.shape[1]
            keys[real], sums[real] = own[0][call.is_real], own[1][call.is_real]
            places = count_before[:, None] + torch.arange(width, device=device)
            place[real] = places[call.is_real]
            after.append((own[1][:, -1], count_before + width))
        return keys, sums, place


def _state_of(kept: EndStates, requests: list[int], length: int) -> LayerState:
    """Return the state of some requests, which are equally long and end where nothing else does."""
    wanted = set(requests)
    some = [(each, state) for each, state in kept if wanted.issuperset(each)]
    order = [request for each, _ in some for request in each]
    state = some[0][1] if len(some) == 1 else joined_states([state for _, state in some], length)
    places = [order.index(request) for request in requests]
    return state if places == list(range(len(order))) else state.select(torch.tensor(places))
