"""What is shown on a terminal: text alone. Names and answers may come from anywhere.

A control character in them would move the cursor, colour or retitle the terminal, or have it
answer. So each is shown by its code, never sent. And a terminal that was closed takes nothing any
more: what was begun is saved nevertheless.
"""

import errno
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

# All but newline and tab; also what turns the direction of writing, halves of characters, and what
# is none.
_CONTROL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]"
)


def printable(text: str) -> str:
    """Return a text with its control characters shown: ``\\x1b`` in the place of an escape."""
    return _CONTROL.sub(_code, text)


def _code(found: re.Match[str]) -> str:
    number = ord(found[0])
    return f"\\x{number:02x}" if number < 256 else f"\\u{number:04x}"


class Screen:
    """A stream to a terminal, pipe or file that text goes to; `raw` is what it writes to."""

    def __init__(self, raw: TextIO, is_needed: bool) -> None:
        self.raw, self._is_needed = raw, is_needed
        self.above: Any = None  # what writes above a bar, while there is one

    def write(self, text: str) -> int:
        """Write a text, its control characters shown; one that begins a line anew may do so.

        While there is a bar, what is written by who took the stream before goes above it, too.
        """
        if self.above is not None:
            self.above.write(printable(text.lstrip("\r")))
            return len(text)
        start = "\r" if text.startswith("\r") else ""
        self._try(lambda: self.raw.write(start + printable(text[len(start) :])))
        return len(text)

    def writelines(self, lines: Any) -> None:
        """Write several texts."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Have written what was given so far."""
        self._try(self.raw.flush)

    @property
    def buffer(self) -> Any:
        """What bytes are written to, such as a table for another program; only of stdout.

        Whoever found it on stderr would pass by this stream, as click does while a bar is drawn.
        """
        return self.raw.buffer if self._is_needed else None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.raw, name)

    def _try(self, act: Any) -> None:
        """Do it; where the terminal is gone, or nobody reads what is not needed, that is right."""
        try:
            act()
        except OSError as error:
            is_closed = error.errno == errno.EPIPE and not self._is_needed
            if error.errno != errno.EIO and not is_closed:
                raise


@contextmanager
def shown() -> Iterator[None]:
    """Have all text that the block writes on stdout and stderr go through a `Screen`."""
    before = sys.stdout, sys.stderr
    streams: Any = Screen(sys.stdout, True), Screen(sys.stderr, False)
    sys.stdout, sys.stderr = streams
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


@contextmanager
def written_above(bar: "Progress") -> Iterator[None]:
    """Show a bar in the block, on stderr, and have whatever is written there go above it."""
    screen = sys.stderr
    with bar:
        if isinstance(screen, Screen):
            screen.above = sys.stderr  # which the bar has put in its place
        try:
            yield
        finally:
            if isinstance(screen, Screen):
                screen.above = None


def console() -> "Console":
    """Return a console for what draws by control characters itself, such as a bar, on stderr.

    Who draws has to make texts that come from elsewhere `printable`.
    """
    from rich.console import Console

    stream: Any = _Unescaped(sys.stderr)
    return Console(file=stream)


class _Unescaped:
    """A stream that text is written to as it is; where the terminal is gone, nothing is."""

    def __init__(self, stream: Any) -> None:
        self._raw = getattr(stream, "raw", stream)

    def write(self, text: str) -> int:
        """Write a text as it is."""
        try:
            return self._raw.write(text)
        except OSError:
            return len(text)

    def flush(self) -> None:
        """Have written what was given so far."""
        try:
            self._raw.flush()
        except OSError:
            return

    def __getattr__(self, name: str) -> Any:
        return getattr(self._raw, name)
