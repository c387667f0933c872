"""A plan as a picture for the terminal, top to bottom, at most 80 columns wide.

A box is a run of layers (dashed when only one of its parts runs), a fork is parallel branches with
one lane each, a round frame is a loop, and a double line across the stream is a marker. Pictures
are blocks of lines, stacked or set side by side; a block's width is odd, and the stream enters and
leaves in its middle column. What does not fit is left out, visibly.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import TypeAlias, TypeVar

from impasto.plan.items import Brackets, Item, Repeat, Span, compress
from impasto.plan.plan import Plan
from impasto.plan.spelling import spell_item, spell_items
from impasto.plan.steps import Freeze, Inject, Noise, Part

WIDTH = 80
_STREAM = 47  # columns for the picture; the notes beside it take the rest
_GAP = 2  # columns between two lanes
_LANE = 13  # columns for a lane that holds more than a line of layers
_MOST_ROWS = 24
_MOST_LINES = 5  # of layers, in one box
_ONLY: dict[Part, str] = {"block": "", "attention": " attn", "mlp": " mlp"}
DROPPED: dict[Part, str] = {
    "block": "",
    "attention": "attention only, MLP dropped",
    "mlp": "MLP only, attention dropped",
}

Block: TypeAlias = list[str]
Row = TypeVar("Row")


def diagram(plan: Plan) -> str:
    """Return a picture of ``plan``: several lines of at most 80 columns, without colours."""
    depths = iter(plan.markers)
    rows: list[tuple[Block, str]] = []
    for items, part in chains(compress(plan.steps)):
        match items:
            case [Freeze() | Noise() | Inject() as marker]:
                note = f"{spell_item(marker)} at depth {next(depths)[0]}"
                rows.append((["═════╪═════"], note))
            case _ if part:
                box = _box(chain_lines(items, _STREAM - 4), dashed=part != "block")
                rows.append((box, DROPPED[part]))
            case _:
                rows.append((_draw(items[0], _STREAM), ""))
    rows = _shortened(rows, (["⋮"], ""))
    width = max(len(block[0]) for block, _ in rows)
    lines = [_centred("│", width)]
    for block, note in rows:
        drawn = [_centred(line, width) for line in block]
        drawn[len(drawn) // 2] = f"{drawn[len(drawn) // 2].rstrip()}  {note}"
        lines += [*drawn, _centred("│", width)]
    return "\n".join(_cut(f" {line}".rstrip(), WIDTH) for line in lines)


# ---------------------------------------------------------------------- from items to blocks


def chains(items: Sequence[Item]) -> list[tuple[list[Item], Part | None]]:
    """Group neighbours that one box can hold, with their part; all other items stand alone."""
    groups: list[tuple[list[Item], Part | None]] = []
    for part, neighbours in groupby(items, key=_part):
        chain = list(neighbours)
        if part:
            groups.append((chain, part))
        else:
            groups += [([item], None) for item in chain]
    return groups


def _part(item: Item) -> Part | None:
    """Return the part that runs in a span, or in a span said several times; else None."""
    match item:
        case Span(part=part) | Repeat(items=(Span(part=part),)):
            return part
        case _:
            return None


def _stack(items: Sequence[Item], width: int) -> Block:
    """Draw items below one another, without boxes."""
    blocks = [
        _text(chain_lines(group, width)) if part else _draw(group[0], width)
        for group, part in chains(items)
    ]
    blocks = _shortened(blocks, ["⋮"])
    widest = max(len(block[0]) for block in blocks)
    lines: Block = []
    for block in blocks:
        lines += [_centred("│", widest)] if lines else []
        lines += [_centred(line, widest) for line in block]
    return lines


def _draw(item: Item, width: int) -> Block:
    """Draw brackets or a loop; what is too narrow to draw is spelled."""
    if width >= _LANE and isinstance(item, Brackets):
        return _brackets(item, width)
    if width >= _LANE and isinstance(item, Repeat):
        return _loop(_stack(item.items, width - 4), item.times)
    return _text([_cut(spell_items([item]), width)])


def _brackets(brackets: Brackets, width: int) -> Block:
    """Draw the lanes between a fork and a join, and below it how they are combined."""
    branches = branches_of(brackets)
    lanes = _lanes(branches, width)
    height = max(len(lane) for lane in lanes)
    lanes = [lane + [_centred("│", len(lane[0]))] * (height - len(lane)) for lane in lanes]
    body = [(" " * _GAP).join(parts) for parts in zip(*lanes, strict=True)]
    total = len(body[0]) + 1 - len(body[0]) % 2
    middles: list[int] = []
    left = 0
    for lane in lanes:
        middles.append(left + len(lane[0]) // 2)
        left += len(lane[0]) + _GAP
    many = combined(brackets)
    block = [
        _bar(middles, total, "┌┬┐", through="┴"),
        *[line.ljust(total) for line in body],
        _bar(middles, total, "└┴┘", through="┬"),
        many,
    ]
    return _text(block)


def combined(brackets: Brackets) -> str:
    """Return how branches are combined: `mean of 3`."""
    return f"{brackets.combine} of {brackets.size}" if brackets.size > 1 else "one branch"


def branches_of(brackets: Brackets) -> Sequence[tuple[Item, ...]]:
    """Return the branches, also where each layer of a span is one."""
    if (span := brackets.spread) is None:
        return brackets.branches
    stride = 1 if span.first <= span.last else -1
    indices = range(span.first, span.last + stride, stride)
    return [(Span(index, index, span.part),) for index in indices]


def _lanes(branches: Sequence[tuple[Item, ...]], width: int) -> list[Block]:
    """Draw as many branches side by side as fit; the others become one lane of dots."""
    need = 1
    for branch in (*branches[:20], branches[-1]):
        chained = all(map(_part, branch)) and len(branch) == 1
        need = max(need, len(label(branch[0])) if chained else _LANE)
    fit = max(2, (width + _GAP) // (min(need, _LANE) + 1 - need % 2 + _GAP))
    if len(branches) > fit:
        first = fit // 2
        branches = [*branches[:first], (), *branches[len(branches) - (fit - first - 1) :]]
    each = (width - _GAP * (len(branches) - 1)) // len(branches)
    each -= 1 - each % 2
    return [_stack(branch, each) if branch else ["…"] for branch in branches]


def chain_lines(items: Sequence[Item], width: int) -> list[str]:
    """Return the layers of a chain as lines of at most ``width`` columns."""
    lines: list[str] = []
    for item in items:
        told = _cut(label(item), width)
        if lines and len(lines[-1]) + len(told) + 5 <= width:
            lines[-1] += f" → {told}"
        else:
            if lines:
                lines[-1] += " →" if len(lines[-1]) + 2 <= width else ""
            lines.append(told)
    if len(lines) > _MOST_LINES:
        half = _MOST_LINES // 2
        lines = [*lines[:half], "⋮", *lines[-half:]]
    return lines


def label(item: Item) -> str:
    """Return what a box says of a span, or of a span said several times."""
    match item:
        case Span(first, last, part):
            return (f"{first}" if first == last else f"{first}–{last}") + _ONLY[part]
        case Repeat(items=(Span() as span,), times=times):
            return f"{label(span)} ×{times}" if span.size == 1 else f"({label(span)}) ×{times}"
        case _:
            return spell_items([item])


# ---------------------------------------------------------------------- blocks of lines


def _text(lines: Sequence[str]) -> Block:
    """Return lines centred to one odd width."""
    width = max(map(len, lines))
    width += 1 - width % 2
    return [_centred(line, width) for line in lines]


def _box(lines: Sequence[str], dashed: bool) -> Block:
    text = _text(lines)
    half = (len(text[0]) + 2) // 2
    across, down = ("╌", "╎") if dashed else ("─", "│")
    return [
        f"┌{across * half}┴{across * half}┐",
        *[f"{down} {line} {down}" for line in text],
        f"└{across * half}┬{across * half}┘",
    ]


def _loop(block: Block, times: int) -> Block:
    """Frame a block; the frame says how often it runs."""
    often = f" × {times} "
    block = [_centred(line, max(len(block[0]), 2 * len(often) + 1)) for line in block]
    half = (len(block[0]) + 2) // 2
    return [
        f"╭{'─' * half}┴{'─' * half}╮",
        *[f"│ {line} │" for line in block],
        f"╰{'─' * half}┬{'─' * (half - len(often) - 1)}{often}─╯",
    ]


def _bar(middles: Sequence[int], width: int, corners: str, through: str) -> str:
    """Return a line that joins the lanes at ``middles`` to the stream in the middle."""
    stream = width // 2
    if len(middles) == 1:
        return _centred("│", width)
    row = [" "] * width
    row[middles[0] : middles[-1] + 1] = "─" * (middles[-1] + 1 - middles[0])
    for middle in middles:
        row[middle] = corners[1]
    row[middles[0]], row[middles[-1]] = corners[0], corners[2]
    row[stream] = "┼" if stream in middles else through
    return "".join(row)


def _shortened(rows: list[Row], dots: Row) -> list[Row]:
    """Leave out the middle of too many rows."""
    half = _MOST_ROWS // 2
    return rows if len(rows) <= _MOST_ROWS else [*rows[:half], dots, *rows[-half:]]


def _centred(line: str, width: int) -> str:
    left = (width - len(line)) // 2
    return " " * left + line + " " * (width - len(line) - left)


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"
