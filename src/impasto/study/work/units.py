"""Units of work: one shard of a task's items under some plans, answered in one call of the engine.

A unit is all that a worker needs to know beside the model and the study: it names its task, says
which items and which plans, and how long it will take. Whoever answers it hands back `Answered`;
one process, the driver, saves that, whole or not at all. How a study is divided is decided once
and kept, since the engine's last bits depend on what is asked together.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil
from typing import Any, Protocol

from impasto.plan import Plan
from impasto.tasks import Response

FEWEST_ITEMS = 8  # in a shard: fewer would share too little
FEWEST_SECONDS = 2.0  # of a unit that is made shorter for several workers
UNITS_EACH = 4  # for each of several workers, so that they end at about the same time


@dataclass(frozen=True, slots=True)
class Unit:
    """Items `start` to `stop − 1` of a task under some plans.

    `expected` is how many seconds that takes at most; None where nobody knows.
    """

    id: int
    task: str
    start: int
    stop: int
    plans: tuple[Plan, ...]
    expected: float | None


@dataclass(frozen=True, slots=True)
class Answered:
    """What was said to a unit.

    Attributes:
        unit: The unit's id.
        responses: By plan, then item, then request.
        truncated: How many of the items did not fit the model's context whole.
        began: When, in seconds since 1970.
        seconds: How long it took.
        host: On which machine.
        device: On what there.
    """

    unit: int
    responses: Sequence[Sequence[Sequence[Response]]]
    truncated: int
    began: float
    seconds: float
    host: str
    device: str


Told = Callable[[Unit, float], None]  # which unit is being answered, and what share of it is


class UnitRunner(Protocol):
    """Who answers units: in any order, each once, here or elsewhere."""

    def run(
        self, units: Sequence[Unit], told: Told, stop: Callable[[], bool]
    ) -> Iterator[Answered]:
        """Yield what was said to each unit as soon as it is there.

        Once `stop()` says so, what is running is still answered, and nothing else is begun.
        """
        ...


def unit_seconds(longest: float, expected: Sequence[float | None], workers: int) -> float:
    """Return how long a unit is to take, given how long each task is expected to.

    One worker takes the longest that may be lost; several take shorter ones where there would be
    too few to keep all of them busy to the end.
    """
    if workers < 2 or None in expected:
        return longest
    total = sum(seconds for seconds in expected if seconds is not None)
    return min(longest, max(FEWEST_SECONDS, total / (workers * UNITS_EACH)))


def shard_starts(items: int, expected: float | None, seconds: float) -> list[int]:
    """Return where the shards of a task begin, so that each takes about so many seconds.

    They are of like size. A task that takes less than two shards' time, or nobody knows how long,
    is one.
    """
    if expected is None or expected < 2 * seconds:
        return [0]
    count = max(1, min(round(expected / seconds), items // FEWEST_ITEMS))
    return [number * items // count for number in range(count)]


def plan_groups(
    plans: Sequence[Plan], expected: float | None, seconds: float
) -> list[tuple[Plan, ...]]:
    """Return the plans of one shard in groups that each take about so many seconds.

    They are one group wherever the shard is short enough. Otherwise neighbours in the tree of plans
    stay together, so that little of what they share is run again.
    """
    if expected is None or expected < 2 * seconds or len(plans) < 2:
        return [tuple(plans)]
    count = min(ceil(expected / seconds), len(plans))
    ordered = sorted(plans, key=_place)
    starts = [number * len(plans) // count for number in range(count + 1)]
    return [tuple(ordered[a:b]) for a, b in pairwise(starts)]


def _place(plan: Plan) -> list[Any]:
    return [repr(step) for step in plan.steps]
