"""A plan as a picture for the terminal, top to bottom, at most 80 columns wide.

A box is a run of layers (dashed when they run otherwise than in the model), a fork is parallel
branches with one lane each, a round frame is a loop, and a double line across the stream is a
marker. Pictures are blocks of lines, stacked or set side by side; a block's width is odd, and the
stream enters and leaves in its middle column. What does not fit is left out, visibly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby
from typing import NamedTuple, TypeAlias, TypeVar

from impasto.plan.items import Brackets, Item, Repeat, Span, compress
from impasto.plan.plan import Plan
from impasto.plan.spelling import spell_item, spell_items, spell_reach, spell_scale
from impasto.plan.steps import Freeze, Inject, Noise, Part, Reach, spelled_scale

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
    rows: list[tuple[Block, list[str]]] = []
    for items, manner in chains(compress(plan.steps)):
        match items:
            case [Freeze() | Noise() | Inject() as marker]:
                note = f"{spell_item(marker)} at depth {next(depths)[0]}"
                rows.append((["═════╪═════"], [note]))
            case _ if manner:
                box = _box(chain_lines(items, _STREAM - 4), dashed=manner.is_less)
                rows.append((box, manner.notes))
            case _:
                rows.append((_draw(items[0], _STREAM), []))
    rows = _shortened(rows, (["⋮"], []))
    width = max(len(block[0]) for block, _ in rows)
    lines = [_centred("│", width)]
    for block, notes in rows:
        drawn = [_centred(line, width) for line in block]
        for at, note in enumerate(notes, (len(drawn) - len(notes) + 1) // 2):
            drawn[at] = f"{drawn[at].rstrip()}  {note}"
        lines += [*drawn, _centred("│", width)]
    return "\n".join(_cut(f" {line}".rstrip(), WIDTH) for line in lines)


# ---------------------------------------------------------------------- from items to blocks


class Manner(NamedTuple):
    """How the layers of a box run: what of them, what their attention sees, how much they add."""

    part: Part
    reach: Reach | None
    scale: float

    @property
    def is_less(self) -> bool:
        """Whether they run in another way than the model runs them."""
        return self != ("block", None, 1)

    @property
    def notes(self) -> list[str]:
        """What is said beside the box, line by line: no more lines than a box has."""
        notes = [DROPPED[self.part], seen(self.reach), times(self.scale)]
        return [note for note in notes if note]


def seen(reach: Reach | None) -> str:
    """Return what attention sees, in words; nothing where it is not narrowed."""
    if reach is None:
        return ""
    counts = (("first", reach.first), ("last", reach.last))
    return "attention sees the " + " and the ".join(f"{w} {n:,}" for w, n in counts if n)


def times(scale: float) -> str:
    """Return how much of what is added counts, in words; nothing where all of it does."""
    return "" if scale == 1 else f"what it adds × {spelled_scale(scale)}"


def chains(items: Sequence[Item]) -> list[tuple[list[Item], Manner | None]]:
    """Group neighbours that one box can hold, and how they run; all other items stand alone."""
    groups: list[tuple[list[Item], Manner | None]] = []
    for manner, neighbours in groupby(items, key=_manner):
        chain = list(neighbours)
        if manner:
            groups.append((chain, manner))
        else:
            groups += [([item], None) for item in chain]
    return groups


def _manner(item: Item) -> Manner | None:
    """Return how a span runs, or a span said several times; else None."""
    match item:
        case Span(part=part, reach=reach, scale=scale):
            return Manner(part, reach, scale)
        case Repeat(items=(Span() as span,)):
            return _manner(span)
        case _:
            return None


def _stack(items: Sequence[Item], width: int) -> Block:
    """Draw items below one another, without boxes."""
    blocks = [
        _text(chain_lines(group, width)) if manner else _draw(group[0], width)
        for group, manner in chains(items)
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
    """Return how branches are combined: `mean of 3`, `mean of 3 × 0.5`."""
    scale = "" if brackets.scale == 1 else f" × {spelled_scale(brackets.scale)}"
    if brackets.size == 1:
        return f"what they add{scale}" if scale else "one branch"
    return f"{brackets.combine} of {brackets.size}{scale}"


def branches_of(brackets: Brackets) -> Sequence[tuple[Item, ...]]:
    """Return the branches, also where each layer of a span is one."""
    if (span := brackets.spread) is None:
        return brackets.branches
    stride = 1 if span.first <= span.last else -1
    indices = range(span.first, span.last + stride, stride)
    return [(replace(span, first=index, last=index),) for index in indices]


def _lanes(branches: Sequence[tuple[Item, ...]], width: int) -> list[Block]:
    """Draw as many branches side by side as fit; the others become one lane of dots."""
    need = 1
    for branch in filter(None, (*branches[:20], branches[-1])):
        chained = all(map(_manner, branch)) and len(branch) == 1
        need = max(need, len(label(branch[0])) if chained else _LANE)
    fit = max(2, (width + _GAP) // (min(need, _LANE) + 1 - need % 2 + _GAP))
    shown: Sequence[tuple[Item, ...] | None] = branches
    if len(branches) > fit:
        first = fit // 2
        shown = [*branches[:first], None, *branches[len(branches) - (fit - first - 1) :]]
    each = (width - _GAP * (len(shown) - 1)) // len(shown)
    each -= 1 - each % 2
    return [_lane(branch, each) for branch in shown]


def _lane(branch: tuple[Item, ...] | None, width: int) -> Block:
    """Draw a branch: a bare stream where it is empty, dots where branches are left out."""
    if branch is None:
        return ["…"]
    return _stack(branch, width) if branch else ["│"]


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
        case Span(first, last, part, reach, scale):
            layers = f"{first}" if first == last else f"{first}–{last}"
            return layers + _ONLY[part] + spell_reach(reach) + spell_scale(scale)
        case Repeat(items=(Span() as span,), times=turns):
            return f"{label(span)} ×{turns}" if span.size == 1 else f"({label(span)}) ×{turns}"
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
