"""When a text that is being written ends."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Stopping:
    """When to end: after so many new tokens, or when a sequence of new tokens is finished."""

    max_new_tokens: int
    is_finished: Callable[[list[int]], bool]

    def is_done(self, written: list[int]) -> bool:
        """Whether nothing is to follow these new tokens."""
        return len(written) >= self.max_new_tokens or self.is_finished(written)
