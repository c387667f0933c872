"""What a picture shows as a table of numbers: one row for each point, or cell, of it.

Numbers are in the unit of the picture's axis (percent, for shares).
"""

from collections.abc import Iterable, Iterator

from impasto.figures.chart import Charts
from impasto.figures.front import Fronts
from impasto.figures.matrix import Matrix
from impasto.figures.picture import Picture
from impasto.table import Table

LINES = ("chart", "panel", "line", "model", "x", "value", "low", "high")
PLANS = ("chart", "model", "family", "plan", "cost", "cost_error", "value", "low", "high", "front")
CELLS = ("row", "column", "value")


def data_of(picture: Picture) -> Table:
    """Return what a picture shows; a table is that already."""
    match picture.content:
        case Table() as table:
            return table
        case Charts() as charts:
            return Table(LINES, list(_points(charts)))
        case Fronts() as fronts:
            return Table(PLANS, list(_plans(fronts)))
        case matrix:
            assert isinstance(matrix, Matrix), picture.name
            return Table(CELLS, list(_cells(matrix)))


def _points(charts: Charts) -> Iterator[tuple[object, ...]]:
    for chart in charts.charts:
        for panel in chart.panels:
            for line in panel.lines:
                ends: Iterable[tuple[object, object]] = [("", "")] * len(line.x)
                if len(line.low):
                    ends = zip(line.low, line.high, strict=True)
                for x, y, (low, high) in zip(line.x, line.y, ends, strict=True):
                    name = line.look.label
                    yield chart.title, panel.title, name, line.model, x, y, low, high
            for level in panel.references:
                yield chart.title, panel.title, level.label, "", "", level.y, "", ""


def _plans(fronts: Fronts) -> Iterator[tuple[object, ...]]:
    for front in fronts.fronts:
        factor = front.y.factor
        for cloud in front.clouds:
            best = {plan.digest for plan in cloud.front}
            for plan in cloud.priced:
                ends = (factor * end for end in (plan.average, plan.low, plan.high))
                yield (
                    *(front.title, cloud.title, cloud.look(plan.family).label, plan.told),
                    *(plan.cost, plan.cost_error, *ends, plan.digest in best),
                )


def _cells(matrix: Matrix) -> Iterator[tuple[object, ...]]:
    for name, values in zip(matrix.rows, matrix.values.tolist(), strict=True):
        for column, value in zip(matrix.columns, values, strict=True):
            yield name, column, value
