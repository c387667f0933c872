"""Quality beside cost as a table, the cheapest plan first; the `pareto` figure is its picture."""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from impasto.analysis.costs import trade_off
from impasto.analysis.curves import BASELINE
from impasto.analysis.scores import main_rows, signed
from impasto.analysis.table_changes import NO_CHANGE, Change, average_changes, change_said
from impasto.analysis.words import short
from impasto.figures.found import Found, MissingError
from impasto.figures.picture import Picture
from impasto.figures.tables import BENCH
from impasto.table import Table
from impasto.tasks.metrics import Metric, metric_of

ON_FRONT = "yes"


def quality_and_cost(founds: Sequence[Found]) -> Iterator[Picture]:
    """Make the table of every plan's quality and cost, a block for every model."""
    made = [(found, table) for found in founds if (table := _table(found)) is not None]
    if not made:
        raise MissingError(command=BENCH)
    rows: list[list[str]] = []
    numbers: list[list[object]] = []
    notes: list[str] = []
    for found, table in made:
        metric = _metric(found)
        changes = _changes(found, table, metric)
        for row in table.to_dict(orient="records"):
            change = changes.get(str(row["digest"]), NO_CHANGE)
            rows.append(_cells(row, metric, change))
            numbers.append([found.model, *row.values(), change.low, change.high])
        notes.append(f"Times of {found.model} were taken on {table['machine'].iloc[0]}.")
    first, table = made[0]
    units = dict.fromkeys(str(table["unit"].iloc[0]) for _, table in made)
    metric = _metric(first)
    average = "average" if metric.is_bounded else f"geometric mean of {metric.title}"
    plans = sum(len(table) for _, table in made)
    title = f"quality and cost of {plans} plans"
    content = Table(
        title=f"{first.model}: {title}" if len(made) == 1 else title.capitalize(),
        columns=[
            "plan",
            "family",
            average,
            "change",
            " or ".join(units),
            "faster by",
            "KV bytes a token",
            "parameters",
            "front",
        ],
        rows=rows,
        numbers=numbers,
        note=_note(metric) + " ".join(notes),
        number_columns=["model", *table.columns, "change low", "change high"],
        blocks=[(found.named, len(table)) for found, table in made] if len(made) > 1 else (),
    )
    lacking = [
        f"{found.model} has no measured costs"
        for found in founds
        if found not in [one for one, _ in made]
    ]
    yield Picture("trade_off", content, lacking)


def _table(found: Found) -> pd.DataFrame | None:
    costs = found.results.costs if found.results else None
    return None if costs is None or costs.empty else trade_off(found.frame, costs)


def _changes(found: Found, table: pd.DataFrame, metric: Metric) -> dict[str, Change]:
    """Return the change of each plan's average by digest."""
    digests = [str(digest) for digest in table["digest"]]
    answers = found.results.answers if found.results else ()
    tasks = {
        row.task: row.metric
        for row in main_rows(found.frame, {})
        if metric_of(row.metric).is_bounded == metric.is_bounded
    }
    return average_changes(found.frame, answers, digests, tasks)


def _metric(found: Found) -> Metric:
    """Return what the average is measured in: that of shares, where a study has any."""
    kinds = [metric_of(row.metric) for row in main_rows(found.frame, {})]
    return next((kind for kind in kinds if kind.is_bounded), kinds[0])


def _note(metric: Metric) -> str:
    if metric.is_bounded:
        what = (
            "Average over tasks in percent ± half of its 95 % interval, its change in points, in "
            "brackets its interval"
        )
    else:
        what = f"Geometric mean of {metric.title} over tasks, its change in percent; less is better"
    return (
        f"{what}; faster: by so much shorter is the time than the full model's, ± half of the 95 % "
        "interval. A plan is on the front where no other is as cheap and better, or cheaper and as "
        "good. "
    )


def _cells(row: Mapping[Hashable, Any], metric: Metric, change: Change) -> list[str]:
    error, half = row["improvement_error"], (row["high"] - row["low"]) / 2
    faster = signed(100 * row["improvement"])
    faster += f" ± {100 * error:.1f} %" if error == error else " %"
    average = row["average"]
    if metric.is_bounded:
        said = f"{100 * average:.1f}" + (f" ± {100 * half:.1f}" if half == half else "")
    else:
        said = short(average) + (f" ± {short(half, 2)}" if half == half else "")
    return [
        row["plan"],
        row["family"],
        said,
        "" if row["family"] == BASELINE else change_said(change, not metric.is_bounded),
        f"{row['cost']:.2f}",
        "" if row["family"] == BASELINE else faster,
        f"{row['kept_bytes']:,}",
        f"{row['parameters']:,}",
        ON_FRONT if row["front"] else "",
    ]
