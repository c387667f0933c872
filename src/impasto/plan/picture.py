"""A plan as a picture in SVG, top to bottom: what `diagram` draws in letters.

Boxes are runs of layers (dashed and tinted where they run otherwise than in the model), a fork is
parallel branches with a lane each, a round frame a loop, a double line across the stream a marker.
Lines and letters take the colour of the text around, so that the picture fits a light page and a
dark one. Everything that the plan says is escaped; what is too much is left out, visibly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

from impasto.plan.diagram import branches_of, chain_lines, chains, combined
from impasto.plan.items import Brackets, Item, Repeat, compress
from impasto.plan.plan import Plan
from impasto.plan.spelling import spell_item, spell_items
from impasto.plan.steps import Freeze, Inject, Noise

LETTER, LINE = 7.0, 16  # width and height of a letter, in pixels
PAD, GAP, LANE_GAP = 8, 16, 14
MOST_ROWS, MOST_LANES, MOST_DEPTH = 24, 12, 6
CHARACTERS = 40  # of a line of layers
TINT = "#56B4E9"
MARK = "#D55E00"


@dataclass(frozen=True, slots=True)
class _Block:
    """A part of the picture; the stream enters and leaves it in the middle of its width."""

    width: float
    height: float
    body: str


def picture(plan: Plan) -> str:
    """Return a picture of ``plan`` as an SVG document."""
    depths = iter(plan.markers)
    rows: list[tuple[_Block, list[str]]] = []
    for items, manner in chains(compress(plan.steps)):
        match items:
            case [Freeze() | Noise() | Inject() as marker]:
                rows.append((_marker(), [f"{spell_item(marker)} at depth {next(depths)[0]}"]))
            case _ if manner:
                lines = chain_lines(items, CHARACTERS)
                rows.append((_box(lines, dashed=manner.is_less), manner.notes))
            case _:
                rows.append((_draw(items[0], 0), []))
    rows = _shortened(rows, (_text(["⋮"]), []))
    stream = max(block.width for block, _ in rows)
    longest = max((len(note) for _, notes in rows for note in notes), default=0)
    width = stream + 2 * PAD + (longest * LETTER + 2 * PAD if longest else 0)
    middle, y, body = PAD + stream / 2, 0.0, ""
    for block, notes in rows:
        body += _stream(middle, y, GAP) + _at(block, middle - block.width / 2, y + GAP)
        first = y + GAP + block.height / 2 - (len(notes) - 1) * LINE / 2
        for at, note in enumerate(notes):
            body += _letters(note, PAD + stream + 2 * PAD, first + at * LINE, "start")
        y += GAP + block.height
    body += _stream(middle, y, GAP)
    return _document(str(plan), width, y + GAP, body)


def _document(title: str, width: float, height: float, body: str) -> str:
    title = escape(title if len(title) <= 300 else title[:299] + "…")
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" width="{_n(width)}" '
        f'height="{_n(height)}" viewBox="0 0 {_n(width)} {_n(height)}" color="#222222" '
        'font-family="DejaVu Sans Mono, Menlo, Consolas, monospace" font-size="11">'
        f"<title>{title}</title>{body}</svg>"
    )


# ---------------------------------------------------------------------- from items to blocks


def _draw(item: Item, depth: int) -> _Block:
    """Draw brackets or a loop; what is nested too deep is spelled."""
    if depth < MOST_DEPTH and isinstance(item, Brackets):
        return _brackets(item, depth)
    if depth < MOST_DEPTH and isinstance(item, Repeat):
        return _loop(_stack(item.items, depth + 1), item.times)
    return _text([_cut(spell_items([item]))])


def _stack(items: Sequence[Item], depth: int) -> _Block:
    """Draw items below each other."""
    blocks = [
        _box(chain_lines(group, CHARACTERS), dashed=manner.is_less)
        if manner
        else _draw(group[0], depth)
        for group, manner in chains(items)
    ]
    blocks = _shortened(blocks, _text(["⋮"]))
    width, y, body = max(block.width for block in blocks), 0.0, ""
    for block in blocks:
        if y:
            body += _stream(width / 2, y, GAP)
            y += GAP
        body += _at(block, (width - block.width) / 2, y)
        y += block.height
    return _Block(width, y, body)


def _brackets(brackets: Brackets, depth: int) -> _Block:
    """Draw lanes between a fork and a join, and below it how they are combined."""
    branches: list[tuple[Item, ...] | None] = list(branches_of(brackets))
    if len(branches) > MOST_LANES:
        half = MOST_LANES // 2
        branches = [*branches[:half], None, *branches[-half:]]
    lanes = [_lane(branch, depth) for branch in branches]
    told = combined(brackets)
    inner = sum(lane.width for lane in lanes) + LANE_GAP * (len(lanes) - 1)
    width = max(inner, len(told) * LETTER)
    height = max(lane.height for lane in lanes)
    x, body, middles = (width - inner) / 2, "", []
    for lane in lanes:
        middle = x + lane.width / 2
        middles.append(middle)
        below = height - lane.height
        body += _stream(middle, 0, GAP / 2) + _at(lane, x, GAP / 2)
        body += _stream(middle, GAP / 2 + lane.height, below + GAP / 2)
        x += lane.width + LANE_GAP
    for y in (0.0, height + GAP):
        left, right = min([*middles, width / 2]), max([*middles, width / 2])
        body += _line(left, y, right, y)
    bottom = height + GAP
    body += _letters(told, width / 2, bottom + LINE / 2 + 2, "middle")
    return _Block(width, bottom + LINE + 4, body)


def _lane(branch: tuple[Item, ...] | None, depth: int) -> _Block:
    """Draw a branch: a bare stream where it is empty, dots where branches are left out."""
    if branch is None:
        return _text(["…"])
    return (
        _stack(branch, depth + 1) if branch else _Block(2 * LETTER, LINE, _stream(LETTER, 0, LINE))
    )


def _loop(block: _Block, times: int) -> _Block:
    """Frame a block; the frame says how often it runs."""
    often = f"× {times}"
    width = max(block.width, 2 * len(often) * LETTER) + 2 * PAD
    height = block.height + 2 * PAD + LINE
    body = (
        _rect(width, height, rx=12)
        + _stream(width / 2, 0, PAD)
        + _at(block, (width - block.width) / 2, PAD)
        + _letters(often, width - PAD, height - LINE / 2 - 2, "end", weight="bold")
        + _stream(width / 2, PAD + block.height, PAD + LINE)
    )
    return _Block(width, height, body)


def _marker() -> _Block:
    body = "".join(
        f'<path d="M0 {y}H90" stroke="{MARK}" stroke-width="2" fill="none"/>' for y in (2, 7)
    )
    return _Block(90, 9, body)


def _box(lines: Sequence[str], dashed: bool) -> _Block:
    text = _text(lines)
    width, height = text.width + 2 * PAD, text.height + PAD
    return _Block(
        width, height, _rect(width, height, rx=4, dashed=dashed) + _at(text, PAD, PAD / 2)
    )


def _text(lines: Sequence[str]) -> _Block:
    width = max(max(map(len, lines)), 2) * LETTER
    body = "".join(
        _letters(line, width / 2, LINE * (i + 0.5), "middle") for i, line in enumerate(lines)
    )
    return _Block(width, LINE * len(lines), body)


# ---------------------------------------------------------------------- SVG's elements


def _at(block: _Block, x: float, y: float) -> str:
    return f'<g transform="translate({_n(x)} {_n(y)})">{block.body}</g>'


def _stream(x: float, y: float, length: float) -> str:
    return _line(x, y, x, y + length) if length > 0 else ""


def _line(x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<path d="M{_n(x1)} {_n(y1)}L{_n(x2)} {_n(y2)}" stroke="currentColor" fill="none"/>'


def _rect(width: float, height: float, rx: int, dashed: bool = False) -> str:
    look = f'fill="{TINT}" fill-opacity=".25" stroke-dasharray="4 3"' if dashed else 'fill="none"'
    return (
        f'<rect width="{_n(width)}" height="{_n(height)}" rx="{rx}" stroke="currentColor" {look}/>'
    )


def _letters(text: str, x: float, y: float, anchor: str, weight: str = "") -> str:
    bold = f' font-weight="{weight}"' if weight else ""
    return (
        f'<text x="{_n(x)}" y="{_n(y + 4)}" text-anchor="{anchor}" fill="currentColor"{bold}>'
        f"{escape(text)}</text>"
    )


def _shortened(rows: list, dots: object) -> list:
    """Leave out the middle of too many rows."""
    half = MOST_ROWS // 2
    return rows if len(rows) <= MOST_ROWS else [*rows[:half], dots, *rows[-half:]]


def _cut(text: str) -> str:
    return text if len(text) <= CHARACTERS else text[: CHARACTERS - 1] + "…"


def _n(number: float) -> str:
    return f"{number:.1f}".removesuffix(".0")
