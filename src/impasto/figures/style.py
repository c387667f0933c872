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

SOLID: Any = "-"
DASHED, DOTTED, DASH_DOT = (0, (5, 1.5)), (0, (1.5, 1.2)), (0, (6, 1.5, 1.5, 1.5))

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


def _look(strategy: str, colour: str, dash: Any, marker: str) -> Look:
    return Look(STRATEGIES[strategy].title, colour, dash, marker)


# Within one paper no two strategies share a colour, a dash or a marker. Over all three papers there
# are more strategies than colours that everyone can tell apart: then the marker tells them.
LOOKS: Mapping[str, Look] = {
    "freeze": _look("freeze", BLUE, SOLID, "o"),
    "shuffle": _look("shuffle", GREEN, DASHED, "s"),
    "gaussian": _look("gaussian", VERMILION, DOTTED, "^"),
    "drop_attention_from": _look("drop_attention_from", PURPLE, DASH_DOT, "D"),
    "inject": _look("inject", ORANGE, SOLID, "v"),
    "answers_injected": Look("Injected answer", ORANGE, SOLID, "v"),
    "answers_original": Look("Original answer", SKY, DASHED, "o"),
    "skip_one": _look("skip_one", BLUE, SOLID, "P"),
    "switch": _look("switch", GREEN, DASHED, "X"),
    "skip": _look("skip", BLUE, SOLID, "p"),
    "middle_repeat": _look("middle_repeat", PURPLE, DASHED, "*"),
    "reverse": _look("reverse", GREEN, DOTTED, "<"),
    "random_order": _look("random_order", ORANGE, DASH_DOT, ">"),
    "parallel": _look("parallel", SKY, (0, (3, 1)), "h"),
    "looped_parallel": _look("looped_parallel", VERMILION, (0, (8, 1.5)), "d"),
    "drop_last attention": Look("Drop attention", PURPLE, SOLID, "D"),
    "drop_last mlp": Look("Drop MLPs", ORANGE, DASHED, "s"),
    "drop_last block": Look("Drop layers", BLUE, DOTTED, ">"),
    "drop_last": _look("drop_last", PURPLE, SOLID, "H"),
    "plan": Look("Written plans", INK, SOLID, "8"),
    "baseline": Look("Baseline", INK, DASHED, "o"),
}


def look_of(key: str) -> Look:
    """Return how a strategy, or a metric of injection, is drawn; grey where the table has none."""
    return LOOKS.get(key, Look(key, GREY))


def task_look(number: int) -> Look:
    """Return how the line of one task among several is drawn; its label is the task's title."""
    colours = (BLUE, ORANGE, GREEN, PURPLE, SKY, VERMILION)
    dashes = (SOLID, DASHED, DOTTED, DASH_DOT)
    markers = "osD^vP"
    return Look(
        "",
        colours[number % len(colours)],
        dashes[number % len(dashes)],
        markers[number % len(markers)],
    )


def darker(colour: str) -> str:
    """Return the colour as thin letters need it: the same hue, dark enough on white."""
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return "#" + "".join(f"{round(0.72 * part):02X}" for part in (red, green, blue))
