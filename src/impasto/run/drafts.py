"""Drafts: what another plan wrote behind the same prompt, as a guess at what a plan will write.

Plans that differ little write much the same. So where the last tokens of a text have been written
behind its prompt before, what followed them then is read along with the next token, and what the
plan would have written itself is kept: as many tokens as agree, for one step. How much of a guess
is worth its rows is told by how well earlier guesses did.
"""

import math
from array import array
from collections.abc import Sequence

_LONG, _SHORT = 6, 3  # how many last tokens are looked for
_BETWEEN = -1  # no token: it stands between texts
_FADES = 0.9  # what is left, a step later, of what a guess has shown
MOST = 31  # tokens of a guess that are read at once


class Known:
    """What plans have written behind one prompt, the latest last."""

    def __init__(self, prompt: Sequence[int]) -> None:
        self._tail = list(prompt[-_LONG:])
        self._texts = bytearray()

    def add(self, text: Sequence[int]) -> None:
        """Take in what a plan has written."""
        self._texts += _bytes([_BETWEEN, *self._tail, *text])

    def after(self, text: Sequence[int], most: int) -> list[int]:
        """Return up to ``most`` tokens that followed, the last time, what ``text`` ends with."""
        context = [*self._tail, *text[-_LONG:]]
        for count in (_LONG, _SHORT):
            at = self._find(_bytes(context[-count:]))
            if at is not None:
                return self._until_end(at, most)
        return []

    def _find(self, tokens: bytes) -> int | None:
        """Return where the last occurrence of some tokens ends, if anything follows it."""
        before = len(self._texts) - _SIZE  # at least one token has to follow
        while (at := self._texts.rfind(tokens, 0, before)) >= 0:
            if at % _SIZE == 0:
                return at + len(tokens)
            before = at + len(tokens) - 1
        return None

    def _until_end(self, at: int, most: int) -> list[int]:
        found = array(_TYPE, bytes(self._texts[at : at + most * _SIZE])).tolist()
        return found[: found.index(_BETWEEN)] if _BETWEEN in found else found


class Trust:
    """How far what is guessed of a plan's texts has come true, of late."""

    def __init__(self) -> None:
        self._hits = self._guesses = 0.0

    def note(self, hits: int, guesses: int) -> None:
        """Count guesses of one token each, those that no draft was found for among them."""
        self._hits = _FADES * self._hits + hits
        self._guesses = _FADES * self._guesses + guesses

    def worth(self, sequences: int, free: int) -> int:
        """Return how many tokens of a guess are worth reading at once.

        A step costs as much as ``free`` rows would, and a row for each of the sequences in it. A
        token that comes true saves its sequence a row later, and its share of a step; so a row is
        well spent on it if that is likelier than ``sequences / (sequences + free)``.
        """
        chance = self._hits / (self._guesses + 1)
        if not chance:
            return 0
        return min(MOST, int(math.log(sequences / (sequences + free)) / math.log(chance)))


_TYPE = "i"
_SIZE = array(_TYPE).itemsize


def _bytes(tokens: Sequence[int]) -> bytes:
    return array(_TYPE, tokens).tobytes()
