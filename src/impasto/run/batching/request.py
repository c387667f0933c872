"""What one request makes the model read, as values: token ids, scored tokens, injected states."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Transplant:
    """A donor's token ids, and which of its tokens give their states to which of a request's.

    Attributes:
        ids: The donor prompt's token ids.
        rows: Pairs of indices: a token of the donor, the token of the request that it replaces.
    """

    ids: tuple[int, ...]
    rows: tuple[tuple[int, int], ...]

    def mirrored(self) -> "Transplant":
        """Return a transplant of the same donor tokens into the donor itself."""
        return Transplant(self.ids, tuple((source, source) for source, _ in self.rows))


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """Token ids to read, the tokens whose successors are predicted, and what is injected by name.

    Attributes:
        ids: The token ids.
        scored: The tokens (by index) whose successors are predicted.
        transplants: The donors' states that replace some of its tokens', by the name in the plan.
    """

    ids: list[int]
    scored: range
    transplants: Mapping[str, Transplant]

    @property
    def shareable(self) -> int:
        """How many leading tokens may be read apart from the rest: none scored, none replaced."""
        return min([self.scored.start, *self._targets])

    @property
    def _targets(self) -> list[int]:
        return [target for t in self.transplants.values() for _, target in t.rows]

    def may_share(self, other: "TokenRequest", length: int) -> bool:
        """Whether the first ``length`` tokens, alike in both, also get the same states injected."""
        is_inside = all(target < length for target in self._targets)
        return self.transplants == other.transplants and is_inside
