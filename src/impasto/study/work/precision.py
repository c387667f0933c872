"""How precisely changes against the baseline are known, and how many questions would be enough.

A study that asks until its changes are known well enough decides by saved answers alone: by the
widest 95 % interval of any plan's change, over the items that all plans were asked. Where no item
has changed yet, an interval must not be empty, so two items are added of which one is lost and one
gained (Bonett & Price, *J. Educ. Behav. Stat.* 37 (2012), generalised to values that are no
shares).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil, fsum, inf, isfinite, sqrt
from statistics import NormalDist, fmean
from typing import Any

from impasto.study.work.units import FEWEST_ITEMS
from impasto.tasks import Estimate, Group, Precision, Suite, Task, Valued
from impasto.tasks.metrics import main_metric, metric_of

Z = NormalDist().inv_cdf(0.975)
FIRST = 100  # items of the first round: with fewer a variance is hardly known
GROWTH = 2.0  # by which a round multiplies the items at the most
SPARE = 1.05  # so that a round that is sized by an estimate is mostly the last
PARTS = 20  # that are left out in turn where a value is no mean

POINTS, PERCENT = "points", "% of the baseline's value"

Values = Mapping[str, Sequence[Any]]  # by task: each asked item's value of one metric, in order


@dataclass(frozen=True, slots=True)
class Width:
    """Half of an interval; `unit` says of what it is a share: of 1, or of the baseline's value."""

    half: float
    unit: str = POINTS


@dataclass(frozen=True, slots=True)
class Reached:
    """How precisely a task, or a group as a whole, is known.

    Attributes:
        name: Of the task or group.
        within: What half of every interval is to be at the most, as a share.
        asked: How many items every plan was asked, or is being asked.
        items: How many there are.
        most: How many may be asked.
        widest: Half of the widest interval; None where there is none yet.
        unit: Of what it is a share.
        plan: Whose it is.
        later: How many answers may be asked for at the most behind these: items under plans.
        is_done: Whether it is known that no more will be asked.
    """

    name: str
    within: float
    asked: int
    items: int
    most: int
    widest: float | None = None
    unit: str = POINTS
    plan: str = ""
    later: int = 0
    is_done: bool = False

    def __str__(self) -> str:
        how_many = f"{self.asked:,} of {self.items:,} questions"
        if self.asked >= self.items:
            how_many = f"all {self.items:,} questions"
        elif self.asked >= self.most and not self.is_enough:
            how_many += ", as many as at_most allows"
        doing, yet = ("asked", "") if self.is_done else ("asking", " yet")
        wanted = f"wanted ± {_hundredths(self.within)}"
        if self.widest is None:
            return f"{self.name}: {doing} {how_many}; no interval is known{yet}, {wanted}"
        half = f"± {_hundredths(self.widest)} {self.unit}"
        return (
            f"{self.name}: {doing} {how_many}; the widest interval is {half} (plan {self.plan}), "
            f"{wanted}"
        )

    @property
    def is_enough(self) -> bool:
        """Whether every change is known as precisely as was wanted."""
        return self.widest is not None and self.widest <= self.within


