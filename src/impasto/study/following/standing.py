"""How far a run is, as a value that bars, lines, logs and trackers show."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from impasto.study.work.units import Unit


@dataclass(frozen=True, slots=True)
class Standing:
    """How far a run is.

    Attributes:
        share: The finished share of what it has to do, 0 to 1.
        doing: What it is at: a task.
        detail: Which items of it, and under which plans.
        cells: How many of the study's cells are finished, those of earlier runs among them.
        of: How many it has.
        pace: Items answered per second, each plan's counted; None before anything was.
        running: How many units are being answered at once.
        model: Which of a study's models is being run: `model 2 of 3, demo`; empty where it has one.
            All else is said of this model.
    """

    share: float
    doing: str
    detail: str = ""
    cells: int = 0
    of: int = 0
    pace: float | None = None
    running: int = 0
    model: str = ""


Progress = Callable[[Standing], None]


class Standings:
    """Makes a run's standings of what it is told; the clock begins with the first unit."""

    def __init__(
        self,
        units: Sequence[Unit],
        titles: Mapping[str, str],
        cells: int,
        progress: Progress,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._progress, self._titles, self._clock = progress, titles, clock
        self._of = cells
        self._cells = cells - sum(len(unit.plans) for unit in units)
        self._weights = _weights(units)
        self._items = self._finished = 0.0
        self._running: dict[int, tuple[Unit, float]] = {}  # units with their finished shares
        self._began = clock()

    def told(self, unit: Unit, share: float) -> None:
        """Show that a share of a unit is finished; several may be running at once."""
        self._running[unit.id] = unit, share
        self._show(self._titles[unit.task], _detail(unit))

    def saved(self, unit: Unit) -> Standing:
        """Count a unit as finished, show that and return it."""
        self._running.pop(unit.id, None)
        self._items += _answers(unit)
        self._cells += len(unit.plans)
        self._finished += self._weights[unit.id]
        return self._show(self._titles[unit.task], _detail(unit))

    def done(self) -> None:
        """Show that nothing is left."""
        self._finished = 1.0
        self._running.clear()
        self._show("done")

    def now(self) -> Standing:
        """Return how far the run is."""
        return self._standing("")

    def _show(self, doing: str, detail: str = "") -> Standing:
        standing = self._standing(doing, detail)
        self._progress(standing)
        return standing

    def _standing(self, doing: str, detail: str = "") -> Standing:
        running = self._running.values()
        share = sum(part * self._weights[unit.id] for unit, part in running)
        return Standing(
            min(1.0, self._finished + share),
            doing,
            detail,
            self._cells,
            self._of,
            self._pace(self._items + sum(part * _answers(unit) for unit, part in running)),
            len(running),
        )

    def _pace(self, items: float) -> float | None:
        lasted = self._clock() - self._began
        return items / lasted if items and lasted > 0 else None


def _weights(units: Sequence[Unit]) -> dict[int, float]:
    """Return each unit's share of the work: by time where it is known of all, else by answers."""
    known = [unit.expected for unit in units if unit.expected]
    sizes = known if len(known) == len(units) else [_answers(unit) for unit in units]
    total = sum(sizes)
    return {unit.id: size / total for unit, size in zip(units, sizes, strict=True)}


def _answers(unit: Unit) -> int:
    return (unit.stop - unit.start) * len(unit.plans)


def _detail(unit: Unit) -> str:
    first, *rest = unit.plans
    more = f" and {len(rest)} more" if rest else ""
    return f"{unit.start + 1}–{unit.stop}, {_short(str(first))}{more}"


def _short(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:37]}..."
