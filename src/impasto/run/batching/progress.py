"""How much of some work is done."""

from collections.abc import Callable


class Meter:
    """Reports the share of some work that is done."""

    def __init__(self, report: Callable[[float], None], total: int) -> None:
        self._report, self._total, self._done = report, max(total, 1), 0

    def add(self, work: int) -> None:
        """Count some work as done."""
        self._done += work
        self._report(min(1.0, self._done / self._total))
