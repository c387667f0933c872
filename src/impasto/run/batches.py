"""Cutting requests into batches of about equal work, and saying how much of it is done."""

from collections.abc import Callable, Iterator, Sequence

ROWS_PER_BATCH = 8192


def batches(lengths: Sequence[int], rows: int = ROWS_PER_BATCH) -> Iterator[list[int]]:
    """Yield the indices of requests that run together, longest first.

    Args:
        lengths: The tokens of each request.
        rows: The most token rows, padding included, that a batch may have. A request that is
            longer makes a batch of its own.
    """
    order = sorted(range(len(lengths)), key=lambda index: -lengths[index])
    begin = 0
    while begin < len(order):
        count = max(1, rows // max(1, lengths[order[begin]]))
        yield order[begin : begin + count]
        begin += count


class Meter:
    """Reports the share of some work that is done."""

    def __init__(self, report: Callable[[float], None], total: int) -> None:
        self._report, self._total, self._done = report, max(total, 1), 0

    def add(self, work: int) -> None:
        """Count some work as done."""
        self._done += work
        self._report(self._done / self._total)
