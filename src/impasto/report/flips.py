"""Which items a plan loses and gains against the baseline, and what it said there.

There can be millions of them. The page takes so many for each plan and task that all fit a bound,
and says how many there are.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from impasto.analysis.items import AS_BASELINE
from impasto.analysis.series import GLUE_METRIC

MOST_PER_CELL = 50  # of one plan on one task
MOST = 120_000  # in all
MOST_RECORDS = 3_000_000  # read for a page; beyond that items are left out
CHARACTERS = 90  # of a response
ACCURACIES = ("acc", "acc_mismatched", "matthews")


@dataclass
class Flips:
    """Items by number, for the page.

    Attributes:
        items: By task, the items' names.
        cells: By task and plan's digest: how many were lost and gained, and some of them, each as
            (item, what was said), lost ones first.
        said: By task, what the baseline said to each item.
        shown: At most so many per plan and task.
    """

    items: dict[str, list[str]] = field(default_factory=dict)
    cells: dict[str, dict[str, tuple[int, int, list[tuple[int, str]], list[tuple[int, str]]]]] = (
        field(default_factory=dict)
    )
    said: dict[str, list[str]] = field(default_factory=dict)
    shown: int = MOST_PER_CELL


def find_flips(
    records: Iterable[Mapping[str, Any]], metrics: Mapping[str, str], baseline: str, cells: int
) -> Flips:
    """Return the items on which plans differ from the baseline by each task's metric.

    `records` come task by task and plan by plan, the baseline's first; `metrics` are the tasks'
    main metrics; `cells` is how many plans on tasks there are.
    """
    found = Flips(shown=max(3, min(MOST_PER_CELL, MOST // max(cells, 1))))
    values: dict[str, list[float]] = {}
    places: dict[tuple[str, str], int] = {}
    for record in records:
        task, digest = record["task"], record["digest"]
        metric = metrics.get(task)
        value = _value(record["metrics"], metric)
        if metric is None or value is None:
            continue
        if digest == baseline:
            values.setdefault(task, []).append(value)
            found.items.setdefault(task, []).append(str(record["item"]))
            found.said.setdefault(task, []).append(said(record["responses"]))
            continue
        place = places.get((task, digest), 0)
        places[task, digest] = place + 1
        theirs = values.get(task, [])
        if place >= len(theirs) or value == theirs[place]:
            continue
        cell = found.cells.setdefault(task, {}).setdefault(digest, (0, 0, [], []))
        worse = value < theirs[place]
        kept = cell[2] if worse else cell[3]
        if len(kept) < found.shown:
            kept.append((place, said(record["responses"])))
        found.cells[task][digest] = (cell[0] + worse, cell[1] + (not worse), cell[2], cell[3])
    return found


def said(responses: Any) -> str:
    """Return what a model said to an item, as a line: its text, or which choice it took."""
    if not isinstance(responses, list | tuple) or not responses:
        return ""
    if all(isinstance(response, str) for response in responses):
        text = " | ".join(response.strip() for response in responses)
        text = " ".join(text.split())
        return text if len(text) <= CHARACTERS else text[: CHARACTERS - 1] + "…"
    if all(isinstance(response, int | float) for response in responses):
        return ", ".join(f"{response:g}" for response in responses)
    scores = [response[0] for response in responses if isinstance(response, list | tuple)]
    if len(scores) != len(responses) or not all(isinstance(s, int | float) for s in scores):
        return ""
    if len(scores) == 1:
        return f"log p {scores[0]:.2f}"
    known = [score if not math.isnan(score) else -math.inf for score in scores]
    return f"choice {known.index(max(known)) + 1} of {len(scores)} by log p"


def _value(metrics: Mapping[str, Any], metric: str | None) -> float | None:
    """Return an item's value; a plan that injects is judged by the original answer.

    GLUE's score is that of many items; what is right of one is its accuracy.
    """
    if metric is None:
        return None
    plain = (k for k, plain in AS_BASELINE.items() if plain == metric)
    for name in (metric, *plain, *(ACCURACIES if metric == GLUE_METRIC else ())):
        value = metrics.get(name)
        if name == "matthews" and isinstance(value, list | tuple):
            return float(value[0] == value[1])  # what was said, and what is right
        if isinstance(value, bool | int | float):
            return float(value)
    return None
