"""Decoding many plans together, token by token, in lockstep.

Every plan has sequences of its own, with keys and values of its own. At each token, plans whose
next step is the same run it in one call of the block, so that a step costs one call for all of them
and reads the layer's weights once. Keys and values are written in place, into rooms as large as
they will get; a room belongs to one attention occurrence of a run of neighbouring plans.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from impasto.model.opened import OpenedModel
from impasto.plan import Inject, Layer, Parallel, Plan, Step
from impasto.run.rows import Batch
from impasto.run.score import likeliest
from impasto.run.slot import KeysValues, Room
from impasto.run.walk import State, Walker, attentions

IsDone = Callable[[list[int]], bool]  # whether nothing is to follow some new tokens
Label = tuple[int, int]  # a layer, and how often the plan's attention ran there before


@dataclass(frozen=True)
class Begun:
    """A plan's sequences, read but for their last token.

    Attributes:
        plan: The plan.
        written: The new tokens of each sequence so far, the last of them not yet read.
        kept: What earlier tokens left at each attention occurrence, in the plan's order.
        past: The positions of those tokens.
        has_past: Where they are no padding.
        total: The noise sums over them.
    """

    plan: Plan
    written: list[list[int]]
    kept: tuple[KeysValues, ...]
    past: Int[Tensor, "batch past"]
    has_past: Bool[Tensor, "batch past"]
    total: Int[Tensor, "batch"]

    @property
    def bytes(self) -> int:
        """How much memory the keys and values take."""
        return sum(entry.keys.nbytes + entry.values.nbytes for entry in self.kept)

    def left(self, rows: list[int]) -> "Begun":
        """Return what is left when only the given sequences go on, with as few slots as can be."""
        index = torch.tensor(rows, device=self.past.device)
        past, has_past = self.past[index], self.has_past[index]
        slots = (~has_past).to(torch.uint8).argsort(dim=1, stable=True)
        slots = slots[:, : int(has_past.sum(1).max())]
        return Begun(
            self.plan,
            [self.written[row] for row in rows],
            tuple(entry.of(index.to(entry.keys.device), slots) for entry in self.kept),
            past.gather(1, slots),
            has_past.gather(1, slots),
            self.total[index],
        )


def decode(
    model: OpenedModel,
    begun: Sequence[Begun],
    is_done: IsDone,
    max_new_tokens: int,
) -> None:
    """Go on with every sequence until it is done; what is new is appended to ``written``."""
    going = []
    for each in begun:
        rows = [row for row, tokens in enumerate(each.written) if not is_done(tokens)]
        if rows:
            going.append(each.left(rows))
    if not going:
        return
    going.sort(key=lambda each: _place(each.plan))
    decoder = Decoder(model, going, is_done, max_new_tokens)
    while True:
        decoder.read()
        active = [not is_done(tokens) for each in decoder.plans for tokens in each.written]
        if not any(active):
            return
        if sum(active) <= 0.75 * len(active):
            decoder.shrink(active)


def _place(plan: Plan) -> tuple[str, int]:
    """Say where a plan stands among others, so that those that run alike are neighbours."""
    bare = [step for step in plan.steps if isinstance(step, (Layer, Parallel))]
    return repr(bare), plan.markers[0][0] if plan.markers else len(plan.steps)


@dataclass(frozen=True, slots=True)
class _Stop:
    """A step on a plan's way, the rooms that it needs, and a number that is the same for both."""

    step: Step
    labels: tuple[Label, ...]
    number: int


@dataclass(slots=True)
class _Turn:
    """How far a plan is with the token that is being read."""

    span: slice
    way: Sequence[_Stop]
    at: int = 0
    state: State | None = None  # depth, noise markers, held: all but the rows
    is_parted: bool = False

    @property
    def wants(self) -> tuple[int, bool] | None:
        """What it would run next; None at its end."""
        return (self.way[self.at].number, self.is_parted) if self.at < len(self.way) else None


