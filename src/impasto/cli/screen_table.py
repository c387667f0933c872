"""A study's table on a terminal: a block for each task and metric, and a line for each plan.

A family's parameters are columns. The plan stands last, shortened where the terminal has no room
for it, so that no number is pushed off the line.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from impasto.analysis import Changes, item_scores
from impasto.analysis.curves import BASELINE
from impasto.analysis.table_changes import (
    MOST_RECORDS,
    NO_CHANGE,
    Change,
    change_said,
    task_changes,
)
from impasto.analysis.words import short
from impasto.study import Results
from impasto.table import aligned
from impasto.tasks.metrics import metric_of

OWN = ("k", "seed")  # parameters that are columns of the results themselves
LEFT_OUT = ("name", "plan")  # the only donor's name; the line of a plan that is healed
LEAST_PLAN, MOST_PARAMETER = 12, 24  # characters
GAP = 2  # between columns
Row = Mapping[str, Any]


def table_lines(results: Results, width: int | None) -> Iterator[str]:
    """Yield a study's table for a terminal so many characters wide; None is as wide as needed."""
    frame = results.table
    blocks: dict[tuple[str, str], list[Row]] = {}
    for row in frame.to_dict(orient="records"):
        blocks.setdefault((row["task"], row["metric"]), []).append(row)
    changes = _changes(results)
    for number, ((task, metric), rows) in enumerate(blocks.items()):
        if number:
            yield ""
        changed = {} if changes is None else _changed(changes, task, metric, rows)
        yield _title(task, metric, rows, bool(changed))
        yield from _lines(rows, changed, width)


def _changes(results: Results) -> Changes | None:
    """Return what compares plans with the baseline; None where that has not run yet.

    Item by item where answers are known and not too many; of a task of which some plans were not
    asked all items yet, the scores are compared.
    """
    frame = results.table
    if not (frame["strategy"] == BASELINE).to_numpy().any():
        return None
    if len(results.answers) > MOST_RECORDS:
        return Changes(frame, {})
    unequal = {gap.task for gap in results.gaps}
    return Changes(frame, item_scores(r for r in results.answers if r["task"] not in unequal))


def _changed(changes: Changes, task: str, metric: str, rows: Sequence[Row]) -> dict[str, Change]:
    """Return the changes that are known, by plan's digest; the baseline's own is none."""
    others = [row["digest"] for row in rows if row["strategy"] != BASELINE]
    found = task_changes(changes, task, metric, others, rows[0]["baseline"]) if others else {}
    return {digest: change for digest, change in found.items() if change.value == change.value}


def _title(task: str, metric: str, rows: Sequence[Row], has_changes: bool) -> str:
    """Say what a block is about, and in which units."""
    bounded = metric_of(metric).is_bounded
    what = f"{metric} in %" if bounded else metric
    if has_changes:
        what += f", change in {'points' if bounded else '%'} (95 % interval)"
    counts = {row["n"] for row in rows}
    n = f", n = {counts.pop():,}" if len(counts) == 1 else ""
    return f"{task}: {what}{n}"


def _lines(rows: Sequence[Row], changed: Mapping[str, Change], width: int | None) -> Iterator[str]:
    parameters = [_parameters(row) for row in rows]
    names = [name for name in OWN if any(name in given for given in parameters)]
    names += [n for n in dict.fromkeys(n for p in parameters for n in p) if n not in OWN]
    numbers = ["n"] if len({row["n"] for row in rows}) > 1 else []
    numbers += ["not_finite"] if any(row["not_finite"] for row in rows) else []
    change = ["change"] if changed else []
    columns = ["strategy", *names, "value", *change, *numbers]
    cells = [
        [
            row["strategy"],
            *(given.get(name, "") for name in names),
            _value(row),
            *(_change(row, changed) for _ in change),
            *(f"{row[name]:,}" for name in numbers),
        ]
        for row, given in zip(rows, parameters, strict=True)
    ]
    numeric = {"value", *OWN, *numbers}
    right = [at for at, name in enumerate(columns) if name in numeric]
    yield from plan_last(columns, cells, [row["plan"] for row in rows], width, right)


def plan_last(
    columns: Sequence[str],
    cells: Sequence[Sequence[str]],
    plans: Sequence[str],
    width: int | None,
    right: Sequence[int] = (),
) -> Iterator[str]:
    """Yield a table's lines with plans as its last column, as wide as the terminal has room."""
    if width is not None:
        used = sum(max(map(len, column)) + GAP for column in zip(columns, *cells, strict=True))
        plans = [shortened(plan, max(LEAST_PLAN, width - used)) for plan in plans]
    lines = [[*line, plan] for line, plan in zip(cells, plans, strict=True)]
    yield from aligned([[*columns, "plan"], *lines], right)


def _parameters(row: Row) -> dict[str, str]:
    """Return what tells a plan from others of its family, as text; nothing that is not given."""
    given = {name: row[name] for name in OWN} | json.loads(row["parameters"])
    return {
        name: shortened(_said(value), MOST_PARAMETER)
        for name, value in given.items()
        if name not in LEFT_OUT and value is not None and value == value
    }


def _said(value: Any) -> str:
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


def _value(row: Row) -> str:
    value = row["value"]
    if value != value:
        return ""
    return f"{100 * value:.1f}" if metric_of(row["metric"]).is_bounded else short(value)


def _change(row: Row, changed: Mapping[str, Change]) -> str:
    if row["strategy"] == BASELINE:
        return ""
    change = changed.get(row["digest"], NO_CHANGE)
    return change_said(change, by_ratio=not metric_of(row["metric"]).is_bounded)


def shortened(text: str, most: int) -> str:
    """Return a text of so many characters at the most, its end left out if it is longer."""
    return text if len(text) <= most else f"{text[: most - 1]}…"
