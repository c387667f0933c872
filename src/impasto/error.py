"""What impasto raises: the reason, in a sentence, for whoever has to do something about it.

Every layer may raise these errors, or a subclass that says where. The command line prints their
message and exits with 2. Anything else that leaves the package is a fault of impasto's own.
"""

from collections.abc import Iterable
from difflib import get_close_matches

MOST_CHARACTERS, MOST_LINES = 1_000, 60  # of a line of a message, and of its lines


class ImpastoError(Exception):
    """What everything that impasto raises derives from; the message is the reason.

    However long what it quotes is, the message is not: it is cut here.
    """

    def __str__(self) -> str:
        """Return the message, with its long lines cut in their middle."""
        lines = super().__str__().split("\n")
        more = [f"… and {len(lines) - MOST_LINES} more lines"] if len(lines) > MOST_LINES else []
        return "\n".join([*map(_cut, lines[:MOST_LINES]), *more])


class UserError(ImpastoError, ValueError):
    """Something that the user gave cannot work; the message says what and what would.

    A model that cannot be opened, a plan that is none, a file that is not there, a value out of
    range. It is a ``ValueError`` as well.
    """


def _cut(line: str) -> str:
    """Return a line without its middle, where it is long."""
    if len(line) <= MOST_CHARACTERS:
        return line
    half = MOST_CHARACTERS // 2
    return f"{line[:half]} … ({len(line) - 2 * half:,} characters left out) … {line[-half:]}"


def shown(value: object, most: int = 60) -> str:
    """Return a value as a message shows it: its ``repr``, cut where it is long."""
    try:
        text = " ".join(repr(value).split())
    except ValueError:  # Python does not write down whole numbers of thousands of digits
        return "a number of too many digits" if isinstance(value, int) else type(value).__name__
    return text if len(text) <= most else text[: most - 1] + "…"


def near(word: str, allowed: Iterable[str]) -> str:
    """Return `; did you mean 'tasks'?`, or nothing where no allowed word is near."""
    found = get_close_matches(word, list(allowed), n=1, cutoff=0.5)
    return f"; did you mean {found[0]!r}?" if found else ""