@dataclass(frozen=True)
class Measured:
    """What is to be known precisely: one task, or the tasks of a group as a whole."""

    name: str
    precision: Precision
    tasks: Sequence[Task]
    group: Group | None

    @property
    def items(self) -> int:
        """How many items there are."""
        return sum(len(task.items) for task in self.tasks)

    @property
    def most(self) -> int:
        """How many may be asked."""
        return sum(self.most_of(task) for task in self.tasks)

    def most_of(self, task: Task) -> int:
        """Return how many of a task's items may be asked."""
        return min(len(task.items), self.precision.at_most or len(task.items))

    def shared_out(self, items: int) -> dict[str, int]:
        """Return how many of each task's items are so many in all: the same share of every task."""
        share = items / self.most
        return {
            task.name: min(most, ceil(share * most - 1e-9))
            for task in self.tasks
            for most in [self.most_of(task)]
        }

    def first(self) -> int:
        """Return how many items the first round asks: no fewer could be enough."""
        fewest = ceil(Z * sqrt(2) / self.precision.within) - 2  # see `_narrowest`
        return min(self.most, max(FIRST, fewest, FEWEST_ITEMS * len(self.tasks)))

    def next(self, asked: int, widest: float) -> int:
        """Return how many items are to be asked in all, after so many gave this widest interval."""
        times = (widest / self.precision.within) ** 2 * SPARE
        wanted = min(GROWTH * asked, (asked + 2) * times - 2)
        return min(self.most, max(ceil(wanted), asked + FEWEST_ITEMS))

    def main_metric(self, estimates: Mapping[str, Mapping[str, float]]) -> str | None:
        """Return the metric that counts, given the names of each task's; None where there is none.

        A group's is one that it has a score of.
        """
        there = list(dict.fromkeys(name for found in estimates.values() for name in found))
        if self.group is not None:
            ones = {
                name: {metric: _known(1.0, 1) for metric in found}
                for name, found in estimates.items()
            }
            there = list(self.group.aggregate(ones))
        return main_metric(there) or next(iter(there), None)

    def width(self, metric: str, baseline: Values, plan: Values) -> Width:
        """Return half of the interval of a plan's change; both were asked the same items.

        Of means over items, it is over the items' differences. Of other values, such as a
        perplexity, every twentieth part of the items is left out in turn (the jackknife).
        """
        items = sum(len(values) for values in baseline.values())
        if not items:
            return Width(inf)
        if not all(
            _is_mean(task, metric, values[task.name])
            for task in self.tasks
            for values in (baseline, plan)
        ):
            return self._jackknifed(metric, baseline, plan, items)
        values = [float(v) for told in (baseline, plan) for some in told.values() for v in some]
        is_share = all(0 <= value <= 1 for value in values)
        largest, differences = self._differences(metric, baseline, plan)
        if is_share:
            return Width(half_width(differences, largest))
        scale = abs(self._value(metric, baseline))
        widest = max(map(abs, differences))
        return _as_share(half_width(differences, widest), scale, items)

    def _differences(
        self, metric: str, baseline: Values, plan: Values
    ) -> tuple[float, list[float]]:
        """Return the items' differences, weighted so that their mean is the change.

        And before them the greatest that a difference of 1 can become.
        """
        counts = {task.name: len(baseline[task.name]) for task in self.tasks}
        weights = self._weights(metric, counts)
        total = sum(counts.values())
        times = {name: weights[name] * total / count for name, count in counts.items() if count}
        differences = [
            times[name] * (float(new) - float(old))
            for name in times
            for old, new in zip(baseline[name], plan[name], strict=True)
        ]
        return max(times.values()), differences

    def _weights(self, metric: str, counts: Mapping[str, int]) -> dict[str, float]:
        """Return what each task's value counts in the group's, which is linear in them."""
        if self.group is None:
            return dict.fromkeys(counts, 1.0)
        asked = [name for name, count in counts.items() if count]
        return {
            one: self.group.aggregate(
                {name: {metric: _known(float(name == one), counts[name])} for name in asked}
            )[metric].value
            for one in asked
        }

    def _value(self, metric: str, values: Values) -> float:
        """Return what a metric comes to over some items."""
        there = {task.name: task for task in self.tasks if values[task.name]}
        found = {name: _value_of(task, metric, values[name]) for name, task in there.items()}
        if self.group is None:
            return next(iter(found.values()))
        estimates = {
            name: {metric: _known(value, len(values[name]))} for name, value in found.items()
        }
        return self.group.aggregate(estimates)[metric].value

    def _jackknifed(self, metric: str, baseline: Values, plan: Values, items: int) -> Width:
        parts = min(PARTS, *(len(values) for values in baseline.values()))
        if parts < 2:
            return Width(inf)

        def change(part: int) -> float:
            rest = (
                {
                    name: [v for i, v in enumerate(values) if i % parts != part]
                    for name, values in told.items()
                }
                for told in (plan, baseline)
            )
            new, old = (self._value(metric, values) for values in rest)
            return new - old

        half = jackknife_half_width(list(map(change, range(parts))))
        if metric_of(metric).is_bounded:
            return Width(max(half, _narrowest(items)))
        return _as_share(half, abs(self._value(metric, baseline)), items)


