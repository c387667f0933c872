"""Writing each line's name beside it: where it touches nothing and can belong to no other line.

Curves of a depth sweep often end in one point, so a name at the line's end says little. Names are
tried all along each line instead; unless every one finds a free place, none is written and the
caller draws a key.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.text import Annotation
from matplotlib.transforms import Bbox

GAP = 4.0  # points between a line and its name
SAMPLES = 24  # points per segment at which lines are looked at
SIDES = ((1, 1), (1, -1), (-1, 1), (-1, -1), (0, 1), (0, -1))  # right or left, above or below
HORIZONTAL = {1: "left", 0: "center", -1: "right"}
VERTICAL = {1: "bottom", -1: "top"}


@dataclass(frozen=True, slots=True)
class Named:
    """A line to be named, in data coordinates; `edges` is its band, which no name may cover.

    Another line must be `clear` times as far from the name as its own is.
    """

    label: str
    colour: str
    x: Sequence[float]
    y: Sequence[float]
    edges: tuple[Sequence[float], ...] = ()
    clear: float = 2.2


@dataclass(frozen=True, slots=True)
class _Place:
    """A point of a line and the side of it on which the name could stand."""

    x: float
    y: float
    right: int
    up: int
    box: Bbox


def name_lines(axes: Axes, lines: Sequence[Named], besides: Sequence[Named] = ()) -> bool:
    """Write the name of every line beside it and say so, or write none where one does not fit.

    `besides` are lines that are drawn too and named elsewhere.
    """
    axes.get_figure(root=True).draw_without_rendering()  # type: ignore[union-attr]
    traces = [_trace(axes, line) for line in [*lines, *besides]]
    taken: list[Bbox] = []
    written: list[Annotation] = []
    for i, line in enumerate(lines):
        others = np.concatenate([*traces[:i], *traces[i + 1 :], np.empty((0, 2))])
        place = _best_place(axes, line, traces[i], others, taken)
        if place is None:
            for text in written:
                text.remove()
            return False
        written.append(_write(axes, line, place.x, place.y, place.right, place.up))
        taken.append(place.box)
    return True


def _best_place(
    axes: Axes, line: Named, own: np.ndarray, others: np.ndarray, taken: list[Bbox]
) -> _Place | None:
    """Return the free place that is farthest from other lines, or None where there is none."""
    best, most = None, 0.0
    gap = GAP * _pixels_per_point(axes)
    for place in _places(axes, line):
        if not _is_free(place.box, axes.get_window_extent(), taken, gap):
            continue
        near, far = _distance(place.box, own), _distance(place.box, others)
        if near > 0.4 * gap and far > max(line.clear * near, 0.4 * gap) and far > most:
            best, most = place, far
    return best


def _places(axes: Axes, line: Named) -> Iterator[_Place]:
    """Yield places all along the line, on either side of it."""
    probe = _write(axes, line, line.x[0], line.y[0], 1, 1)
    extent = probe.get_window_extent()
    probe.remove()
    width, height = extent.width, extent.height
    gap = GAP * _pixels_per_point(axes)
    along = _along(axes, line.x, line.y, max(2, 4 * len(line.x) - 3))
    places = axes.transData.inverted().transform(along)
    for (x, y), (pixel_x, pixel_y) in zip(places, along, strict=True):
        for right, up in SIDES:
            left = pixel_x + right * gap + {1: 0.0, 0: -width / 2, -1: -width}[right]
            low = pixel_y + (gap if up > 0 else -gap - height)
            box = Bbox.from_bounds(left, low, width, height)
            yield _Place(float(x), float(y), right, up, box)


def _write(axes: Axes, line: Named, x: float, y: float, right: int, up: int) -> Annotation:
    return axes.annotate(
        line.label,
        (x, y),
        xytext=(right * GAP, up * GAP),
        textcoords="offset points",
        ha=HORIZONTAL[right],
        va=VERTICAL[up],
        color=line.colour,
        in_layout=False,
        annotation_clip=False,
    )


def _trace(axes: Axes, line: Named) -> np.ndarray:
    """Return many points of the line and of its band's edges, in pixels."""
    count = SAMPLES * len(line.x)
    return np.concatenate([_along(axes, line.x, y, count) for y in (line.y, *line.edges)])


def _along(axes: Axes, x: Sequence[float], y: Sequence[float], count: int) -> np.ndarray:
    """Return so many points along a line, in pixels: between its own it is straight there."""
    own = axes.transData.transform(np.column_stack([x, y]))
    at, known = np.linspace(0, len(own) - 1, count), np.arange(len(own))
    return np.column_stack([np.interp(at, known, own[:, axis]) for axis in (0, 1)])


def _is_free(box: Bbox, inside: Bbox, taken: list[Bbox], gap: float) -> bool:
    """Say whether a name at the box stays within the axes and away from other names."""
    if box.x0 < inside.x0 or box.x1 > inside.x1 or box.y0 < inside.y0 or box.y1 > inside.y1:
        return False
    return not any(box.padded(gap).overlaps(other) for other in taken)


def _distance(box: Bbox, points: np.ndarray) -> float:
    """Return the distance from the box to the nearest of the points, 0 where one is inside."""
    if not len(points):
        return float("inf")
    dx = np.maximum(0, np.maximum(box.x0 - points[:, 0], points[:, 0] - box.x1))
    dy = np.maximum(0, np.maximum(box.y0 - points[:, 1], points[:, 1] - box.y1))
    return float(np.hypot(dx, dy).min())


def _pixels_per_point(axes: Axes) -> float:
    return axes.get_figure(root=True).dpi / 72  # type: ignore[union-attr]
