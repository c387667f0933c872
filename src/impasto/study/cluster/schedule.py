"""Who gets which unit, and what is done about units that take too long: decided, never done, here.

A `Schedule` is told what happens (a worker is free, is gone, has answered) and asked what is to be
done next. It knows no cluster and no clock: whoever uses it passes the time, in seconds, so every
decision can be tried without either.

Units go out longest first, so that no long one is begun last. A worker that is free while nothing
waits gets a copy of the unit that is latest, if it is late enough; the first answer counts. A unit
whose worker is gone waits again; one that ends too many of its workers ends the run.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from impasto.error import ImpastoError
from impasto.study.work.units import Unit


@dataclass(frozen=True, slots=True)
class Patience:
    """How long is too long; times in seconds.

    Attributes:
        late: A unit is late once it has run so many times as long as it should take.
        least: But not before it has run so long.
        stuck: A worker is stuck whose unit has made no progress for so long,
        times: and for so many times as long as the whole unit should take.
        silent: A worker is gone that has not answered anything for so long.
        tries: A unit may end so many workers.
        starts: So many workers in a row may be gone before they are ready.
        room: The cluster may have no room for any worker for so long.
    """

    late: float = 2.0
    least: float = 30.0
    stuck: float = 600.0
    times: float = 5.0
    silent: float = 60.0
    tries: int = 5
    starts: int = 3
    room: float = 600.0


@dataclass(slots=True)
class _Run:
    """A unit in a worker's hands: since when, and when it last made progress."""

    unit: Unit
    since: float
    share: float
    moved: float


class TooManyTriesError(ImpastoError):
    """A unit ended one worker after the other."""

    def __init__(self, unit: Unit, tries: int) -> None:
        super().__init__(unit, tries)
        self.unit, self.tries = unit, tries


class Schedule:
    """The units of one run, and the workers that have some of them; workers are told by number."""

    def __init__(self, units: Sequence[Unit], patience: Patience) -> None:
        self._patience = patience
        self._size = _sizes(units)
        self._waiting = sorted(units, key=lambda unit: -self._size[unit.id])
        self._open = {unit.id for unit in units}
        self._runs: dict[int, _Run] = {}  # by worker
        self._ended: dict[int, int] = {}  # by unit: the workers that it ended
        self._paces: list[float] = []  # seconds that a unit of size 1 took
        self._is_timed = all(unit.expected for unit in units)

    @property
    def is_done(self) -> bool:
        """Whether every unit is answered."""
        return not self._open

    @property
    def is_idle(self) -> bool:
        """Whether no worker has a unit that is not answered yet."""
        return not any(run.unit.id in self._open for run in self._runs.values())

    def unit_of(self, worker: int) -> Unit | None:
        """Return the unit that a worker has; None where it has none."""
        run = self._runs.get(worker)
        return None if run is None else run.unit

    def next(self, worker: int, now: float) -> Unit | None:
        """Give a free worker its next unit: the longest that waits, or a copy of one that is late.

        None where there is nothing for it to do now.
        """
        unit = self._waiting.pop(0) if self._waiting else self._latest(now)
        if unit is not None:
            self._runs[worker] = _Run(unit, now, 0.0, now)
        return unit

    def progressed(self, worker: int, share: float, now: float) -> None:
        """Hear what share of its unit a worker has finished."""
        run = self._runs.get(worker)
        if run is not None and share > run.share:
            run.share, run.moved = share, now

    def answered(self, worker: int, now: float) -> Unit | None:
        """Take a worker's answer and return its unit; None where another was faster.

        And where the worker was still at a copy of a unit of the round before.
        """
        run = self._runs.pop(worker, None)
        if run is None or run.unit.id not in self._open:
            return None
        self._open.remove(run.unit.id)
        self._waiting = [unit for unit in self._waiting if unit.id != run.unit.id]
        self._paces.append((now - run.since) / self._size[run.unit.id])
        return run.unit

    def gone(self, worker: int) -> Unit | None:
        """Hear that a worker is gone, and return the unit that waits again for it, if any.

        Raises:
            TooManyTriesError: when its unit has ended too many workers.
        """
        run = self._runs.pop(worker, None)
        if run is None or run.unit.id not in self._open:
            return None
        unit = run.unit
        self._ended[unit.id] = self._ended.get(unit.id, 0) + 1
        if self._ended[unit.id] >= self._patience.tries:
            raise TooManyTriesError(unit, self._ended[unit.id])
        if unit.id in self._held():
            return None  # a copy of it is running
        self._waiting.insert(0, unit)
        return unit

    def stuck(self, now: float) -> list[int]:
        """Return the workers whose units have made no progress for too long."""
        patience = self._patience
        return [
            worker
            for worker, run in self._runs.items()
            if now - run.moved > max(patience.stuck, patience.times * (self._due(run) or 0.0))
        ]

    def _latest(self, now: float) -> Unit | None:
        """Return the unit that is late by the most and has no copy yet."""
        held = self._held()
        late = [
            (lasted - due, run.unit)
            for run in self._runs.values()
            for lasted, due in [(now - run.since, self._due(run))]
            if run.unit.id in self._open
            and held.count(run.unit.id) == 1
            and due is not None
            and lasted > max(self._patience.least, self._patience.late * due)
        ]
        return max(late, key=lambda found: found[0])[1] if late else None

    def _held(self) -> list[int]:
        return [run.unit.id for run in self._runs.values()]

    def _due(self, run: _Run) -> float | None:
        """Return how long a unit should take, by what others took; None where nobody knows."""
        if self._paces:
            return median(self._paces) * self._size[run.unit.id]
        return self._size[run.unit.id] if self._is_timed else None


def _sizes(units: Sequence[Unit]) -> dict[int, float]:
    """Return how large each unit is: in expected seconds if known of all, else in answers."""
    if all(unit.expected for unit in units):
        return {unit.id: unit.expected or 0.0 for unit in units}
    return {unit.id: float((unit.stop - unit.start) * len(unit.plans)) for unit in units}
