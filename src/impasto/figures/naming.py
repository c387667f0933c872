"""Names of the plans on a front: beside their points where there is room, else letters and a list.

Nothing may cover another text; a name covers no point and no line either, a letter stands at some
distance from its point where it must.
"""

from collections.abc import Sequence
from itertools import pairwise
from string import ascii_lowercase
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.text import Annotation
from matplotlib.transforms import Bbox

from impasto.analysis.costs import Priced
from impasto.analysis.curves import BASELINE
from impasto.figures.scale import Scale
from impasto.figures.style import Style
from impasto.figures.text import cut, width_of, wrapped
from impasto.look import INK

if TYPE_CHECKING:
    from impasto.figures.front import Cloud, Front

SMALL = 0.85  # the size of names, in that of other letters
ALONG = 60  # points along a line at which it is looked at
NEAR, FARTHER = (1.0,), (1.0, 2.5, 4.0, 6.0, 9.0)  # how far from its point a name, a letter stands
SIDES = ((-1, 1), (1, -1), (1, 1), (-1, -1), (0, 1), (0, -1), (1, 0), (-1, 0))
HORIZONTAL = {1: "left", 0: "center", -1: "right"}
VERTICAL = {1: "bottom", 0: "center", -1: "top"}

Side = tuple[int, int, float]  # to the right and up, and how far
Names = dict[str, tuple[str, Side]]  # by digest: what stands at a point, and on which side of it


def names_of(front: "Front", every: Sequence[Axes], style: Style) -> list[Names]:
    """Return what stands at the points of each cloud's front: names, or letters in their order."""
    letters = iter(ascii_lowercase)
    found = []
    for cloud, axes in zip(front.clouds, every, strict=False):
        plans = [plan for plan in cloud.front if plan.family != BASELINE]
        points = _drawn_points(axes, cloud, front.y)
        taken: list[Bbox] = []
        names: Names = {}
        for plan in reversed(plans):  # the best first
            if len(front.clouds) == 1 and (cut(plan.plan) == plan.plan):
                side = _side(axes, plan, front.y, plan.plan, points, taken, style)
                if side is not None:
                    names[plan.digest] = (plan.plan, side)
        for plan in plans:
            if plan.digest not in names and (letter := next(letters, "")):
                side = _side(axes, plan, front.y, letter, points, taken, style, must=True)
                if side is not None:
                    names[plan.digest] = (letter, side)
        found.append(names)
    return found


def _drawn_points(axes: Axes, cloud: "Cloud", scale: Scale) -> np.ndarray:
    """Return the points, and some along the front's steps and the levels, in pixels."""
    own = [(plan.cost, scale.factor * plan.average) for plan in cloud.priced]
    points = [axes.transData.transform(own)]
    steps = axes.transData.transform(
        [(plan.cost, scale.factor * plan.average) for plan in cloud.front]
    )
    for (x, y), (next_x, next_y) in pairwise(steps):
        points.append(np.column_stack([np.linspace(x, next_x, ALONG), np.full(ALONG, y)]))
        points.append(np.column_stack([np.full(ALONG, next_x), np.linspace(y, next_y, ALONG)]))
    box = axes.get_window_extent()
    for level in cloud.references:
        _, y = axes.transData.transform((own[0][0], level.y))
        points.append(np.column_stack([np.linspace(box.x0, box.x1, ALONG), np.full(ALONG, y)]))
    return np.concatenate(points)


def _side(
    axes: Axes,
    plan: Priced,
    scale: Scale,
    text: str,
    points: np.ndarray,
    taken: list[Bbox],
    style: Style,
    must: bool = False,
) -> Side | None:
    """Return the side of a point where a text covers nothing; of one that must stand, no text."""
    inside = axes.get_window_extent()
    fallback = None
    for far in FARTHER if must else NEAR:
        for right, up in SIDES:
            written = write_name(axes, plan, scale, text, (right, up, far), style)
            box = written.get_window_extent().padded(1.5)
            written.remove()
            within = inside.x0 <= box.x0 and box.x1 <= inside.x1
            within = within and inside.y0 <= box.y0 and box.y1 <= inside.y1
            if not within or any(box.overlaps(other) for other in taken):
                continue
            covered = ((box.min <= points) & (points <= box.max)).all(axis=1).any()
            if not covered:
                taken.append(box)
                return right, up, far
            fallback = fallback or (right, up, far, box)
    if must and fallback is not None:
        taken.append(fallback[3])
        return fallback[:3]
    return None


def write_name(
    axes: Axes, plan: Priced, scale: Scale, text: str, side: Side, style: Style
) -> Annotation:
    """Write a text on a side of a plan's point and return it."""
    right, up, far = side
    gap = 0.4 * style.font * far
    return axes.annotate(
        text,
        (plan.cost, scale.factor * plan.average),
        xytext=(right * gap, up * gap),
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
            f"{own[plan.digest][0]}  {plan.plan}"
            for plan in cloud.front
            if plan.digest in own and own[plan.digest][0] != plan.plan
        ]
        if entries and cloud.title:
            lines.append(cloud.title)
        line = ""
        for entry in entries:
            longer = f"{line}     {entry}" if line else entry
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
