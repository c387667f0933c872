"""Writing the notation: the one canonical spelling of a tuple of steps.

What is written here reads back as the same steps, within the bounds of the notation.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from impasto.plan.items import Brackets, Item, Repeat, Span, compress
from impasto.plan.notation import MAX_TEXT
from impasto.plan.steps import MAX_NESTING, Freeze, Inject, Noise, Part, Step

_SUFFIX: dict[Part, str] = {"block": "", "attention": ".attn", "mlp": ".mlp"}


def spell(steps: Sequence[Step]) -> str:
    """Return the canonical spelling of ``steps``.

    Repeated sequences are grouped as long as the parentheses nest within the notation's bound,
    and spaces that only please the eye are given up when the text would be too long with them.
    """
    text = spell_items(compress(steps))
    if nesting(text) > MAX_NESTING:
        text = spell_items(compress(steps, groups=False))
    if len(text) > MAX_TEXT:
        text = re.sub(r" ?([,|\])]) ?|([(\[]) ?", r"\1\2", text)
    return text


def spell_items(items: Sequence[Item]) -> str:
    """Return the items' spellings, separated by spaces."""
    return " ".join(map(spell_item, items))


def spell_item(item: Item) -> str:
    """Return the canonical spelling of one item."""
    match item:
        case Span(first, last, part):
            return f"{first}{_SUFFIX[part]}" if first == last else f"{first}-{last}{_SUFFIX[part]}"
        case Repeat(items, times):
            body = spell_items(items)
            return f"{body}*{times}" if len(items) == 1 else f"({body})*{times}"
        case Brackets(combine="sum"):
            return f"sum[{_inside(item)}]"
        case Brackets():
            return f"[{_inside(item)}]"
        case Freeze():
            return "freeze"
        case Noise(kind, seed, keep):
            options = f", seed={seed}" * bool(seed) + f", keep={keep}" * bool(keep)
            return f"noise({kind}{options})"
        case Inject(name):
            return f"inject({name})"


def _inside(brackets: Brackets) -> str:
    branches = [spell_items(branch) for branch in brackets.branches]
    if brackets.spread or len(branches) > 1:
        return (" | " if any(" " in branch for branch in branches) else "|").join(branches)
    # One branch that is a span, or several items, needs parentheses to stay one branch.
    (branch,) = brackets.branches
    lone = len(branch) == 1 and not isinstance(branch[0], Span)
    return branches[0] if lone else f"({branches[0]})"


def nesting(text: str) -> int:
    """Return how deep the brackets and parentheses of a well-formed text nest."""
    deepest = depth = 0
    for symbol in re.findall(r"[\[\]()]", text):
        depth += 1 if symbol in "[(" else -1
        deepest = max(deepest, depth)
    return deepest
