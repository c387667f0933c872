"""What stands above a picture: its title, and below it what was run.

Both begin at the picture's left edge and may be as long as the picture is wide, whatever stands
beside the axes; the layout leaves room for them above and nothing else.
"""

from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

from impasto.figures.style import Style
from impasto.figures.text import joined, wrapped
from impasto.look import GREY

BETWEEN = "  ·  "
MARGIN = 0.012  # of the width, to the left of the title
TITLE = 1.25  # times the size of other letters
TITLE_LINE, TOLD_LINE = 1.25, 1.35  # the height of a line in letters' heights


@dataclass(frozen=True, slots=True)
class Headline:
    """A title and what was run, in lines as wide as a picture."""

    title: tuple[str, ...]
    told: tuple[str, ...]
    size: float

    @classmethod
    def of(cls, title: str, told: tuple[str, ...], style: Style) -> "Headline":
        """Return the headline of a picture in a style; one without lines where it has no titles."""
        if not style.titles:
            return cls((), (), style.font)
        room = 72 * style.width * (1 - 2.5 * MARGIN)
        lines = wrapped(title, room, TITLE * style.font, bold=True)
        return cls(tuple(lines), tuple(joined(told, BETWEEN, room, style.font)), style.font)

    @property
    def height(self) -> float:
        """The room that it takes, in inches."""
        lines = TITLE * TITLE_LINE * len(self.title) + TITLE * TITLE_LINE * len(self.told)
        return self.size * lines / 72

    def write(self, figure: Figure | SubFigure, axes: Axes) -> None:
        """Write the title and, below it, what is told."""
        if not self.title:
            return
        above = figure.suptitle(
            "\n".join([*self.title, *[" "] * len(self.told)]),  # room for the lines below
            x=MARGIN,
            ha="left",
            fontsize=TITLE * self.size,
            fontweight="bold",
            linespacing=TITLE_LINE,
        )
        axes.annotate(
            "\n".join(self.told),
            (0, 0),
            xytext=(0, 1),
            xycoords=above,
            textcoords="offset points",
            va="bottom",
            fontsize=self.size,
            linespacing=TOLD_LINE,
            color=GREY,
            in_layout=False,
            annotation_clip=False,
        )
