"""Colours, dashes and markers as plain values: how a line or a point is drawn, on paper or screen.

The colours are Okabe and Ito's, which people with any colour vision tell apart; lines differ in
dash and marker too, so that a print in grey can be read.
"""

from dataclasses import dataclass
from typing import Any

BLUE, ORANGE, GREEN = "#0072B2", "#E69F00", "#009E73"
VERMILION, PURPLE, SKY = "#D55E00", "#CC79A7", "#56B4E9"
INK, GREY, FAINT = "#222222", "#6E6E6E", "#DDDDDD"

SOLID: Any = "-"
DASHED, DOTTED, DASH_DOT = (0, (5, 1.5)), (0, (1.5, 1.2)), (0, (6, 1.5, 1.5, 1.5))
SHORT_DASHED, LONG_DASHED = (0, (3, 1)), (0, (8, 1.5))


@dataclass(frozen=True, slots=True)
class Look:
    """How a line or a point is drawn, and what it is called; dash and marker are matplotlib's."""

    label: str
    colour: str
    dash: Any = SOLID
    marker: str = "o"


def numbered(number: int, label: str) -> Look:
    """Return how one line among several is drawn that have no look of their own."""
    colours = (BLUE, ORANGE, GREEN, PURPLE, SKY, VERMILION)
    dashes = (SOLID, DASHED, DOTTED, DASH_DOT)
    return Look(label, colours[number % 6], dashes[number % 4], "osD^vP"[number % 6])
