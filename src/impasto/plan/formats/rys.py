"""RYS: ``layers:0,1,2,2,3``, or the blocks of layers that run a second time.

``blocks:3,6;4,6`` and the pair ``(3, 6)``: behind layer j − 1 the model goes back to layer i, once
for each block.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from impasto.error import shown
from impasto.plan.formats.dropped import order_of
from impasto.plan.formats.source import Source
from impasto.plan.formats.target import Target
from impasto.plan.plan import Plan
from impasto.plan.steps import MAX_OCCURRENCES, Layer, Step, span

TITLE = "RYS's layers: or blocks:"
_PAIR = re.compile(r"\(\s*(\d{1,6})\s*,\s*(\d{1,6})\s*\)")


def recognises(source: Source) -> bool:
    """Whether the text begins with one of the two words, or is one pair."""
    text = source.text.strip()
    begins = text.startswith(("layers:", "blocks:")) or _PAIR.fullmatch(text) is not None
    return source.data is None and begins


def read(source: Source, layers: int | None) -> Iterator[list[Step]]:
    """Give the plan that a line describes."""
    text = source.text.strip()
    pair = _PAIR.fullmatch(text)
    if text.startswith("layers:"):
        words = text.removeprefix("layers:").split(",")
        yield [Layer(source.layer(_number(word), layers)) for word in words]
    elif pair is not None or text.startswith("blocks:"):
        blocks = [",".join(pair.groups())] if pair else text.removeprefix("blocks:").split(";")
        yield _repeated(source, blocks, source.depth(layers))
    else:
        raise source.error(f"write layers:0,1,2,2,3 or blocks:3,6;4,6 or (3, 6); not {shown(text)}")


def write(plan: Plan, target: Target) -> str:
    """Return the line for a plan of whole layers."""
    if target.layers is not None:
        plan.check(target.layers)
    return "layers:" + ",".join(map(str, order_of(plan, TITLE))) + "\n"


def _repeated(source: Source, blocks: list[str], layers: int) -> list[Step]:
    """Return the layers 0 … with a way back from j − 1 to i for each block."""
    steps: list[Step] = []
    begin = 0
    for block in blocks:
        ends = [_number(word) for word in block.split(",")]
        if len(ends) != 2:
            raise source.error(f"a block is two numbers, i,j; not {shown(block)}")
        first, end = (source.layer(number, None) for number in ends)
        if not first < end:
            raise source.error(f"the block {block} is empty: it runs layers i … j - 1 again")
        source.layer(end - 1, layers)
        if end <= begin:
            raise source.error(
                f"the block {block} ends before layer {begin}, at which the one before it begins "
                "again; write blocks in the order in which they run, or layers:"
            )
        steps += span(begin, end - 1)
        if len(steps) > MAX_OCCURRENCES:
            raise source.error(f"a plan runs at most {MAX_OCCURRENCES} layer occurrences")
        begin = first
    return steps + span(begin, layers - 1)


def _number(word: str) -> object:
    """Return the number that a word is; the word, where it is none."""
    word = word.strip()
    return int(word) if word.isascii() and word.isdigit() and len(word) < 10 else word
