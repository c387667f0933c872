"""Walking a plan: one step after another, on the rows of a batch.

Before the first marker every token has one state. At a marker the scored tokens part from the
rest: their *current* rows go on as they are, while the same tokens as *earlier* rows are held
(freeze), replaced (noise), or injected into. States are values; a walk can fork anywhere.

DESIGN's section 3 is the specification; ``tests/reference.py`` is the same in its naive form.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import NamedTuple, TypeVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from impasto.model.anatomy import ModelError
from impasto.model.block import Arguments
from impasto.model.opened import Entered, OpenedModel
from impasto.plan import Freeze, Inject, Layer, Noise, Parallel, Step
from impasto.plan.attending import attentions
from impasto.run.abreast import Abreast, Branch, columns
from impasto.run.attention import own_attention
from impasto.run.merge import Merge
from impasto.run.noise import NoiseSource, noise
from impasto.run.returned import give_back
from impasto.run.rows import Batch, Frame, Frames
from impasto.run.slot import KeysAndValuesReady, KeysValues, Past, Pasts, Place, Slot, nothing

_T = TypeVar("_T")


class State(NamedTuple):
    """Where a walk stands.

    Attributes:
        earlier: The new tokens' states; before the first marker, of current tokens too.
        current: After it: the scored tokens' states as current tokens.
        held: Whether earlier tokens are frozen.
        depth: The layer steps so far.
        noises: The noise markers so far.
        occurrences: The attention occurrences so far.
        kept: What earlier tokens left at each of them, where the walk records it.
        prefix: Where the walk of the tokens stands that all sequences begin with.
    """

    earlier: Float[Tensor, "batch new hidden"]
    current: Float[Tensor, "batch scored hidden"] | None = None
    held: bool = False
    depth: int = 0
    noises: int = 0
    occurrences: int = 0
    kept: tuple[KeysValues, ...] = ()
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
class Walker:
    """Runs steps on one batch.

    Attributes:
        model: The model.
        batch: Its sequences.
        past: What earlier tokens left at each attention occurrence of the plan, in its order.
        records: Whether keys and values are to be kept for tokens to come.
        given: The trunk as the model's own forward prepared it, where that is under way.
        prefix: The walker of one sequence that all of these follow. It walks along and keeps its
            keys and values, which are the past of these.
        held: Which sequences' earlier tokens are frozen, where they are not all alike.
        packs_held: Whether frozen rows run beside the current ones, though only their keys and
            values are wanted: where both are few, one call costs less than two.
        abreast: Which layers of branches can run side by side, in one call. Then the past is
            :class:`impasto.run.slot.Pasts`, if there is any.
    """

    model: OpenedModel
    batch: Batch
    past: Sequence[Past] = ()
    records: bool = False
    given: Entered | None = None
    prefix: "Walker | None" = None
    held: Bool[Tensor, "batch"] | None = None
    packs_held: bool = False
    abreast: Abreast | None = None

    @cached_property
    def frames(self) -> Frames:
        """The rows that each call of a block runs, and what they see."""
        return Frames(self.model, self.batch, self.given)

    def part(
        self, frames: Frames, past: Sequence[Place], held: Bool[Tensor, "batch"] | None
    ) -> "Walker":
        """Return the walker of some batch entries, with places for their keys and values."""
        walker = Walker(self.model, frames.batch, past, held=held)
        walker.__dict__["frames"] = frames
        return walker

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

    def step(self, step: Step, state: State) -> State:
        """Run one step of a plan; ``inject`` needs a donor and has :meth:`inject`."""
        return self.follow(step, self.ahead(step, state))

    def ahead(self, step: Step, state: State) -> State:
        """Run a step on the prefix, if there is one."""
        if self.prefix is None:
            return state
        return state._replace(prefix=self.prefix.step(step, _present(state.prefix)))

    def follow(self, step: Step, state: State) -> State:
        """Run a step that the prefix has run already."""
        match step:
            case Layer() | Parallel():
                if not self.frames.are_long:
                    return self._advance(step, state)._replace(depth=state.depth + 1)
                give_back()  # what the last block worked on, lest the heap grow around what stays
                with own_attention(self.model):
                    return self._advance(step, state)._replace(depth=state.depth + 1)
            case Freeze():
                return self.fork(state)._replace(held=True)
            case Noise():
                return self._noised(step, self.fork(state))
            case Inject():
                raise TypeError("inject is run by Walker.inject, with its donor's state")

    def finish(self, state: State) -> Float[Tensor, "predictions hidden"]:
        """Return the states of depth T that predictions are made from, batch entry by entry."""
        rows = self.batch.pick(state.earlier) if state.current is None else state.current
        return rows[self.batch.is_scored.to(rows.device)]

    def inject(self, state: State, splice: Splice, donor: "Walker", given: State) -> State:
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
        return state._replace(earlier=state.earlier if state.held else replaced, current=current)

    def retire(self, state: State) -> State:
        """Let earlier tokens go no further than giving keys and values to the next attention.

        Where that is the last attention of every plan ahead, no prediction can tell.
        """
        if self.prefix is not None:
            state = state._replace(prefix=self.prefix.retire(_present(state.prefix)))
        return self.fork(state)._replace(held=True)

    def fork(self, state: State) -> State:
        """Let scored tokens go on as current rows, beside all tokens as earlier rows."""
        if state.current is not None:
            return state
        return state._replace(current=self.batch.pick(state.earlier))

    def _noised(self, marker: Noise, state: State) -> State:
        state = state._replace(noises=state.noises + 1)
        if state.held:  # every later item, this one too, leaves frozen tokens where they were
            return state
        source = NoiseSource(marker.kind, marker.seed, state.depth, state.noises - 1)
        drawn = noise(state.earlier, self.batch.hashed[0].to(state.earlier.device), source)
        spared = (self.batch.index < marker.keep)[..., None].to(drawn.device)
        return state._replace(earlier=torch.where(spared, state.earlier, drawn))

    def _advance(self, step: Step, state: State) -> State:
        match step:
            case Layer():
                return self._layer(step, state)
            case Parallel():
                return self._parallel(step, state)
            case _:
                raise TypeError(f"{step!r} stands inside a branch")

    def _parallel(self, step: Parallel, state: State) -> State:
        """Run every branch from the same state; merge by mean, or by sum of contributions."""
        earlier = Merge(step.combine, state.earlier)
        current = None if state.current is None else Merge(step.combine, state.current)
        branches = step.branches
        counts = [sum(1 for step in branch for _ in attentions(step)) for branch in branches]
        begins = list(accumulate(counts, initial=state.occurrences))
        kept: dict[int, tuple[KeysValues, ...]] = {}
        for run in self._runs(branches, state):
            first, count = run[0], len(run)
            after = state._replace(occurrences=begins[first], kept=())
            if count > 1:
                at = [begins[place] for place in run]
                after = self._together([branches[place] for place in run], at, after)
            else:
                for inner in branches[first]:
                    after = self._advance(inner, after)
            for turn, place in enumerate(run):
                kept[place] = after.kept[turn * counts[first] : (turn + 1) * counts[first]]
            if not state.held:
                earlier.add(after.earlier, count)
            if current is not None:
                current.add(_present(after.current), count)
        return state._replace(
            earlier=state.earlier if state.held else earlier.result(),
            current=None if current is None else current.result(),
            occurrences=begins[-1],
            kept=(*state.kept, *(each for place in sorted(kept) for each in kept[place])),
        )

    def _runs(self, branches: Sequence[Branch], state: State) -> Sequence[Sequence[int]]:
        """Part branches, by index, into runs that go side by side."""
        if self.abreast is None or (state.held and not self.packs_held):
            return [[place] for place in range(len(branches))]
        return self.abreast.runs(branches, self._frame(state))

    def _together(self, branches: Sequence[Branch], begins: Sequence[int], state: State) -> State:
        """Run branches side by side, whose attention occurrences begin at these.

        The states that they end in, and what they leave, come one branch's behind the other's.
        """
        abreast, frame, count = _present(self.abreast), self._frame(state), len(branches)
        size, new = state.earlier.shape[:2]
        held = rows = state.earlier.repeat(count, 1, 1)
        if state.current is not None:
            rows = torch.cat([held, state.current.repeat(count, 1, 1)], 1)
        kept: list[KeysValues] = []
        for column in columns(branches):
            arguments = abreast.arguments(column, frame)
            if column[0].part == "mlp" or not (self.past or self.records):
                rows = abreast.call(column, rows, arguments)
            elif not self.model.blocks[column[0].index].leaves_keys:
                rows = abreast.call(column, rows, arguments)
                kept.append(nothing(held, self._slots(begins[0] + len(kept), new)))
            else:
                slot = Slot(self._past_abreast([begin + len(kept) for begin in begins]), new)
                rows = abreast.call(column, rows, self._cached(arguments, slot))
                kept.append(slot.kept)
            if state.held:
                rows = torch.cat([held, rows[:, new:]], 1)
        spans = [slice(place * size, (place + 1) * size) for place in range(count)]
        return state._replace(
            earlier=rows[:, :new],
            current=None if state.current is None else rows[:, new:],
            kept=tuple(each.part(span) for span in spans for each in kept) if self.records else (),
        )

    def _frame(self, state: State) -> Frame:
        """Return the frame of all rows."""
        return self.frames.trunk if state.current is None else self.frames.packed

    def _past_abreast(self, occurrences: Sequence[int]) -> Past | None:
        if not self.past:
            return None
        assert isinstance(self.past, Pasts), "what occurrences left can lie side by side"
        return self.past.abreast(occurrences)

    def _layer(self, step: Layer, state: State) -> State:
        if state.current is None:
            earlier, state = self._call(step, state.earlier, self.frames.trunk, state)
            return state._replace(earlier=earlier)
        if state.held and (step.part == "mlp" or not self.packs_held):
            return self._held_layer(step, state, state.current)
        count = state.earlier.shape[1]
        rows = torch.cat([state.earlier, state.current], 1)
        rows, after = self._call(step, rows, self.frames.packed, state)
        earlier = state.earlier if state.held else rows[:, :count]
        if self.held is not None:
            earlier = torch.where(self.held[:, None, None], state.earlier, earlier)
        return after._replace(earlier=earlier, current=rows[:, count:])

    def _held_layer(self, step: Layer, state: State, current: Tensor) -> State:
        """Run a layer on current rows; held rows give it keys and values, no more."""
        block = self.model.blocks[step.index]
        if step.part == "mlp":
            return state._replace(current=self._on_current(step, current, None))
        if not block.leaves_keys:
            current = self._on_current(step, current, None)
            return self._noted(state._replace(current=current), None)
        past, count = self._past(state), state.earlier.shape[1]
        slot = Slot(past, count, only=True)
        with suppress(KeysAndValuesReady), block.without_queries():
            block(state.earlier, self._cached(self.frames.trunk.arguments(step.index), slot))
        seen = Slot(past, 0, between=slot.new)
        if current.shape[1]:
            current = self._on_current(step, current, seen)
        else:  # a prefix has none
            keys, values = _present(slot.new)
            seen.update(keys[:, :, :0], values[:, :, :0], step.index)
        return self._noted(state._replace(current=current), seen)

    def _on_current(self, step: Layer, current: Tensor, seen: Slot | None) -> Tensor:
        """Run a block on current rows alone, which see what a slot holds."""
        if not current.shape[1]:
            return current
        arguments = self.frames.current.arguments(step.index)
        if seen is not None:
            arguments = self._cached(arguments, seen)
        return self.model.blocks[step.index](current, arguments, step.part)

    def _call(self, step: Layer, rows: Tensor, frame: Frame, state: State) -> tuple[Tensor, State]:
        """Run a block on all rows of a frame."""
        block, arguments = self.model.blocks[step.index], frame.arguments(step.index)
        if step.part != "mlp" and not block.leaves_keys:
            return block(rows, arguments, step.part), self._noted(state, None)
        past = self._past(state) if step.part != "mlp" else None
        if step.part == "mlp" or (past is None and not self.records):
            return block(rows, arguments, step.part), state
        slot = Slot(past, state.earlier.shape[1])
        rows = block(rows, self._cached(arguments, slot), step.part)
        return rows, self._noted(state, slot)

    def _past(self, state: State) -> Past | None:
        if self.prefix is None:
            return self.past[state.occurrences] if self.past else None
        shared = _present(state.prefix).kept[state.occurrences]
        size = self.batch.ids.shape[0]
        return KeysValues(*(each.expand(size, -1, -1, -1) for each in shared))

    def _noted(self, state: State, slot: Slot | None) -> State:
        """Go on to the next occurrence, with what this one left where that is recorded."""
        kept = state.kept
        if self.records:
            new = state.earlier.shape[1]
            if slot is None:
                left = nothing(state.earlier, self._slots(state.occurrences, new))
            else:
                left = slot.kept
            kept = (*kept, left)
        return state._replace(occurrences=state.occurrences + 1, kept=kept)

    def _slots(self, occurrence: int, new: int) -> int:
        """Return how many tokens an occurrence has seen, so many new ones with them."""
        before = self.past[occurrence].taken if self.past else self.shared
        return before + new

    def _cached(self, arguments: Arguments, slot: Slot) -> Arguments:
        name = self.model.habits.cache_argument
        return arguments | {name: slot} | ({"use_cache": True} if "use_cache" in arguments else {})


def _present(value: _T | None) -> _T:
    assert value is not None
    return value
