"""How every figure looks: one colour, line and name per strategy, one set of sizes.

A strategy's own look stands in its entry in `impasto.strategies`. A `Style` says how large letters
and lines are and how wide a picture is; it is passed to whatever draws, and nothing is set outside.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

from impasto.error import UserError, shown
from impasto.look import DASHED, GREY, INK, ORANGE, SKY, SOLID, Look
from impasto.strategies import STRATEGIES

Kind: TypeAlias = Literal["paper", "slide"]
KINDS: tuple[Kind, ...] = get_args(Kind)
DPI = 200
BAND_OPACITY = 0.18
INCHES = {"cm": 1 / 2.54, "mm": 1 / 25.4, "in": 1.0}
NARROWEST, WIDEST = 2.0, 40.0  # inches
WIDE = 43.0  # of a picture, in letters' heights: from there on a key stands beside the axes

LOOKS: Mapping[str, Look] = {
    **{
        f"{strategy.name} {part}".strip(): look
        for strategy in STRATEGIES.values()
        for part, look in strategy.looks.items()
    },
    "answers_injected": Look("Injected answer", ORANGE, SOLID, "v"),
    "answers_original": Look("Original answer", SKY, DASHED, "o"),
    "plan": Look("Written plans", INK, SOLID, "8"),
}


@dataclass(frozen=True, slots=True)
class Style:
    """How pictures are set.

    Attributes:
        kind: For paper, or larger for a slide that is read from afar.
        inches: How wide a picture is; None: as wide as the kind usually is. Letters and lines keep
            their size whatever the width.
        titles: Whether a title and what was run stand above; without, the caption says it.
    """

    kind: Kind = "paper"
    inches: float | None = None
    titles: bool = True

    @property
    def width(self) -> float:
        """The width of a picture in inches."""
        return self.inches or (6.4 if self.kind == "paper" else 11.0)

    @property
    def font(self) -> float:
        """The size of letters, in points."""
        return 8.0 if self.kind == "paper" else 16.0

    @property
    def line(self) -> float:
        """How many times as thick lines are, and as large markers, as on paper."""
        return 1.0 if self.kind == "paper" else 1.8

    @property
    def is_wide(self) -> bool:
        """Whether there is room beside the axes."""
        return 72 * self.width / self.font >= WIDE

    def ems(self, count: float) -> float:
        """Return the length of so many letters' heights, in inches."""
        return count * self.font / 72

    @property
    def settings(self) -> dict[Any, Any]:
        """Matplotlib's settings, to draw and to save within."""
        return {
            "font.family": "sans-serif",
            "font.sans-serif": ["DejaVu Sans", "Verdana", "Arial"],
            "font.size": self.font,
            "text.parse_math": False,  # a title is what it says, whatever signs it holds
            "axes.titlesize": self.font,
            "axes.labelsize": self.font,
            "xtick.labelsize": self.font,
            "ytick.labelsize": self.font,
            "legend.fontsize": self.font,
            "axes.edgecolor": GREY,
            "axes.linewidth": 0.8 * self.line,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "xtick.color": INK,
            "ytick.color": INK,
            "text.color": INK,
            "axes.labelcolor": INK,
            "figure.facecolor": "white",
            "savefig.facecolor": "white",
            "pdf.fonttype": 42,  # TrueType, which printers and editors take
            "ps.fonttype": 42,
            "svg.fonttype": "none",  # text stays text: it can be found, read aloud and edited
            "svg.hashsalt": "impasto",  # the same figure is the same file
        }


USUAL_STYLE = Style()


def style_of(kind: str = "paper", width: str | None = None, titles: bool = True) -> Style:
    """Return the style that words name; a width is `8.8`, `8.8cm`, `88mm` or `3.5in`.

    Raises UserError for another kind, and for what is no width that a picture can have.
    """
    for known in KINDS:
        if kind == known:
            return Style(known, None if width is None else _inches(width), titles)
    raise UserError(f"a style is {' or '.join(KINDS)}, not {shown(kind)}")


def _inches(text: str) -> float:
    said = re.fullmatch(r"\s*(\d+\.?\d*|\.\d+)\s*(cm|mm|in)?\s*", text)
    if said is None:
        raise UserError(f"a width is centimetres, as 8.8 or 8.8cm, or 3.5in, not {shown(text)}")
    inches = float(said[1]) * INCHES[said[2] or "cm"]
    if not NARROWEST <= inches <= WIDEST:
        raise UserError(f"a picture is 5.1 to 101 cm (2 to 40 in) wide, not {text.strip()}")
    return inches


def look_of(key: str) -> Look:
    """Return how a strategy, or a metric of injection, is drawn; grey where the table has none."""
    return LOOKS.get(key, Look(key, GREY))


def darker(colour: str) -> str:
    """Return the colour as thin letters need it: the same hue, dark enough on white."""
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return "#" + "".join(f"{round(0.72 * part):02X}" for part in (red, green, blue))


def lighter(colour: str, white: float) -> str:
    """Return the colour with so much white in it, from 0 to 1."""
    parts = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return "#" + "".join(f"{round(part + white * (255 - part)):02X}" for part in parts)
