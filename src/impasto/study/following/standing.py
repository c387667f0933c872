"""How far a run is, as a value that bars, lines, logs and trackers show."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from impasto.study.work.units import Unit


@dataclass(frozen=True, slots=True)
class Standing:
    """How far a run is.

    Attributes:
        share: The finished share of what it has to do at the most, 0 to 1.
        doing: What it is at: a task.
        detail: Which items of it, and under which plans.
        cells: How many of the study's cells are finished, those of earlier runs among them.
        of: How many it has.
        pace: Items answered per second, each plan's counted; None before anything was.
        running: How many units are being answered at once.
        model: Which of a study's models is being run: `model 2 of 3, demo`; empty where it has one.
            All else is said of this model.
        is_most: Whether it may have less to do than that, and end sooner; then more cells may come.
    """

    share: float
    doing: str
    detail: str = ""
    cells: int = 0
    of: int = 0
    pace: float | None = None
    running: int = 0
    model: str = ""
    is_most: bool = False


Progress = Callable[[Standing], None]


class Times:
    """How long a run has been going and how long it still takes, by its pace since its first item.

    Both are of the model that is being run: they begin anew with each.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._model: str | None = None

    def at(self, standing: Standing) -> tuple[float, float | None]:
        """Return the seconds gone and left at a standing; None where nobody knows yet."""
        now, share = self._clock(), standing.share
        if standing.model != self._model:
            self._model, self._start, self._began = standing.model, now, (now, 0.0)
        began, first = self._began
        if not first and share > 0:
            self._began = now, share
        elif first < share < 1:
            return now - self._start, (now - began) / (share - first) * (1 - share)
        return now - self._start, None


class Standings:
    """Makes a run's standings of what it is told; the clock begins with the first units.

    Of a run that asks in rounds, those to come count as if all that may be asked were asked.
    """

    def __init__(
        self,
        titles: Mapping[str, str],
        progress: Progress,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._progress, self._titles, self._clock = progress, titles, clock
        self._cells = self._of = self._later = 0
        self._units: list[Unit] = []
        self._weights: dict[int, float] = {}
        self._items = self._finished = 0.0
        self._saved: list[int] = []
        self._running: dict[int, tuple[Unit, float]] = {}  # units with their finished shares
        self._began = clock()

    def begin(self, units: Sequence[Unit], cells: int, later: int = 0) -> None:
        """Hear what is run now, of so many cells, and how many answers may follow at the most."""
        self._of, self._later = cells, later
        self._cells = cells - sum(len(unit.plans) for unit in units)
        self._units += units
        self._weights = _weights(self._units, later)
        self._finished = sum(self._weights[unit] for unit in self._saved)

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
        self._saved.append(unit.id)
        return self._show(self._titles[unit.task], _detail(unit))

    def done(self, cells: int) -> None:
        """Show that nothing is left, all cells being finished."""
        self._finished, self._cells, self._of, self._later = 1.0, cells, cells, 0
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
            is_most=self._later > 0,
        )

    def _pace(self, items: float) -> float | None:
        lasted = self._clock() - self._began
        return items / lasted if items and lasted > 0 else None


def _weights(units: Sequence[Unit], later: int) -> dict[int, float]:
    """Return each unit's share of the work: by time where it is known of all, else by answers.

    So many later answers take as long as these units' do.
    """
    known = [unit.expected for unit in units if unit.expected]
    answers = [_answers(unit) for unit in units]
    sizes = known if len(known) == len(units) else answers
    total = sum(sizes) * (1 + later / sum(answers))
    return {unit.id: size / total for unit, size in zip(units, sizes, strict=True)}


def _answers(unit: Unit) -> int:
    return (unit.stop - unit.start) * len(unit.plans)


def _detail(unit: Unit) -> str:
    first, *rest = unit.plans
    more = f" and {len(rest)} more" if rest else ""
    return f"{unit.start + 1}–{unit.stop}, {_short(str(first))}{more}"


def _short(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:37]}..."
