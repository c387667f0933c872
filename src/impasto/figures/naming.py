"""Names of the plans on a front: beside their points where there is room, else letters and a list.

Nothing may cover another text; a name covers no point and no line either, a letter stands at some
distance from its point where it must, and a thin line leads there.
"""

from collections.abc import Collection, Sequence
from itertools import pairwise
from string import ascii_lowercase
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.text import Annotation
from matplotlib.transforms import Bbox

from impasto.analysis.costs import Priced
from impasto.figures.scale import Scale
from impasto.figures.style import Style
from impasto.figures.text import cut, width_of, wrapped
from impasto.look import INK

if TYPE_CHECKING:
    from impasto.figures.front import Cloud, Front

WIDEST = "m"  # of the letters
SPACE = "\u00a0"  # an SVG shows several others as one
SMALL = 0.85  # the size of names, in that of other letters
ALONG = 60  # points along a line at which it is looked at
NEAR, FARTHER = (1.0,), (1.0, 2.5, 4.0, 6.0, 9.0)  # how far from its point a name, a letter stands
MARKER = 2.0  # points around one that a text leaves free
RING = 9.0  # the size of the ring around a plan that is marked, in points
SIDES = ((-1, 1), (1, -1), (1, 1), (-1, -1), (0, 1), (0, -1), (1, 0), (-1, 0))
SLANTS = ((-1, 1), (1, -1), (1, 1), (-1, -1))
HORIZONTAL = {1: "left", 0: "center", -1: "right"}
VERTICAL = {1: "bottom", 0: "center", -1: "top"}

Side = tuple[int, int, float]  # to the right and up, and how far
Names = dict[str, tuple[str, Side]]  # by digest: what stands at a point, and on which side of it


def names_of(front: "Front", every: Sequence[Axes], style: Style) -> list[Names]:
    """Return what stands at the points of each cloud's front: names, or letters in their order."""
    letters = iter(ascii_lowercase)
    alone = len(front.clouds) == 1
    found = []
    for cloud, axes in zip(front.clouds, every, strict=False):
        plans = cloud.named
        points = _drawn_points(axes, cloud, front.y, style)
        short = {plan.digest for plan in plans if not alone or cut(plan.plan) != plan.plan}
        while True:
            place = _Placing(axes, front.y, style, points, FARTHER if cloud.marked else NEAR)
            sides = place.all_of(plans, short, cloud.marked[0] if cloud.marked else WIDEST)
            nameless = {plan.digest for plan in plans} - set(sides) - short
            if not nameless:
                break
            short |= nameless
        names: Names = {}
        for plan in plans:
            text = plan.plan
            if plan.digest in short:
                text = cloud.marked[0] if cloud.marked else next(letters, "")
            if text and plan.digest in sides:
                names[plan.digest] = (text, sides[plan.digest])
        found.append(names)
    return found


def _drawn_points(axes: Axes, cloud: "Cloud", scale: Scale, style: Style) -> np.ndarray:
    """Return the points, and some along the front's steps and all else, in pixels."""
    own = [_point(plan, scale) for plan in cloud.priced]
    points = [axes.transData.transform(own)]
    steps = axes.transData.transform([_point(plan, scale) for plan in cloud.front])
    for (x, y), (next_x, next_y) in pairwise(steps):
        points.append(np.column_stack([np.linspace(x, next_x, ALONG), np.full(ALONG, y)]))
        points.append(np.column_stack([np.full(ALONG, next_x), np.linspace(y, next_y, ALONG)]))
    box = axes.get_window_extent()
    for level in cloud.references:
        _, y = axes.transData.transform((own[0][0], level.y))
        points.append(np.column_stack([np.linspace(box.x0, box.x1, ALONG), np.full(ALONG, y)]))
    for plan in cloud.priced if cloud.faint else ():
        if plan.low == plan.low and cloud.is_loud(plan):
            ends = [(plan.cost, scale.factor * end) for end in (plan.low, plan.high)]
            low, high = axes.transData.transform(ends)
            points.append(np.linspace(low, high, ALONG))
    for plan in cloud.named if cloud.marked else ():
        around = np.linspace(0, 2 * np.pi, ALONG)
        radius = 0.6 * RING * style.line * _pixels_per_point(axes)
        ring = radius * np.column_stack([np.cos(around), np.sin(around)])
        points.append(axes.transData.transform(_point(plan, scale)) + ring)
    return np.concatenate(points)