class Decoder:
    """The cache of some plans' generation."""

    def __init__(
        self, model: OpenedModel, plans: list[Begun], is_done: IsDone, max_new_tokens: int
    ) -> None:
        self.model, self.plans, self._is_done = model, plans, is_done
        least = min(len(tokens) for each in plans for tokens in each.written)
        width = max(each.past.shape[1] for each in plans)
        self._past = torch.cat([_widened(each.past, width) for each in plans])
        self._has_past = torch.cat([_widened(each.has_past, width) for each in plans])
        self._total = torch.cat([each.total for each in plans])
        numbers: dict[tuple[Step, tuple[Label, ...]], int] = {}
        self._ways = [list(_way(each.plan, numbers)) for each in plans]
        self._rooms = self._furnished(width, room=max_new_tokens - least + 1)

    def read(self) -> None:
        """Read the last token of every sequence, and write the likeliest next one behind it."""
        walker = Walker(self.model, self._batch())
        earlier = walker.start().earlier.clone()
        current = earlier.clone()
        held = torch.zeros(len(earlier), dtype=torch.bool, device=earlier.device)
        spans = self._spans([each.written for each in self.plans])
        turns = [_Turn(span, way) for span, way in zip(spans, self._ways, strict=True)]
        while True:
            for turn in turns:
                self._run_markers(walker, turn, earlier, current, held)
            wanted = Counter(turn.wants for turn in turns if turn.wants is not None)
            if not wanted:
                break
            [(most, _)] = wanted.most_common(1)
            for wants, run in groupby(turns, key=lambda turn: turn.wants):
                if wants == most:
                    self._run(walker, list(run), earlier, current, held)
        for turn in turns:
            if not turn.is_parted:
                current[turn.span] = earlier[turn.span]
        self._wrote(walker.batch, likeliest(self.model, current[:, 0]).tolist())

    def shrink(self, active: Sequence[bool]) -> None:
        """Go on with the active sequences only."""
        mask = torch.tensor(active, device=self._past.device)
        rooms: dict[Label, list[tuple[slice, Room]]] = {}
        for label, entries in self._rooms.items():
            for span, room in entries:
                index = mask[span].nonzero()[:, 0].to(room.keys.device)
                begin = sum(active[: span.start])
                if len(index):
                    place = slice(begin, begin + len(index))
                    rooms.setdefault(label, []).append((place, room.of(index)))
        self._rooms = rooms
        self._past, self._has_past = self._past[mask], self._has_past[mask]
        self._total = self._total[mask]
        left, flags = [], iter(active)
        for each, way in zip(self.plans, self._ways, strict=True):
            written = [tokens for tokens in each.written if next(flags)]
            if written:
                left.append((replace(each, written=written), way))
        self.plans, self._ways = [each for each, _ in left], [way for _, way in left]

    def _run(
        self, walker: Walker, run: list[_Turn], earlier: Tensor, current: Tensor, held: Tensor
    ) -> None:
        """Run the next step of neighbouring plans, which is the same, in one call."""
        stop, is_parted = run[0].way[run[0].at], run[0].is_parted
        span = slice(run[0].span.start, run[-1].span.stop)
        rooms = [self._room(label, span) for label in stop.labels]
        part = walker.part(span, rooms, held[span] if is_parted else None)
        state = part.step(stop.step, State(earlier[span], current[span] if is_parted else None))
        earlier[span] = state.earlier
        if state.current is not None:
            current[span] = state.current
        for turn in run:
            before = turn.state or State(earlier[:0])
            turn.state = before._replace(depth=before.depth + 1)
            turn.at += 1

    def _run_markers(
        self, walker: Walker, turn: _Turn, earlier: Tensor, current: Tensor, held: Tensor
    ) -> None:
        """Run a plan's markers up to its next layer; injections lie in the prompt, read already."""
        while turn.at < len(turn.way):
            step = turn.way[turn.at].step
            if isinstance(step, (Layer, Parallel)):
                return
            turn.at += 1
            if isinstance(step, Inject):
                continue
            before = turn.state or State(earlier[:0])
            rows = current[turn.span] if turn.is_parted else None
            state = before._replace(earlier=earlier[turn.span], current=rows)
            state = walker.part(turn.span, (), None).step(step, state)
            earlier[turn.span], current[turn.span] = state.earlier, state.latest
            held[turn.span] = state.held
            turn.state, turn.is_parted = state, True

    def _batch(self) -> Batch:
        tokens = [tokens[-1] for each in self.plans for tokens in each.written]
        ids = torch.tensor(tokens, device=self._past.device)[:, None]
        every = torch.ones_like(ids, dtype=torch.bool)
        return Batch(
            ids=ids,
            positions=self._has_past.sum(1, keepdim=True),
            is_real=every,
            scored=torch.zeros_like(ids),
            is_scored=every,
            past=self._past,
            has_past=self._has_past,
            total=self._total,
        )

    def _wrote(self, batch: Batch, tokens: list[int]) -> None:
        all_written = (written for each in self.plans for written in each.written)
        for written, token in zip(all_written, tokens, strict=True):
            if not self._is_done(written):  # else it only waits for the others
                written.append(token)
        self._past = torch.cat([self._past, batch.positions], 1)
        self._has_past = torch.cat([self._has_past, batch.is_real], 1)
        self._total = batch.hashed[1][:, -1]
        for entries in self._rooms.values():
            for _, room in entries:
                room.length += 1

    def _room(self, label: Label, span: slice) -> Room:
        for place, room in self._rooms[label]:
            if place.start <= span.start and span.stop <= place.stop:
                return room.part(slice(span.start - place.start, span.stop - place.start))
        raise KeyError(label)

    def _furnished(self, width: int, room: int) -> dict[Label, list[tuple[slice, Room]]]:
        """Make a room for every attention occurrence of every run of plans that have it."""
        spans = self._spans([each.written for each in self.plans])
        entries: dict[Label, list[list[tuple[slice, KeysValues, int]]]] = {}
        for number, (each, way, span) in enumerate(zip(self.plans, self._ways, spans, strict=True)):
            labels = [label for stop in way for label in stop.labels]
            for label, kept in zip(labels, each.kept, strict=True):
                runs = entries.setdefault(label, [])
                if not runs or runs[-1][-1][2] != number - 1:
                    runs.append([])
                runs[-1].append((span, kept, number))
        return {
            label: [
                (
                    slice(run[0][0].start, run[-1][0].stop),
                    Room.of_kept([kept for _, kept, _ in run], width, room),
                )
                for run in runs
            ]
            for label, runs in entries.items()
        }

    @staticmethod
    def _spans(written: Sequence[Sequence[list[int]]]) -> list[slice]:
        """Return which batch entries are each plan's."""
        spans, begin = [], 0
        for sequences in written:
            spans.append(slice(begin, begin + len(sequences)))
            begin += len(sequences)
        return spans


def _way(plan: Plan, numbers: dict[tuple[Step, tuple[Label, ...]], int]) -> Iterator[_Stop]:
    seen: Counter[int] = Counter()
    for step in plan.steps:
        labels = []
        for layer in attentions(step):
            labels.append((layer, seen[layer]))
            seen[layer] += 1
        number = numbers.setdefault((step, tuple(labels)), len(numbers))
        yield _Stop(step, tuple(labels), number)


def _widened(rows: Tensor, width: int) -> Tensor:
    return torch.cat([rows, rows.new_zeros(rows.shape[0], width - rows.shape[1])], 1)