def measured(suite: Suite) -> list[Measured]:
    """Return what of a suite is to be known precisely."""
    above = {whole.name: whole.part_of for whole in (*suite.tasks, *suite.groups)}
    groups = {group.name: group for group in suite.groups}

    def top(name: str) -> str:
        while name not in suite.precisions and above.get(name):
            name = above[name]
        return name

    return [
        Measured(
            name,
            precision,
            [task for task in suite.tasks if top(task.name) == name],
            groups.get(name),
        )
        for name, precision in suite.precisions.items()
    ]


def most_asked(suite: Suite) -> dict[str, int]:
    """Return how many items of each task may be asked, by its name."""
    bounds = {task.name: one.most_of(task) for one in measured(suite) for task in one.tasks}
    return {task.name: bounds.get(task.name, len(task.items)) for task in suite.tasks}


def half_width(differences: Sequence[float], largest: float) -> float:
    """Return half of the 95 % interval of a mean difference.

    One difference of `largest` and one of −`largest` are added, so that it is never empty.
    """
    n = len(differences) + 2
    mean = fsum(differences) / n
    variance = (fsum(d * d for d in differences) + 2 * largest**2) / n - mean**2
    return Z * sqrt(max(0.0, variance) / n)


def jackknife_half_width(without: Sequence[float]) -> float:
    """Return half of the 95 % interval of a value, given it without each of some equal parts."""
    from scipy.special import stdtrit

    if not all(map(isfinite, without)):
        return inf
    n, mean = len(without), fmean(without)
    error = sqrt((n - 1) / n * fsum((value - mean) ** 2 for value in without))
    return float(stdtrit(n - 1, 0.975)) * error


def widest(widths: Mapping[str, Width]) -> tuple[str, Width] | None:
    """Return the plan with the widest interval, and that; None where there is no plan."""
    return max(widths.items(), key=lambda each: each[1].half, default=None)


def _known(value: float, items: int) -> Estimate:
    """Return an estimate for a group to weight by its items, however few they are.

    lm-eval pools errors by n − 1, which must not be 0 for all; what counts is how many times as
    many items one task has as another.
    """
    return Estimate(value, 0.0, 2 * items)


def _narrowest(items: int) -> float:
    """Return the half-width of a share where none of so many items has changed."""
    return Z * sqrt(2) / (items + 2)


def _as_share(half: float, scale: float, items: int) -> Width:
    """Return a half-width as a share of the baseline's value."""
    return Width(max(half / scale, _narrowest(items)) if scale else inf, PERCENT)


def _is_mean(task: Task, metric: str, values: Sequence[Any]) -> bool:
    """Say whether a metric comes to the mean of its items' values."""
    if not all(isinstance(value, bool | int | float) for value in values):
        return False
    if not values:
        return True
    mean = fmean(map(float, values))
    return abs(_value_of(task, metric, values) - mean) <= 1e-9 * max(1.0, abs(mean))


def _value_of(task: Task, metric: str, values: Sequence[Any]) -> float:
    if isinstance(task, Valued):
        return task.value(metric, values)
    return task.aggregate(metric, values).value


def _hundredths(share: float) -> str:
    """Return a share times 100 as text: 0.034 is `3.4`."""
    return f"{100 * share:,.2f}".rstrip("0").rstrip(".")
