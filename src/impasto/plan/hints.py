"""What to say about a word that cannot stand where it stands, and what would be right there."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from difflib import get_close_matches

from impasto.plan.tokens import WORD

_ITEMS = "an item is a layer (8), a range (8-23), a group (4 5), brackets [8|9] or a marker"
_EXAMPLES = {"*": "(4 5)*2", ".": "24-31.mlp", "-": "8-23", "@": "8@0.5", "{": "8{last=64}"}
REACH_OF_ITEM = (
    "a reach belongs to a layer or a range, as in 20-31{last=64}: write it on each one inside"
)
_ORDER = "part, reach, scale, repeat, in this order: 8-23.attn{last=64}@0.5*2"
MARKERS = ("freeze", "noise", "inject")
PARTS = ("attn", "mlp")


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return ``: did you mean …?`` with the nearest known word, or nothing."""
    near = get_close_matches(word[:24].lower(), list(known), n=1)
    return f": did you mean {near[0]}?" if near else ""


def no_item(token: str, nested: bool) -> str:
    """Return why no item begins with ``token``."""
    word = token.rstrip("(")
    if nested and word in MARKERS:
        return f"{word} stands at the top level, not inside brackets or groups"
    if token in ("–", "—", "−", "‐", "‑"):
        return "a range is written with a plain hyphen, as in 8-23"
    if token in (",", ";"):
        return "items are separated by spaces, as in 0-7 24-31"
    if token[0] in _EXAMPLES:
        token = token[0]
        return f"'{token}' needs something right before it, as in {_EXAMPLES[token]}"
    if re.fullmatch(WORD, token):
        hint = did_you_mean(token, (*MARKERS, "sum")) or f": {_ITEMS}"
        return f"{token[:32]} is no word of the notation{hint}"
    shown = f"'{token}'" if token.isprintable() else ascii(token)
    return f"{shown} is not part of the notation: {_ITEMS}"


def no_postfix(symbol: str, following: str, after_span: bool) -> str:
    """Return why ``symbol``, which begins a suffix, cannot follow the item before it."""
    if symbol == "." and following.isidentifier() and following not in PARTS:
        return f"a part is .attn or .mlp{did_you_mean(following, PARTS)}"
    if after_span:
        return f"a span is i or i-j, then its {_ORDER}"
    if symbol == "@":
        return "a scale comes before the repeat, (4 5)@0.5*2; of all turns together, ((4 5)*2)@0.5"
    if symbol == "{":
        return REACH_OF_ITEM
    if symbol == ".":
        return "only a layer or a range has parts, as in 8-23.mlp: write it on each one inside"
    return "a range runs from a layer to a layer, as in 8-23"


def no_bar(inside: Sequence[str]) -> str:
    """Return why the tokens ``inside`` brackets need a bar, with their own layers if they fit."""
    plain = len(inside) <= 4 and all(token.isdecimal() for token in inside)
    words = inside if plain else ("8", "9")
    return (
        "several items between brackets need a bar: "
        f"write [{'|'.join(words)}] for parallel layers or ({' '.join(words)}) for a sequence"
    )
