"""Finding what is said several times in a row, in O(n log n).

Works on plain numbers that stand for steps. For every window of 1, 2, 4, 8 … numbers it asks how
far away the same window comes next: windows that come again after a distance d, side by side over
at least d numbers, are a sequence of length d said twice or more. The answer depends on nothing
but the numbers.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from typing import NamedTuple


class Repeated(NamedTuple):
    """``period`` numbers from ``start`` on, ``times`` times in a row."""

    start: int
    period: int
    times: int


def find_repeats(numbers: Sequence[int], breaks: Sequence[bool]) -> list[Repeated]:
    """Return repeats that do not overlap, in order; those that save most are chosen first.

    ``breaks[i]`` says that number i does not continue a range; where a repeat may begin at
    several places, the one that cuts fewest ranges wins (``23 8-23*2``, not ``(23 8-22)*2 23``).
    """
    queue = [
        (period - length // period * period, start, period, length)
        for period, start, length in _stretches(numbers)
    ]
    heapq.heapify(queue)
    broken = [0]
    for flag in breaks:
        broken.append(broken[-1] + flag)
    taken = bytearray(len(numbers))
    chosen: list[Repeated] = []
    while queue:
        _, start, period, length = heapq.heappop(queue)
        end = start + length
        blocked = taken.find(1, start, end)
        if blocked >= 0:
            free = taken.find(0, blocked, end)
            for left, right in ((start, blocked), (free, end)):
                if left >= 0 and right - left >= 2 * period:
                    size = right - left
                    saved = size // period * period - period
                    heapq.heappush(queue, (-saved, left, period, size))
            continue
        times = length // period
        shifts = range(length - times * period + 1)
        start += min(shifts, key=lambda s: broken[start + s + period] - broken[start + s + 1])
        taken[start : start + times * period] = b"\1" * (times * period)
        chosen.append(Repeated(start, period, times))
    return sorted(chosen)


def _stretches(numbers: Sequence[int]) -> Iterator[tuple[int, int, int]]:
    """Yield (period, start, length) of every stretch found that repeats with that period."""
    same: dict[int, list[tuple[int, int]]] = {}
    for width, names in _windows(numbers):
        coming: dict[int, int] = {}
        for at in range(len(names) - 1, -1, -1):
            name = names[at]
            if name in coming:
                same.setdefault(coming[name] - at, []).append((at, at + width))
            coming[name] = at
    for period, places in sorted(same.items()):
        for start, end in _grown(numbers, period, _merged(places)):
            if end - start >= period:
                yield period, start, end - start + period


def _merged(places: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Yield the union of half-open intervals as disjoint intervals, in order."""
    places.sort()
    start, end = places[0]
    for left, right in places[1:]:
        if left > end:
            yield start, end
            start, end = left, right
        else:
            end = max(end, right)
    yield start, end


def _grown(
    numbers: Sequence[int], period: int, places: Iterator[tuple[int, int]]
) -> Iterator[tuple[int, int]]:
    """Yield each interval grown to both sides, as far as numbers equal those a period later.

    Windows that also come again inside the period leave holes. Only an interval that already
    covers a quarter of the period is worth the comparisons.
    """
    done = 0
    for start, end in places:
        if 4 * (end - start) >= period:
            while start > done and numbers[start - 1] == numbers[start - 1 + period]:
                start -= 1
            while end + period < len(numbers) and numbers[end] == numbers[end + period]:
                end += 1
        if end > done:
            yield start, end
            done = end


def _windows(numbers: Sequence[int]) -> Iterator[tuple[int, Sequence[int]]]:
    """Yield (width, a name for the window at each place) until no window occurs twice."""
    width, names = 1, numbers
    while len(set(names)) < len(names):
        yield width, names
        known: dict[tuple[int, int], int] = {}
        pairs = zip(names, names[width:], strict=False)
        names = [known.setdefault(pair, len(known)) for pair in pairs]
        width *= 2
