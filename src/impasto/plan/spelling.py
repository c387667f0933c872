"""Writing the notation: the one canonical spelling of a tuple of steps.

What is written here reads back as the same steps, within the bounds of the notation.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from impasto.plan.items import Brackets, Item, Repeat, Span, compress
from impasto.plan.notation import MAX_TEXT
from impasto.plan.steps import (
    MAX_NESTING,
    Freeze,
    Inject,
    Noise,
    Part,
    Reach,
    Step,
    spelled_scale,
)

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
        case Span(first, last, part, reach, scale):
            layers = f"{first}" if first == last else f"{first}-{last}"
            return layers + _SUFFIX[part] + spell_reach(reach) + spell_scale(scale)
        case Repeat(items, times):
            body = spell_items(items)
            return f"{body}*{times}" if len(items) == 1 else f"({body})*{times}"
        case Brackets(branches=(branch,)) if is_scaled_group(item):
            return f"({spell_items(branch)}){spell_scale(item.scale)}"
        case Brackets(combine=combine, scale=scale):
            return f"{'sum' * (combine == 'sum')}[{_inside(item)}]{spell_scale(scale)}"
        case Freeze(prompt):
            return "freeze(prompt)" if prompt else "freeze"
        case Noise(kind, seed, keep, prompt):
            options = f", seed={seed}" * bool(seed) + f", keep={keep}" * bool(keep)
            options += ", prompt" * prompt
            return f"noise({kind}{options})"
        case Inject(name):
            return f"inject({name})"


def is_scaled_group(brackets: Brackets) -> bool:
    """Whether brackets are items in a row that are scaled as a whole, written with parentheses."""
    if brackets.scale == 1 or brackets.combine == "sum" or brackets.spread:
        return False
    lone = brackets.branches[0][0] if len(brackets.branches[0]) == 1 else None
    # Of brackets alone, and unscaled, the parentheses would say nothing.
    alone = isinstance(lone, Brackets) and lone.scale == 1
    return len(brackets.branches) == 1 and not alone


def spell_reach(reach: Reach | None) -> str:
    """Return ``{first=1, last=64}``; nothing for none."""
    if reach is None:
        return ""
    pairs = (("first", reach.first), ("last", reach.last))
    return "{" + ", ".join(f"{name}={count}" for name, count in pairs if count) + "}"


def spell_scale(scale: float) -> str:
    """Return ``@0.5``; nothing for a scale of 1."""
    return "" if scale == 1 else f"@{spelled_scale(scale)}"


def _inside(brackets: Brackets) -> str:
    branches = [spell_items(branch) for branch in brackets.branches]
    if brackets.spread or len(branches) > 1:
        bar = " | " if any(" " in branch for branch in branches) else "|"
        return bar.join(branches).strip()
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
