"""In what order plans that decode together run their steps: a schedule, made once and run often.

Plans stand side by side, each with a stretch of the rows. Where the next step of neighbours is the
same, one call of the block runs it for all of them. A schedule depends on the plans and on how many
rows each has, not on their tokens, so it holds until plans come or go.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

from impasto.plan import Freeze, Inject, Layer, Noise, Parallel, Step
from impasto.plan.attending import attends, attentions, is_last_attention
from impasto.run.noise import NoiseSource

Label = tuple[int, int]  # a layer, and how often the plan's attention ran there before

Mode = Literal["trunk", "packed", "held"]
"""How a plan's rows run: one for each token; as earlier and as current ones; as current ones, the
earlier ones giving no more than keys and values."""


@dataclass(frozen=True, slots=True)
class Stop:
    """A layer step on a plan's way.

    Attributes:
        step: The step.
        labels: The attention occurrences in it, in order.
        is_last: Whether earlier tokens are seen here for the last time, as they are found.
    """

    step: Step
    labels: tuple[Label, ...]
    is_last: bool


@dataclass(frozen=True, slots=True)
class Mark:
    """A marker on a plan's way: noise from a source, or a freeze (None)."""

    source: NoiseSource | None
    keep: int = 0


Way = tuple[Stop | Mark, ...]


def way(steps: Sequence[Step]) -> Way:
    """Return the way of a plan. Injections are not on it: they lie in the prompt, read already."""
    seen: Counter[int] = Counter()
    last = max((place for place, step in enumerate(steps) if attends(step)), default=-1)
    found: list[Stop | Mark] = []
    depth = noises = 0
    for place, step in enumerate(steps):
        match step:
            case Layer() | Parallel():
                labels = []
                for layer in attentions(step):
                    labels.append((layer, seen[layer]))
                    seen[layer] += 1
                is_last = place == last and is_last_attention(step)
                found.append(Stop(step, tuple(labels), is_last))
                depth += 1
            case Noise():
                source = NoiseSource(step.kind, step.seed, depth, noises)
                found.append(Mark(source, step.keep))
                noises += 1
            case Freeze():
                found.append(Mark(None))
            case Inject():
                pass
    return tuple(found)


def labels(way: Way) -> list[Label]:
    """Return the attention occurrences on a way, in order."""
    return [label for stop in way if isinstance(stop, Stop) for label in stop.labels]


def neighbourhood(way: Way) -> tuple[str, int, int]:
    """Say where a plan stands among others, so that those that run alike are neighbours.

    Of plans with the same layers, those with noise come first, those that freeze last, and in
    between those that are not edited: so rows that run alike lie side by side at every depth.
    """
    bare = repr([stop.step for stop in way if isinstance(stop, Stop)])
    at = next((at for at, stop in enumerate(way) if isinstance(stop, Mark)), None)
    if at is None:
        return bare, 1, 0
    mark = way[at]
    assert isinstance(mark, Mark)
    return (bare, 2, -at) if mark.source is None else (bare, 0, at)


@dataclass(frozen=True, slots=True)
class Parted:
    """Let current rows of a plan begin as the earlier ones are."""

    span: slice


@dataclass(frozen=True, slots=True)
class Noised:
    """Put noise in the place of a plan's earlier rows, all but the first ``keep`` tokens'."""

    span: slice
    source: NoiseSource
    keep: int


@dataclass(frozen=True, slots=True)
class Call:
    """Run a step for the batch entries of neighbouring plans.

    Attributes:
        plans: The plans, by index.
        span: Their batch entries.
        step: The step.
        labels: The attention occurrences in it.
        mode: How the rows run.
        copied: Batch entries without current rows, which run copies of theirs in their place.
        held: Batch entries whose earlier rows run, and stay as they are.
    """

    plans: range
    span: slice
    step: Step
    labels: tuple[Label, ...]
    mode: Mode
    copied: tuple[slice, ...] = ()
    held: tuple[slice, ...] = ()


Operation = Parted | Noised | Call


def schedule(
    ways: Sequence[Way], spans: Sequence[slice], follows: Sequence[bool], call: float
) -> list[Operation]:
    """Return what is run, in order, when plans read their next tokens.

    Args:
        ways: The plans' ways.
        spans: Their batch entries, side by side.
        follows: Of each, whether its keys and values lie right behind those of the one before.
        call: How many sequences a block could run in the time that a call of it costs anyway.
    """
    return list(_Scheduler(ways, spans, follows, call).run())


