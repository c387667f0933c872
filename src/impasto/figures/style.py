"""How every figure looks: one colour, line and name per strategy, one set of sizes.

A strategy's own look stands in its entry in `impasto.strategies`.
"""

from collections.abc import Mapping
from typing import Any

from impasto.look import DASHED, GREY, INK, ORANGE, SKY, SOLID, Look
from impasto.strategies import STRATEGIES

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


def look_of(key: str) -> Look:
    """Return how a strategy, or a metric of injection, is drawn; grey where the table has none."""
    return LOOKS.get(key, Look(key, GREY))


def darker(colour: str) -> str:
    """Return the colour as thin letters need it: the same hue, dark enough on white."""
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return "#" + "".join(f"{round(0.72 * part):02X}" for part in (red, green, blue))
