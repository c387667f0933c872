"""The compressed form of a plan: its steps told again in spans, repeats and brackets.

The canonical spelling, the diagram and the description in words are three ways to show these
items. They depend on the steps alone, so two spellings of one plan are shown alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from impasto.plan.repeats import find_repeats
from impasto.plan.steps import (
    Combine,
    Freeze,
    Inject,
    Layer,
    Noise,
    Parallel,
    Part,
    Reach,
    Step,
)


@dataclass(frozen=True, slots=True)
class Span:
    """Consecutive layers, ascending or descending, all with the same part, reach and scale."""

    first: int
    last: int
    part: Part
    reach: Reach | None = None
    scale: float = 1.0

    @property
    def size(self) -> int:
        """How many layers the span holds."""
        return abs(self.last - self.first) + 1


@dataclass(frozen=True, slots=True)
class Repeat:
    """These items, several times in a row."""

    items: tuple[Item, ...]
    times: int


@dataclass(frozen=True, slots=True)
class Brackets:
    """Parallel branches; ``spread`` is set when each layer of one span is a branch.

    A scaled group of items in a row is brackets of one branch.
    """

    branches: tuple[tuple[Item, ...], ...]
    combine: Combine
    spread: Span | None = None
    scale: float = 1.0

    @property
    def size(self) -> int:
        """How many branches there are."""
        return self.spread.size if self.spread else len(self.branches)


Item: TypeAlias = Span | Repeat | Brackets | Freeze | Noise | Inject


def compress(steps: Sequence[Step], groups: bool = True) -> tuple[Item, ...]:
    """Return the items that unroll to ``steps``.

    Without ``groups`` only single items are repeated, so that no parentheses are needed.
    """
    numbers, breaks = _number(steps)
    items: list[Item] = []
    at = 0
    for start, period, times in find_repeats(numbers, breaks):
        items += _runs(steps[at:start], groups)
        body = compress(steps[start : start + period], groups)
        if len(body) == 1 or groups:
            items.append(Repeat(body, times))
        else:
            items += body * times
        at = start + period * times
    return (*items, *_runs(steps[at:], groups))


def _number(steps: Sequence[Step]) -> tuple[list[int], list[bool]]:
    """Return a number for each step, and where no range can go on.

    Equal layers share a number, and so do equal brackets; a marker is like nothing else, since it
    cannot be repeated.
    """
    known: dict[object, int] = {}
    numbers: list[int] = []
    for at, step in enumerate(steps):
        key = step if isinstance(step, Layer | Parallel) else at
        numbers.append(known.setdefault(key, len(known)))
    breaks = [at == 0 or not _stride(steps[at - 1], steps[at]) for at in range(len(steps))]
    return numbers, breaks


def _runs(steps: Sequence[Step], groups: bool) -> list[Item]:
    """Return the items of steps that hold no repeats: the longest spans from the left."""
    items: list[Item] = []
    at = 0
    while at < len(steps):
        step = steps[at]
        end = at + 1
        if isinstance(step, Layer):
            stride = _stride(step, steps[end]) if end < len(steps) else 0
            while stride and end < len(steps) and _stride(steps[end - 1], steps[end]) == stride:
                end += 1
            last = steps[end - 1]
            assert isinstance(last, Layer)
            items.append(Span(step.index, last.index, step.part, step.reach, step.scale))
        elif isinstance(step, Parallel):
            items.append(_brackets(step, groups))
        else:
            items.append(step)
        at = end
    return items


def _stride(one: Step, other: Step) -> int:
    """Return 1 or -1 when ``other`` continues a range upwards or downwards, else 0."""
    if isinstance(one, Layer) and isinstance(other, Layer) and _are_alike(one, other):
        step = other.index - one.index
        return step if step in (1, -1) else 0
    return 0


def _are_alike(one: Layer, other: Layer) -> bool:
    return one.part == other.part and one.scale == other.scale and one.reach == other.reach


def _brackets(step: Parallel, groups: bool) -> Brackets:
    firsts = [branch[0] for branch in step.branches if len(branch) == 1]
    if len(firsts) == len(step.branches) and all(isinstance(first, Layer) for first in firsts):
        runs = _runs(firsts, groups)
        if len(runs) == 1 and isinstance(runs[0], Span):
            return Brackets(((runs[0],),), step.combine, runs[0], step.scale)
    branches = tuple(compress(branch, groups) for branch in step.branches)
    return Brackets(branches, step.combine, scale=step.scale)
