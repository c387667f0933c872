"""A place in a text that is being read as a plan, and what is read in the same way everywhere."""

from __future__ import annotations

from typing import NoReturn

from impasto.plan.error import PlanError
from impasto.plan.hints import did_you_mean
from impasto.plan.steps import MAX_OPTION
from impasto.plan.tokens import place, tokenize


class Cursor:
    """A position in the list of a text's tokens."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens = tokenize(text)
        self.at = 0

    def named(self, options: dict[str, int], names: tuple[str, ...], rule: str) -> None:
        """Read one ``name=n``."""
        name = self.tokens[self.at]
        if name not in names:
            self.fail(f"{rule}{did_you_mean(name, names)}")
        if name in options:
            self.fail(f"{name} is given twice")
        self.at += 1
        self.expect("=", f"{name} has a value, as in {name}=3")
        self.at += 1
        rule = f"{name} is a whole number from 0 to 2**63 - 1"
        options[name] = self.number(MAX_OPTION, rule)
        self.at += 1

    def number(self, most: int, rule: str) -> int:
        """Return the whole number that stands here, which is at most ``most``."""
        token = self.tokens[self.at]
        if not (token.isascii() and token.isdecimal()):
            self.fail(rule)
        value = whole(token)
        if value > most:
            self.fail(rule)
        return value

    def expect(self, token: str, rule: str) -> None:
        """Raise ``PlanError`` unless this token stands here."""
        if self.tokens[self.at] != token:
            self.fail(rule, max(0, self.at - 1), self.at)

    def fail(self, message: str, first: int | None = None, last: int | None = None) -> NoReturn:
        """Raise ``PlanError`` with a caret under the tokens ``first`` to ``last``, or this one."""
        first = self.at if first is None else first
        last = min(first if last is None else last, len(self.tokens) - 1)
        raise PlanError(message, self.text, place(self.text, min(first, last), last))


def whole(digits: str) -> int:
    """Return the value, or for more digits than any bound has, some number above all bounds."""
    digits = digits if len(digits) < 20 else digits.lstrip("0")
    return int(digits or "0") if len(digits) < 20 else MAX_OPTION + 1
