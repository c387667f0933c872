"""EvoPress: a line a layer, with what is dropped of it: none, attn, mlp or attn+mlp."""

from __future__ import annotations

import re
from collections.abc import Iterator

from impasto.error import shown
from impasto.plan.formats.dropped import Dropped, dropped_by, steps_without
from impasto.plan.formats.source import Source
from impasto.plan.formats.target import Target
from impasto.plan.plan import Plan
from impasto.plan.steps import Step

TITLE = "EvoPress's layer_drop_config.txt"
WORDS: dict[str, Dropped] = {
    "none": frozenset(),
    "attn": frozenset({"attention"}),
    "mlp": frozenset({"mlp"}),
    "attn+mlp": frozenset({"attention", "mlp"}),
}
_FIRST = re.compile(r"\s*(none|attn|mlp|attn\+mlp)\s*(\n|$)")


def recognises(source: Source) -> bool:
    """Whether the first word is one of EvoPress's, on a line of its own."""
    return source.data is None and _FIRST.match(source.text) is not None


def read(source: Source, layers: int | None) -> Iterator[list[Step]]:
    """Give the plan that a file describes."""
    dropped = []
    for number, line in enumerate(source.text.splitlines()):
        word = line.strip()
        if not word:
            continue
        if word not in WORDS:
            raise source.error_at(f"a layer has {', '.join(WORDS)}; not {shown(word)}", number)
        dropped.append(WORDS[word])
    source.depth(layers, written=len(dropped))
    yield steps_without(dropped)


def write(plan: Plan, target: Target) -> str:
    """Return the file for a plan that drops layers or parts of them."""
    words = {parts: word for word, parts in WORDS.items()}
    lacking = dropped_by(plan, target.depth(TITLE), TITLE)
    return "".join(words[parts] + "\n" for parts in lacking)