class _Placing:
    """Finds sides of points for texts one by one; `points` is (x, y) of all that is drawn.

    A name stands as far from its point as `named` says.
    """

    def __init__(
        self,
        axes: Axes,
        scale: Scale,
        style: Style,
        points: np.ndarray,
        named: tuple[float, ...] = NEAR,
    ) -> None:
        self.axes, self.scale, self.style, self.points = axes, scale, style, points
        self.named = named
        self.taken: list[Bbox] = []

    def all_of(
        self, plans: Sequence[Priced], short: Collection[str], letter: str
    ) -> dict[str, Side]:
        """Return by digest the sides of a front's plans, of those whose names have room.

        Plans in `short` have a letter in place of a name, which always has room and comes first;
        it is no wider than `letter`.
        """
        letters = [plan for plan in plans if plan.digest in short]
        named = [plan for plan in reversed(plans) if plan.digest not in short]  # the best first
        sides = {plan.digest: self._side(plan, letter, must=True) for plan in letters}
        sides |= {plan.digest: self._side(plan, plan.plan, must=False) for plan in named}
        return {digest: side for digest, side in sides.items() if side is not None}

    def _side(self, plan: Priced, text: str, must: bool) -> Side | None:
        """Return the side where a text covers nothing; of one that must stand, at least no text."""
        inside = self.axes.get_window_extent()
        fallback: tuple[Side, Bbox] | None = None
        room = MARKER * self.style.line * _pixels_per_point(self.axes)
        for far in FARTHER if must else self.named:
            for right, up in SIDES if far in NEAR else SLANTS:
                side = (right, up, far)
                written = _write(self.axes, plan, self.scale, text, side, self.style)
                box = written.get_window_extent()
                written.remove()
                within = inside.x0 <= box.x0 and box.x1 <= inside.x1
                within = within and inside.y0 <= box.y0 and box.y1 <= inside.y1
                led = _led(self.axes, plan, self.scale, side, self.style)
                if not within or any(
                    box.padded(3).overlaps(other) or _covers(other, led) for other in self.taken
                ):
                    continue
                if not _covers(box.padded(room), self.points):
                    return self._take(side, box, led)
                fallback = fallback or (side, box)
        if must and fallback is not None:
            return self._take(*fallback, np.empty((0, 2)))
        return None

    def _take(self, side: Side, box: Bbox, led: np.ndarray) -> Side:
        self.taken.append(box)
        self.points = np.concatenate([self.points, led])
        return side


def _covers(box: Bbox, points: np.ndarray) -> bool:
    return bool(((box.min <= points) & (points <= box.max)).all(axis=1).any())


def _led(axes: Axes, plan: Priced, scale: Scale, side: Side, style: Style) -> np.ndarray:
    """Return points along the line from a plan's point to its text, in pixels; none where close."""
    if side[2] <= NEAR[0]:
        return np.empty((0, 2))
    along = np.linspace(0.1, 1, ALONG)[:, None] * np.array(_offset(side, style))
    return axes.transData.transform(_point(plan, scale)) + along * _pixels_per_point(axes)


def _pixels_per_point(axes: Axes) -> float:
    return axes.get_figure(root=True).dpi / 72  # type: ignore[union-attr]


def write_name(axes: Axes, plan: Priced, scale: Scale, text: str, side: Side, style: Style) -> None:
    """Write a text on a side of a plan's point, with a line to it where it stands away from it."""
    _write(axes, plan, scale, text, side, style)
    if side[2] > NEAR[0]:
        axes.annotate(
            "",
            _point(plan, scale),
            xytext=_offset(side, style),
            textcoords="offset points",
            arrowprops={
                "arrowstyle": "-",
                "color": INK,
                "linewidth": 0.5 * style.line,
                "shrinkA": 0,
                "shrinkB": 2 * style.line,
            },
            in_layout=False,
            annotation_clip=False,
        )


def _point(plan: Priced, scale: Scale) -> tuple[float, float]:
    return plan.cost, scale.factor * plan.average


def _offset(side: Side, style: Style) -> tuple[float, float]:
    """Return how far a text stands to the right of its point and above it, in points."""
    right, up, far = side
    gap = 0.4 * style.font * far
    return right * gap, up * gap


def _write(
    axes: Axes, plan: Priced, scale: Scale, text: str, side: Side, style: Style
) -> Annotation:
    right, up, _ = side
    return axes.annotate(
        text,
        _point(plan, scale),
        xytext=_offset(side, style),
        textcoords="offset points",
        ha=HORIZONTAL[right],
        va=VERTICAL[up],
        fontsize=SMALL * style.font,
        color=INK,
        in_layout=False,
        annotation_clip=False,
    )


def listed(front: "Front", names: Sequence[Names], style: Style) -> list[str]:
    """Return the lines of the list: the plans that letters stand for."""
    size, room = SMALL * style.font, 72 * style.width * 0.97
    lines: list[str] = []
    for cloud, own in zip(front.clouds, names, strict=True):
        entries = [
            f"{own[plan.digest][0]}{2 * SPACE}{plan.plan}"
            for plan in cloud.named
            if plan.digest in own and own[plan.digest][0] != plan.plan
        ]
        if entries and cloud.title:
            lines.append(cloud.title)
        line = ""
        for entry in entries:
            longer = f"{line}{5 * SPACE}{entry}" if line else entry
            if line and width_of(longer, size) > room:
                lines += _fitted(line, room, size)
                line = entry
            else:
                line = longer
        lines += _fitted(line, room, size) if line else []
    return lines


def _fitted(line: str, room: float, size: float) -> list[str]:
    """Return a line as it is where it fits, or broken where it does not."""
    return [line] if width_of(line, size) <= room else wrapped(line, room, size)
