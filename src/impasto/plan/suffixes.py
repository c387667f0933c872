"""Reading suffixes: what attention sees, and how much of what is added counts."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import replace

from impasto.plan.cursor import Cursor
from impasto.plan.hints import REACH_OF_ITEM
from impasto.plan.steps import (
    NO_ATTENTION,
    NO_REACH,
    SCALE_RULE,
    Layer,
    Reach,
    Step,
    is_scale,
    scaled,
)

_SCALE = re.compile(r"@\s*([-+]?(?:[0-9]+(?:\.[0-9]+)?|\.[0-9]+))")
_REACHES = ("first", "last")


def read_reach(cursor: Cursor, steps: Sequence[Step], start: int, is_span: bool) -> list[Step]:
    """Return a span's layers, their attention seeing no more than ``{first=…, last=…}``.

    Args:
        cursor: Where the reach begins.
        steps: The layers.
        start: Where the item began.
        is_span: Whether it is a span.
    """
    opened = cursor.at
    if not is_span:
        cursor.fail(REACH_OF_ITEM)
    cursor.at += 1
    counts: dict[str, int] = {}
    while True:
        cursor.named(counts, _REACHES, "a reach has first and last")
        if cursor.tokens[cursor.at] != ",":
            break
        cursor.at += 1
    cursor.expect("}", "a reach looks like {first=1, last=64}")
    cursor.at += 1
    if not any(counts.values()):
        cursor.fail(NO_REACH, opened, cursor.at - 1)
    reach = Reach(**counts)
    layers = [step for step in steps if isinstance(step, Layer)]
    if any(layer.part == "mlp" for layer in layers):
        cursor.fail(NO_ATTENTION, start, cursor.at - 1)
    return [replace(layer, reach=reach) for layer in layers]


def read_scale(cursor: Cursor, steps: list[Step], is_span: bool) -> list[Step]:
    """Return what adds so many times what steps add: each of a span, or all as a whole."""
    match = _SCALE.fullmatch(cursor.tokens[cursor.at])
    scale = float(match[1]) + 0.0 if match and len(match[1]) < 100 else math.nan
    if not is_scale(scale):
        cursor.fail(SCALE_RULE)
    cursor.at += 1
    if not is_span:
        return scaled(steps, scale)
    layers = [step for step in steps if isinstance(step, Layer)]
    return [replace(layer, scale=scale) for layer in layers] if scale != 1 else steps
