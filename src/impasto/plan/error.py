"""The one error of this package: what is wrong with a plan, where, and what would be right.

A ``PlanError`` prints the offending text with a caret under the offending word. It may hold any
text at all, so what it shows is cut to a window of the terminal's width and made safe to print.
"""

from __future__ import annotations

import unicodedata

from impasto.error import UserError

_WINDOW = 76  # columns of the text that are shown
_BEFORE = 40  # of them, columns before the offending word


class PlanError(UserError):
    """A text, a JSON document or a tuple of steps that is not a plan.

    Attributes:
        message: what is wrong and what would be right, without the picture.
        text: the text that was read; empty when the mistake has no place in a text.
        span: start and end of the offending part of ``text``, half-open.
    """

    def __init__(self, message: str, text: str = "", span: tuple[int, int] = (0, 0)) -> None:
        super().__init__(message, text, span)
        self.message = message
        self.text = text
        self.span = span

    def __str__(self) -> str:
        if not self.text.strip():
            return self.message
        line, caret = _picture(self.text, *self.span)
        return f"{self.message}\n  {line}\n  {caret}"


def _picture(text: str, start: int, end: int) -> tuple[str, str]:
    """Return the window of the text around ``start`` and the caret line that goes below it."""
    left = 0 if len(text) <= _WINDOW else max(0, min(start - _BEFORE, len(text) - _WINDOW))
    right = min(len(text), left + _WINDOW)
    head, tail = "…" if left else "", "…" if right < len(text) else ""
    line = head + "".join(map(_shown, text[left:right])) + tail
    length = max(1, min(end, right) - start)
    return line, " " * (len(head) + start - left) + "^" + "~" * (length - 1)


def _shown(character: str) -> str:
    """Return a stand-in that takes exactly one column, so that the caret stays in place."""
    if character == "\n":
        return "⏎"
    if character in "\t\r":
        return " "
    one_column = (
        character.isprintable()
        and not unicodedata.category(character).startswith("M")
        and unicodedata.east_asian_width(character) not in "WF"
    )
    return character if one_column else "\N{REPLACEMENT CHARACTER}"
