"""What impasto raises: the reason, in a sentence, for whoever has to do something about it.

Every layer may raise these errors, or a subclass that says where. The command line prints their
message and exits with 2. Anything else that leaves the package is a fault of impasto's own.
"""


class ImpastoError(Exception):
    """What everything that impasto raises derives from; the message is the reason."""


class UserError(ImpastoError, ValueError):
    """Something that the user gave cannot work; the message says what and what would.

    A model that cannot be opened, a plan that is none, a file that is not there, a value out of
    range. It is a ``ValueError`` as well.
    """


def shown(value: object, most: int = 60) -> str:
    """Return a value as a message shows it: its ``repr``, cut where it is long."""
    try:
        text = " ".join(repr(value).split())
    except ValueError:  # Python does not write down whole numbers of thousands of digits
        return "a number of too many digits" if isinstance(value, int) else type(value).__name__
    return text if len(text) <= most else text[: most - 1] + "…"
