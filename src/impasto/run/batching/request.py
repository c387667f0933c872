"""What one request makes the model read, as values."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Transplant:
    """A donor read: its tokens, and which of its rows go to which rows of the request."""

    ids: tuple[int, ...]
    rows: tuple[tuple[int, int], ...]  # (donor's row, request's row)

    def mirrored(self) -> "Transplant":
        """Return the same with the donor's rows in the place of the request's."""
        return Transplant(self.ids, tuple((source, source) for source, _ in self.rows))


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """Tokens to read, the rows after which predictions are wanted, and what is injected."""

    ids: list[int]
    scored: range
    transplants: Mapping[str, Transplant]

    @property
    def common(self) -> int:
        """How many leading tokens may be read before the rest, for many passages at once."""
        return min([self.scored.start, *self._targets])

    @property
    def _targets(self) -> list[int]:
        return [row for t in self.transplants.values() for _, row in t.rows]

    def may_share(self, other: "TokenRequest", length: int) -> bool:
        """Whether the first ``length`` tokens, alike in both, are edited alike as well."""
        return self.transplants == other.transplants and all(row < length for row in self._targets)
