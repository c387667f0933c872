"""The words of the notation: a text cut into tokens, and where a token stood.

Tokens are plain strings; where they stand is worked out only once there is an error to show, which
makes reading a correct text several times faster.
"""

from __future__ import annotations

import re
from itertools import islice

WORD = r"[A-Za-z_][A-Za-z0-9_-]*+"
# A span is one token, blanks and all; a word glued to it is taken along, to be refused.
_SPAN = rf"([0-9]++)(?:\s*+-\s*+([0-9]++))?(?:\s*+\.\s*+(attn|mlp)(?![A-Za-z0-9_-]))?({WORD})?"
SCALE = r"@\s*+[-+]?[0-9]*+(?:\.[0-9]*+)?+"  # what follows an @ is one token, right or wrong
_TOKEN = re.compile(rf"freeze\(|{WORD}|{re.sub('[(](?![?])', '(?:', _SPAN)}|{SCALE}|\S")
SPAN = re.compile(_SPAN)


def tokenize(text: str) -> list[str]:
    """Return the tokens of ``text``, and an empty one that stands for its end."""
    tokens: list[str] = _TOKEN.findall(text)
    tokens.append("")
    return tokens


def place(text: str, first: int, last: int) -> tuple[int, int]:
    """Return the characters that the tokens ``first`` to ``last`` of ``text`` take."""
    found = [match.span() for match in islice(_TOKEN.finditer(text), first, last + 1)]
    if len(found) <= last - first:
        end = len(text.rstrip())
        found.append((end, end + 1))
    return found[0][0], found[-1][1]
