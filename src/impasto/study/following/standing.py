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
    """

    share: float
    doing: str
    detail: str = ""
    cells: int = 0
    of: int = 0
    pace: float | None = None


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
        self._began = clock()

    def told(self, unit: Unit, share: float) -> None:
        """Show that a share of a unit is finished."""
        self._show(unit, share)

    def saved(self, unit: Unit) -> Standing:
        """Count a unit as finished, show that and return it."""
        standing = self._show(unit, 1.0, len(unit.plans))
        self._items += _answers(unit)
        self._cells += len(unit.plans)
        self._finished += self._weights[unit.id]
        return standing

    def done(self) -> None:
        """Show that nothing is left."""
        self._progress(Standing(1.0, "done", "", self._cells, self._of, self._pace(self._items)))

    def _show(self, unit: Unit, share: float, cells: int = 0) -> Standing:
        standing = Standing(
            min(1.0, self._finished + share * self._weights[unit.id]),
            self._titles[unit.task],
            _detail(unit),
            self._cells + cells,
            self._of,
            self._pace(self._items + share * _answers(unit)),
        )
        self._progress(standing)
        return standing

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
