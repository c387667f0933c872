"""BA2: skipped layers, frozen against healed, as in appendix A.2 of paper B (*Painters*).

Every plan that a study runs both as it is and healed is a pair. What a task comes to is drawn over
the number of layers that the plan leaves out; where several plans leave out as many, their mean.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean

from impasto.analysis import metric_name
from impasto.analysis.curves import Row
from impasto.analysis.scores import main_rows
from impasto.figures.chart import Chart, Charts, Line, Panel, Places, references
from impasto.figures.found import Found, MissingError
from impasto.figures.models import asked
from impasto.figures.picture import Picture, file_name
from impasto.figures.scale import scale_of
from impasto.look import GREY, Look, numbered
from impasto.mending.settings import METHODS, Settings
from impasto.plan import Plan
from impasto.tasks.metrics import metric_of

HEALED = "healed"  # the strategy's name of plans that are healed
ENTRY = "{skip: {n: all}, heal: {method: lora, texts: {file: FILE.txt}}}"
FROZEN = Look("Frozen", GREY, marker="o")

Points = Mapping[int, tuple[float, float, float]]


def frozen_and_healed(found: Found) -> Iterator[Picture]:
    """Draw, for each task, what plans come to as they are and healed."""
    if HEALED not in found.strategies:
        raise MissingError([] if found.tasks else ["capitals"], ["skip: {n: all}", ENTRY])
    by_task: dict[str, list[Row]] = {}
    for row in main_rows(found.frame, {}):
        by_task.setdefault(row.task, []).append(row)
    drawn = [(task, rows) for task, rows in by_task.items() if _healed(rows)]
    for task, rows in drawn:
        yield Picture(f"BA2-{file_name(task)}", Charts([_chart(found, rows)]))


def _healed(rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if row.strategy == HEALED]


def _chart(found: Found, rows: Sequence[Row]) -> Chart:
    healed, first = _healed(rows), rows[0]
    plans = {row.plan for row in healed}
    frozen = {row.digest: row for row in rows if row.plan in plans and row.strategy != HEALED}
    scale = scale_of(first.metric, [*(row.value for row in rows), first.baseline])
    lines = [Line.of(FROZEN, _points(list(frozen.values())), scale.factor)] if frozen else []
    ways = _ways(healed)
    for number, way in enumerate(dict.fromkeys(ways.values())):
        own = {row.digest: row for row in healed if ways[row.digest] == way}
        lines.append(Line.of(numbered(number, way), _points(list(own.values())), scale.factor))
    most = max(_skipped(row) for row in healed)
    levels = [("Baseline", first.baseline), ("Chance", first.chance)]
    return Chart(
        title=f"{first.title}: skipped layers, frozen and healed",
        told=[
            found.named,
            metric_name(first.metric),
            asked([(found, first.n)], metric_of(first.metric).items),
        ],
        x=Places("layers that are skipped", range(most + 1)),
        y=scale,
        panels=[Panel(lines, references(levels, scale))],
    )


def _ways(rows: Sequence[Row]) -> dict[str, str]:
    """Return what each plan's way of healing is called, by its digest.

    That is its method, with the settings that were given where a method was run in several ways.
    """
    told = {row.digest: json.loads(row.parameters) for row in rows}
    given = {}
    for digest, parameters in told.items():
        own = METHODS[parameters["heal"]].model_fields.keys() - Settings.model_fields.keys()
        given[digest] = [f"{name} {value}" for name, value in parameters.items() if name in own]
    found = {}
    for digest, parameters in told.items():
        method = parameters["heal"]
        alike = [given[other] for other, its in told.items() if its["heal"] == method]
        several = any(one != given[digest] for one in alike)
        words = [method, *(given[digest] if several else [])]
        found[digest] = f"Healed ({', '.join(words)})"
    return found


def _skipped(row: Row) -> int:
    """Return how many of the model's layers a plan leaves out whole."""
    return row.layers - len(Plan.parse(row.plan).layers)


def _points(rows: Sequence[Row]) -> Points:
    """Return the values by how many layers are skipped, with their intervals."""
    found: dict[int, list[tuple[float, float, float]]] = {}
    for row in sorted(rows, key=_skipped):
        found.setdefault(_skipped(row), []).append((row.value, *row.interval))
    return {
        at: (fmean(v for v, *_ in some), fmean(a for _, a, _ in some), fmean(b for *_, b in some))
        for at, some in found.items()
    }
