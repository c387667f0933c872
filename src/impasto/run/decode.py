"""Decoding many plans together, token by token, in lockstep.

Every plan has sequences of its own, with keys and values of its own. At each token, plans whose
next step is the same run it in one call of the block, so that a step costs one call for all of them
and reads the layer's weights once. Keys and values are written in place, into rooms as large as
they will get (:mod:`impasto.run.rooms`).
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, groupby

import torch
from torch import Tensor

from impasto.model.opened import OpenedModel
from impasto.plan import Inject, Layer, Parallel, Plan, Step
from impasto.run.attention import few_row_attention
from impasto.run.begun import Begun, IsDone
from impasto.run.bundle import rows_per_call
from impasto.run.rooms import Label, Rooms, spans_of
from impasto.run.rows import Batch
from impasto.run.score import likeliest
from impasto.run.walk import State, Walker, attentions


def decode(
    model: OpenedModel,
    begun: list[Begun],
    is_done: IsDone,
    max_new_tokens: int,
) -> None:
    """Go on with every sequence until it is done; what is new is appended to ``written``.

    The list is emptied, so that keys and values need not be there twice.
    """
    for at, each in reversed(list(enumerate(begun))):
        left = each.left(is_done)
        begun[at : at + 1] = [] if left is None else [left]
        del each
    if not begun:
        return
    decoder = Decoder(model, begun, is_done, max_new_tokens)
    while True:
        with few_row_attention():
            decoder.read()
        active = [not is_done(tokens) for written in decoder.written for tokens in written]
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
    def wants(self) -> int | None:
        """The number of the stop that it would run next; None at its end."""
        return self.way[self.at].number if self.at < len(self.way) else None

    @property
    def rows(self) -> int:
        """How many sequences the plan has."""
        return self.span.stop - self.span.start


class Decoder:
    """The cache of some plans' generation."""

    def __init__(
        self, model: OpenedModel, begun: list[Begun], is_done: IsDone, max_new_tokens: int
    ) -> None:
        begun.sort(key=lambda each: _place(each.plan))
        self.model, self._is_done = model, is_done
        self._rows_per_call = rows_per_call(model)
        self.written = [each.written for each in begun]
        least = min(len(tokens) for written in self.written for tokens in written)
        width = max(each.slots.shape[1] for each in begun)
        self._past = torch.cat([_packed(each.past, each, width) for each in begun])
        self._has_past = torch.cat([_packed(each.has_past, each, width) for each in begun])
        self._total = torch.cat([each.total for each in begun])
        numbers: dict[tuple[Step, tuple[Label, ...]], int] = {}
        self._ways = [list(_way(each.plan, numbers)) for each in begun]
        labels = [[label for stop in way for label in stop.labels] for way in self._ways]
        self._rooms = Rooms.furnished(begun, labels, width, more=max_new_tokens - least + 1)

    def read(self) -> None:
        """Read the last token of every sequence, and write the likeliest next one behind it."""
        walker = Walker(self.model, self._batch())
        earlier = walker.start().earlier.clone()
        current = earlier.clone()
        held = torch.zeros(len(earlier), dtype=torch.bool, device=earlier.device)
        spans = spans_of(map(len, self.written))
        turns = [_Turn(span, way) for span, way in zip(spans, self._ways, strict=True)]
        while True:
            for turn in turns:
                self._run_markers(walker, turn, earlier, current, held)
            wanted = Counter(turn.wants for turn in turns if turn.wants is not None)
            if not wanted:
                break
            [(most, _)] = wanted.most_common(1)
            for wants, run in groupby(turns, key=lambda turn: turn.wants):
                for call in self._calls(list(run)) if wants == most else ():
                    self._run(walker, call, earlier, current, held)
        for turn in turns:
            if not turn.is_parted:
                current[turn.span] = earlier[turn.span]
        self._wrote(walker.batch, likeliest(self.model, current[:, 0]).tolist())

    def shrink(self, active: Sequence[bool]) -> None:
        """Go on with the active sequences only."""
        mask = torch.tensor(active, device=self._past.device)
        self._rooms = self._rooms.left(active)
        self._past, self._has_past = self._past[mask], self._has_past[mask]
        self._total = self._total[mask]
        left, flags = [], iter(active)
        for written, way in zip(self.written, self._ways, strict=True):
            going = [tokens for tokens in written if next(flags)]
            if going:
                left.append((going, way))
        self.written, self._ways = [going for going, _ in left], [way for _, way in left]

    def _calls(self, run: list[_Turn]) -> Iterator[list[_Turn]]:
        """Part neighbouring plans that want the same into those that run in one call.

        Plans before their first marker need no rows for current tokens. Running such rows all the
        same, as copies, costs less than a call of their own where they are few.
        """
        if sum(turn.rows for turn in run if not turn.is_parted) < self._rows_per_call:
            yield run
            return
        for _, alike in groupby(run, key=lambda turn: turn.is_parted):
            yield list(alike)

    def _run(
        self, walker: Walker, run: list[_Turn], earlier: Tensor, current: Tensor, held: Tensor
    ) -> None:
        """Run the next step of neighbouring plans, which is the same, in one call."""
        stop, is_parted = run[0].way[run[0].at], any(turn.is_parted for turn in run)
        for turn in run:
            if is_parted and not turn.is_parted:
                current[turn.span] = earlier[turn.span]
        span = slice(run[0].span.start, run[-1].span.stop)
        rooms = [self._rooms.room(label, span) for label in stop.labels]
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
        tokens = [tokens[-1] for written in self.written for tokens in written]
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
        for written, token in zip(chain(*self.written), tokens, strict=True):
            if not self._is_done(written):  # else it only waits for the others
                written.append(token)
        self._past = torch.cat([self._past, batch.positions], 1)
        self._has_past = torch.cat([self._has_past, batch.is_real], 1)
        self._total = batch.hashed[1][:, -1]
        self._rooms.lengthen()


def _way(plan: Plan, numbers: dict[tuple[Step, tuple[Label, ...]], int]) -> Iterator[_Stop]:
    seen: Counter[int] = Counter()
    for step in plan.steps:
        labels = []
        for layer in attentions(step):
            labels.append((layer, seen[layer]))
            seen[layer] += 1
        number = numbers.setdefault((step, tuple(labels)), len(numbers))
        yield _Stop(step, tuple(labels), number)


def _packed(rows: Tensor, begun: Begun, width: int) -> Tensor:
    """Return what belongs to the slots that hold tokens, padded to a width."""
    rows = rows.gather(1, begun.slots)
    return torch.cat([rows, rows.new_zeros(rows.shape[0], width - rows.shape[1])], 1)
