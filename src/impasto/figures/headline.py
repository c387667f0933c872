"""What stands above a picture: its title, and below it what was run.

Both begin at the picture's left edge and may be as long as the picture is wide, whatever stands
beside the axes; the layout leaves room for them above and nothing else.
"""

from textwrap import wrap

from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

from impasto.look import GREY

CHARACTERS = 92  # of the small line that fit the width
BOLD_CHARACTERS = 64  # of the title
BETWEEN = "  ·  "


def write_headline(figure: Figure | SubFigure, axes: Axes, title: str, *told: str) -> None:
    """Write the title and, below it, what there is to be told, on as many lines as that takes."""
    lines = _lines(told)
    above = figure.suptitle(
        "\n".join([*wrap(title, BOLD_CHARACTERS), *[" "] * len(lines)]),  # room for the lines below
        x=0.012,
        ha="left",
        fontsize=11,
        fontweight="bold",
        linespacing=1.25,
    )
    axes.annotate(
        "\n".join(lines),
        (0, 0),
        xytext=(0, 1),
        xycoords=above,
        textcoords="offset points",
        va="bottom",
        linespacing=1.35,
        color=GREY,
        in_layout=False,
        annotation_clip=False,
    )


def _lines(told: tuple[str, ...]) -> list[str]:
    """Return what is told, broken only between one thing and the next."""
    lines = [told[0]]
    for part in told[1:]:
        if len(lines[-1]) + len(BETWEEN) + len(part) <= CHARACTERS:
            lines[-1] += BETWEEN + part
        else:
            lines.append(part)
    return lines