class _Scheduler:
    """Follows every plan on its way."""

    def __init__(
        self, ways: Sequence[Way], spans: Sequence[slice], follows: Sequence[bool], call: float
    ) -> None:
        self._ways, self._spans, self._follows, self._call = ways, spans, follows, call
        self._at = [0] * len(ways)
        self._modes: list[Mode] = ["trunk"] * len(ways)
        self._latest = [
            {(stop.step, stop.labels): at for at, stop in enumerate(way) if isinstance(stop, Stop)}
            for way in ways
        ]

    def run(self) -> Iterator[Operation]:
        """Yield one operation after the other.

        A step waits while others are still to come to it. Of those that none will join, the one
        that most plans wait for is run first.
        """
        while True:
            for plan in range(len(self._ways)):
                yield from self._markers(plan)
            waits = [self._next(plan) for plan in range(len(self._ways))]
            wanted = Counter(stop for stop in waits if stop is not None)
            if not wanted:
                break
            alone = Counter({stop: n for stop, n in wanted.items() if not self._is_ahead(stop)})
            [(most, _)] = (alone or wanted).most_common(1)
            for run in self._runs([plan for plan, stop in enumerate(waits) if stop == most]):
                yield from self._calls(*most, run)
        for plan, mode in enumerate(self._modes):
            if mode == "trunk":
                yield Parted(self._spans[plan])

    def _markers(self, plan: int) -> Iterator[Operation]:
        """Go on to a plan's next layer. Where earlier tokens are held, markers edit nothing."""
        way, span = self._ways[plan], self._spans[plan]
        while self._at[plan] < len(way):
            stop, mode = way[self._at[plan]], self._modes[plan]
            if isinstance(stop, Stop):
                if stop.is_last and mode == "packed":
                    self._modes[plan] = "held"
                return
            self._at[plan] += 1
            if mode == "trunk":
                yield Parted(span)
            if stop.source is None:
                self._modes[plan] = "held"
            elif mode != "held":
                yield Noised(span, stop.source, stop.keep)
                self._modes[plan] = "packed"

    def _is_ahead(self, stop: tuple[Step, tuple[Label, ...]]) -> bool:
        """Whether a plan that waits for something else is still to come to a step."""
        return any(
            latest.get(stop, -1) > at and self._next(plan) != stop
            for plan, (latest, at) in enumerate(zip(self._latest, self._at, strict=True))
        )

    def _next(self, plan: int) -> tuple[Step, tuple[Label, ...]] | None:
        if self._at[plan] == len(self._ways[plan]):
            return None
        stop = self._ways[plan][self._at[plan]]
        assert isinstance(stop, Stop), "markers have been passed"
        return stop.step, stop.labels

    def _runs(self, plans: Sequence[int]) -> Iterator[list[int]]:
        """Part plans into runs of neighbours."""
        run: list[int] = []
        for plan in plans:
            if run and (plan > run[-1] + 1 or not self._follows[plan]):
                yield run
                run = []
            run.append(plan)
        yield run

    def _calls(self, step: Step, labels: tuple[Label, ...], run: list[int]) -> Iterator[Call]:
        """Yield the calls of a step for neighbouring plans: those that together cost least."""
        alike = [list(group) for _, group in groupby(run, key=self._modes.__getitem__)]
        best: list[tuple[float, list[Call]]] = [(0, [])]  # from each group on, the last first
        for begin in reversed(range(len(alike))):
            options = []
            for end, (cost, calls) in zip(range(len(alike), begin, -1), best, strict=False):
                plans = [plan for group in alike[begin:end] for plan in group]
                own, call = self._cheapest(step, labels, plans)
                options.append((own + cost, [call, *calls]))
            best.append(min(options, key=lambda option: option[0]))
        yield from best[-1][1]
        for plan in run:
            self._at[plan] += 1

    def _cheapest(
        self, step: Step, labels: tuple[Label, ...], plans: list[int]
    ) -> tuple[float, Call]:
        """Return the call of a step for some plans, and what it costs in rows.

        Plans of several modes, or few held ones, run as packed rows; what is more than they need
        costs less than a call apart.
        """
        spans = [self._spans[plan] for plan in plans]
        span = slice(spans[0].start, spans[-1].stop)
        rows, modes = span.stop - span.start, {self._modes[plan] for plan in plans}

        def call(mode: Mode, **more: tuple[slice, ...]) -> Call:
            return Call(range(plans[0], plans[-1] + 1), span, step, labels, mode, **more)

        if modes == {"trunk"}:
            return self._call + rows, call("trunk")
        if modes == {"held"} and (not labels or rows > self._call):
            return (2 if labels else 1) * self._call + rows, call("held")
        apart = {
            name: tuple(self._spans[plan] for plan in plans if self._modes[plan] == mode)
            for name, mode in (("copied", "trunk"), ("held", "held"))
        }
        return self._call + 2 * rows, call("packed", **apart)
