"""The workers of one run: started, checked, given units, watched, and replaced when they are gone.

A `Schedule` decides what is to be done, a pool (Ray's or a test's) what a worker is. It takes part
once it is the same impasto as here and has the same model as the first one, to the digest. One that
never will is refused; one that dies or falls silent is replaced, and its unit waits again.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from impasto.error import ImpastoError, UserError
from impasto.plan import count_of_plans
from impasto.plan.cost import Shape
from impasto.study.cluster.joining import Order, Pool, RemoteModel, other_model, other_version
from impasto.study.cluster.pool import Event
from impasto.study.cluster.schedule import Patience, Schedule, TooManyTriesError
from impasto.study.cluster.wire import AskedItems, shape_of, unpacked_answer
from impasto.study.database.register import NeededTask
from impasto.study.work.asking import Asking
from impasto.study.work.identity import tokenizer_digest
from impasto.study.work.units import Answered, Told, Unit

if TYPE_CHECKING:
    from impasto.run.batching.memory import Free

TICK = 0.5  # seconds between looks at what is due
BEAT = 2.0  # seconds between two pulses of a worker
TELL = 30.0  # seconds without a worker after which the user is told
STARTING, LOADING, READY, WORKING = "starting", "loading", "ready", "working"


@dataclass(slots=True)
class _Member:
    """A worker: what it is at, since when, when it was last heard, and on which machine it is."""

    state: str
    since: float
    heard: float
    beat: float | None = None  # when it was asked for its pulse; None once it has told it
    place: str = "a machine of the cluster"


class Crew:
    """Workers that hold a model each and answer units; this process tells them which."""

    def __init__(
        self,
        pool: Pool,
        order: Order,
        count: int,
        patience: Patience,
        say: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._pool, self._order, self._patience = pool, order, patience
        self._say, self._clock = say, clock
        self._most = self._wanted = count  # workers that there may be, and that are wanted now
        self._members: dict[int, _Member] = {}
        self._reasons: list[str] = []  # why workers were refused
        self._failed = 0  # starts in a row
        self._first: Mapping[str, Any] | None = None  # what the first one's model is
        self._schedule = Schedule((), patience)
        self._told: Told = lambda unit, share: None
        self._replies: dict[int, Any] = {}
        self._model: RemoteModel | None = None
        self._memory: int | None = None
        self._waited: float | None = None  # since when the cluster has no room

    def start(self, tokenizer: Any) -> None:
        """Start the workers; the first that is ready says what model they all have.

        Raises UserError where none of them can be used.
        """
        while self._first is None:
            self._fill()
            self._turn()
        found = self._first
        if found["identity"]["tokenizer"] != tokenizer_digest(tokenizer):
            raise UserError(
                f"the workers' {self._order.name} has another tokenizer than this machine's: the "
                "same files must be on every machine"
            )
        self._model = RemoteModel(self._order.name, found["layers"], tokenizer, found["identity"])

    @property
    def model(self) -> RemoteModel:
        """The model that the workers have."""
        assert self._model is not None
        return self._model

    @property
    def workers(self) -> int:
        """How many workers there are to be."""
        return self._most

    @property
    def free(self) -> "Free":
        """The memory that is free for the batches of a worker."""
        from impasto.run.batching.memory import Free

        assert self._first
        return Free(*self._first["free"]).shared(self._order.share)

    @contextmanager
    def allowed(self, memory: int | None) -> Iterator[None]:
        """Let a batch take so many bytes in the block."""
        before, self._memory = self._memory, memory
        try:
            yield
        finally:
            self._memory = before

    def expected(
        self, tasks: Sequence[NeededTask], asked: Mapping[str, Asking]
    ) -> dict[str, float | None]:
        """Return how many seconds each task takes one worker, asked all that it may be."""
        names = [needed.task.name for needed in tasks]
        works = [
            self._work(-1, asked[needed.task.name], needed.plans, slice(needed.most)).packed()
            for needed in tasks
        ]
        return dict(zip(names, self._one_says("expected", works)["seconds"], strict=True))

    @property
    def shape(self) -> Shape:
        """What of the model costs something, as a worker counts it."""
        return self._shape

    @cached_property
    def _shape(self) -> Shape:
        return shape_of(self._one_says("shape")["shape"])

    def _one_says(self, what: str, *given: Any) -> Mapping[str, Any]:
        """Return what one worker that is ready says; another one where that one dies."""
        while True:
            self._fill()
            ready = self._in_state(READY)
            if not ready:
                self._turn()
                continue
            number = ready[0]
            self._set(number, WORKING)
            self._pool.call(number, what, *given)
            while number in self._members:
                self._turn()
                if number in self._replies:
                    return self._replies.pop(number)

    def executor(self, asked: Mapping[str, Asking]) -> "OnCluster":
        """Return what has units answered."""
        return OnCluster(self, asked)

    def answers(
        self,
        units: Sequence[Unit],
        asked: Mapping[str, Asking],
        told: Told,
        stop: Callable[[], bool],
    ) -> Iterator[Answered]:
        """Yield what is said to each unit, in any order; see `Executor.run`."""
        self._schedule, self._told = Schedule(units, self._patience), told
        self._wanted = min(self._most, len(units))
        while not self._schedule.is_done:
            stopping = stop()
            if stopping and self._schedule.is_idle:
                return
            if not stopping:
                self._fill()
                self._hand_out(asked)
            yield from self._turn()

    def _fill(self) -> None:
        """Start workers where some are missing; raises UserError where none can be."""
        while len(self._members) < self._wanted and self._failed < self._patience.starts:
            now = self._clock()
            number = self._pool.start()
            self._members[number] = _Member(STARTING, now, now)
            self._pool.call(number, "hello")
        if not self._members:
            raise UserError("no worker can be used: " + "; ".join(dict.fromkeys(self._reasons)))

    def _hand_out(self, asked: Mapping[str, Asking]) -> None:
        for number in self._in_state(READY):
            unit = self._schedule.next(number, self._clock())
            if unit is None:
                return
            work = self._work(unit.id, asked[unit.task], unit.plans, slice(unit.start, unit.stop))
            self._set(number, WORKING)
            self._pool.call(number, "answer", work.packed())
            self._told(unit, 0.0)

    def _work(self, unit: int, asking: Asking, plans: Sequence[Any], items: slice) -> AskedItems:
        donors = None if asking.donors is None else asking.donors[items]
        names, requests = asking.names(items), asking.requests[items]
        return AskedItems(unit, plans, requests, donors, self._memory, asking.task.name, names)

    def _turn(self) -> list[Answered]:
        """Hear what happens for a moment, and see to who should have been heard."""
        found = []
        for event in self._pool.wait(TICK):
            if event.worker in self._members:
                found += self._heard(event)
        self._watch()
        return found

    def _watch(self) -> None:
        """Feel every pulse that is due; end who is stuck or silent, and who has no room."""
        now = self._clock()
        for number in self._schedule.stuck(now):
            self._end(number, "it has made no progress for too long")
        for number, member in list(self._members.items()):
            if member.state == STARTING:
                continue
            if member.beat is None and now - member.heard > BEAT:
                member.beat = now
                self._pool.call(number, "pulse")
            elif member.beat is not None and now - member.beat > self._patience.silent:
                self._end(number, "it does not answer any more")
        self._watch_room(now)

    def _watch_room(self, now: float) -> None:
        """Tell the user where no worker has room; raises UserError after a long while."""
        if any(member.state != STARTING for member in self._members.values()):
            self._waited = None
            return
        since = min((member.since for member in self._members.values()), default=now)
        if now - since > TELL and self._waited is None:
            self._waited = now
            self._say(f"no worker has started yet: is there room for one ({self._order.takes})?")
        if now - since > self._patience.room:
            raise UserError(
                f"no worker has started for {now - since:.0f} s: the cluster has no room for one "
                f"({self._order.takes}); all that was saved is there, and the same command goes on"
            )

    def _heard(self, event: Event) -> list[Answered]:
        number, member, now = event.worker, self._members[event.worker], self._clock()
        member.heard = now
        if event.died is not None:
            self._end(number, event.died)
            return []
        reply = event.reply
        if "fault" in reply:
            raise ImpastoError(f"a worker on {member.place} failed:\n{reply['fault']}")
        if event.call == "hello":
            self._greeted(number, reply)
        elif event.call == "begin":
            self._begun(number, reply)
        elif event.call == "pulse":
            self._felt(number, reply, now)
        elif "refused" in reply:
            raise UserError(reply["refused"])
        else:
            self._set(number, READY)
            if event.call == "answer":
                return self._answered(number, reply["answer"], now)
            self._replies[number] = reply
        return []

    def _greeted(self, number: int, reply: Mapping[str, Any]) -> None:
        """Let a worker load the model if it is the same impasto as here."""
        member = self._members[number]
        member.place = f"{reply['host']} (process {reply['pid']})"
        reason = other_version(reply)
        if reason is not None:
            self._refuse(number, reason)
            return
        self._set(number, LOADING)
        order = self._order
        self._pool.call(number, "begin", order.name, dict(order.options), order.gpus)

    def _begun(self, number: int, reply: Mapping[str, Any]) -> None:
        """Let a worker take part if it has loaded the same model as the first one."""
        if "refused" in reply:
            self._refuse(number, reply["refused"])
            return
        if self._first is None:
            self._first = reply
        reason = other_model(reply, self._first, self._order.name)
        if reason is not None:
            self._refuse(number, reason)
            return
        self._failed = 0
        self._set(number, READY)

    def _felt(self, number: int, reply: Mapping[str, Any], now: float) -> None:
        self._members[number].beat = None
        unit = self._schedule.unit_of(number)
        if unit is not None and unit.id == reply["unit"]:
            self._schedule.progressed(number, reply["share"], now)
            self._told(unit, reply["share"])

    def _answered(self, number: int, answer: bytes, now: float) -> list[Answered]:
        unit = self._schedule.answered(number, now)
        return [] if unit is None else [unpacked_answer(answer)]

    def _refuse(self, number: int, reason: str) -> None:
        """Go on without a worker that can never take part."""
        place = self._members.pop(number).place
        self._pool.kill(number)
        self._most -= 1
        self._wanted -= 1
        self._reasons.append(f"the worker on {place} is refused: {reason}")
        if self._members:
            self._say(self._reasons[-1])

    def _end(self, number: int, reason: str) -> None:
        """Go on without a worker that is gone; another will take its place."""
        member = self._members.pop(number)
        self._pool.kill(number)
        self._replies.pop(number, None)
        if member.state in (STARTING, LOADING):
            self._failed += 1
            self._reasons.append(f"the worker on {member.place} ended as it began: {reason}")
        try:
            unit = self._schedule.gone(number)
        except TooManyTriesError as error:
            unit, plans = error.unit, count_of_plans(len(error.unit.plans))
            raise UserError(
                f"{error.tries} workers in a row ended at {unit.task} {unit.start + 1} to "
                f"{unit.stop} under {plans} ({reason}); all that was saved is "
                "there. Let a batch take less (--memory), or give a worker more"
            ) from None
        again = "" if unit is None else f"; {unit.task} {unit.start + 1} to {unit.stop} runs again"
        self._say(f"the worker on {member.place} is gone: {reason}{again}")

    def _set(self, number: int, state: str) -> None:
        member = self._members[number]
        member.state, member.since = state, self._clock()

    def _in_state(self, state: str) -> list[int]:
        return [number for number, member in self._members.items() if member.state == state]


@dataclass(frozen=True)
class OnCluster:
    """Has units answered by a crew; an `Executor`."""

    crew: Crew
    asked: Mapping[str, Asking]

    def run(
        self, units: Sequence[Unit], told: Told, stop: Callable[[], bool]
    ) -> Iterator[Answered]:
        """Yield what is said to each unit as soon as it is there, in any order."""
        return self.crew.answers(units, self.asked, told, stop)
