"""How every figure looks: one colour, line and name per strategy, one set of sizes.

The colours are Okabe and Ito's, which people with any colour vision tell apart; lines differ in
dash and marker too, so that a print in grey can be read.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from impasto.strategies import STRATEGIES

BLUE, ORANGE, GREEN, VERMILION, PURPLE, SKY, YELLOW = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#D55E00",
    "#CC79A7",
    "#56B4E9",
    "#F0E442",
)
INK, GREY, FAINT = "#222222", "#6E6E6E", "#DDDDDD"

DPI = 200
SIZE = (6.4, 4.0)  # inches
BAND_OPACITY = 0.18

SETTINGS: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans", "Verdana", "Arial"],
    "font.size": 9,
    "text.parse_math": False,  # a title is what it says, whatever signs it holds
    "axes.titlesize": 11,
    "axes.labelsize": 9.5,
    "axes.edgecolor": GREY,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": INK,
    "ytick.color": INK,
    "text.color": INK,
    "axes.labelcolor": INK,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "svg.fonttype": "none",  # text stays text: it can be found, read aloud and edited
    "svg.hashsalt": "impasto",  # the same figure is the same file
}


@dataclass(frozen=True, slots=True)
class Look:
    """How one strategy is drawn, and what it is called."""

    label: str
    colour: str
    dash: Any = "-"
    marker: str = "o"


LOOKS: Mapping[str, Look] = {
    "freeze": Look(STRATEGIES["freeze"].title, BLUE, "-", "o"),
    "shuffle": Look(STRATEGIES["shuffle"].title, GREEN, (0, (5, 1.5)), "s"),
    "gaussian": Look(STRATEGIES["gaussian"].title, VERMILION, (0, (1.5, 1.2)), "^"),
    "drop_attention_from": Look(
        STRATEGIES["drop_attention_from"].title, PURPLE, (0, (6, 1.5, 1.5, 1.5)), "D"
    ),
    "answers_injected": Look("Injected answer", ORANGE, "-", "v"),
    "answers_original": Look("Original answer", SKY, (0, (5, 1.5)), "o"),
}


def look_of(key: str) -> Look:
    """Return how a strategy, or a metric of injection, is drawn; grey where the table has none."""
    return LOOKS.get(key, Look(key, GREY))


def darker(colour: str) -> str:
    """Return the colour as thin letters need it: the same hue, dark enough on white."""
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return "#" + "".join(f"{round(0.72 * part):02X}" for part in (red, green, blue))
