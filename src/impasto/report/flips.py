"""Which items a plan loses and gains against the baseline, and what it said there.

There can be millions of them. The page takes so many for each plan and task that all fit a bound,
and says how many there are.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from impasto.analysis.items import AS_BASELINE
from impasto.analysis.series import GLUE_METRIC
from impasto.report.questions import Asked, Shown, shortened
from impasto.tasks.metrics import metric_of

MOST_PER_CELL = 50  # of one plan on one task
MOST = 120_000  # in all
MOST_RECORDS = 3_000_000  # read for a page; beyond that items are left out
CHARACTERS = 90  # of a response
ACCURACIES = ("acc", "acc_mismatched", "matthews")
PER = {"word_perplexity": "word", "byte_perplexity": "byte", "bits_per_byte": "byte"}
LOG_P = ("perplexity", *PER, "pseudo_perplexity")  # items of these are log p: more is better

NOTHING = Asked()

Kept = list[tuple[int, str]]  # an item's number, and what was said to it


@dataclass
class Cell:
    """How many items a plan lost and gained on a task, and some of them."""

    lost: int = 0
    gained: int = 0
    some_lost: Kept = field(default_factory=list)
    some_gained: Kept = field(default_factory=list)


@dataclass
class Flips:
    """Items by number, for the page.

    Attributes:
        items: By task, the items' names.
        cells: By task and plan's digest, what changed.
        said: By task, what the baseline said to each item.
        shown: At most so many per plan and task.
    """

    items: dict[str, list[str]] = field(default_factory=dict)
    cells: dict[str, dict[str, Cell]] = field(default_factory=dict)
    said: dict[str, list[str]] = field(default_factory=dict)
    shown: int = MOST_PER_CELL


def find_flips(
    records: Iterable[Mapping[str, Any]],
    metrics: Mapping[str, str],
    baseline: str,
    cells: int,
    asked: Asked = NOTHING,
) -> Flips:
    """Return the items on which plans differ from the baseline by each task's metric.

    `records` come task by task and plan by plan, the baseline's first; `metrics` are the tasks'
    main metrics; `cells` is how many plans on tasks there are; `asked` is what choices say.
    """
    found = Flips(shown=max(3, min(MOST_PER_CELL, MOST // max(cells, 1))))
    values: dict[str, list[float]] = {}
    places: dict[tuple[str, str], int] = {}
    for record in records:
        task, digest, item = record["task"], record["digest"], str(record["item"])
        metric = metrics.get(task)
        value = _value(record["metrics"], metric)
        if metric is None or value is None:
            continue
        shown = asked.items.get(task, {}).get(item)
        if digest == baseline:
            values.setdefault(task, []).append(value)
            found.items.setdefault(task, []).append(item)
            found.said.setdefault(task, []).append(_said(record, metric, shown, value))
            continue
        place = places.get((task, digest), 0)
        places[task, digest] = place + 1
        theirs = values.get(task, [])
        if place >= len(theirs) or value == theirs[place]:
            continue
        cell = found.cells.setdefault(task, {}).setdefault(digest, Cell())
        worse = (value < theirs[place]) != _less_is_better(metric)
        kept = cell.some_lost if worse else cell.some_gained
        if len(kept) < found.shown:
            kept.append((place, _said(record, metric, shown, value)))
        cell.lost, cell.gained = cell.lost + worse, cell.gained + (not worse)
    return found


def _said(record: Mapping[str, Any], metric: str, shown: Shown | None, value: float) -> str:
    plain = metric.split(",")[0]
    if plain in LOG_P and plain in record["metrics"]:
        unit = PER.get(plain, "token")
        return f"log p {value:.3f}" + (f" per {unit}" if _pair(record["metrics"][plain]) else "")
    return said(record["responses"], metric, shown)


def said(responses: Any, metric: str = "acc", shown: Shown | None = None) -> str:
    """Return what a model said to an item, as a line: its text, or the choice that it took.

    That is the choice that the metric judges, told by its text where that is known.
    """
    if not isinstance(responses, list | tuple) or not responses:
        return ""
    if all(isinstance(response, str) for response in responses):
        text = " ".join(" | ".join(response.strip() for response in responses).split())
        return text if len(text) <= CHARACTERS else text[: CHARACTERS - 1] + "…"
    if all(isinstance(response, int | float) for response in responses):
        return ", ".join(f"{response:g}" for response in responses)
    scores = [response[0] for response in responses if isinstance(response, list | tuple)]
    if len(scores) != len(responses) or not all(isinstance(s, int | float) for s in scores):
        return ""
    if len(scores) == 1:
        return f"log p {scores[0]:.2f}"
    return _choice(scores, metric, shown["choices"] if shown else ())


def _choice(scores: Sequence[float], metric: str, choices: Sequence[str]) -> str:
    """Return the choice that a metric judges: by log p, or by log p per character or byte."""
    known = [score if not math.isnan(score) else -math.inf for score in scores]
    plain = metric.split(",")[0]
    if plain in ("acc_norm", "acc_bytes"):
        if not choices:
            return "a choice by log p per character, not known without the task's data"
        sizes = [len(c.encode() if plain == "acc_bytes" else c) or 1 for c in choices]
        known = [score / size for score, size in zip(known, sizes, strict=False)]
    elif choices:
        known = known[: len(choices)]  # behind them is what is subtracted for mutual information
    at = known.index(max(known))
    if choices:
        return f"{at + 1}: {shortened(choices[at], CHARACTERS)}"
    return f"choice {at + 1} of {len(scores)} by log p"


def _value(metrics: Mapping[str, Any], metric: str | None) -> float | None:
    """Return an item's value; a plan that injects is judged by the original answer.

    GLUE's score is that of many items; what is right of one is its accuracy. Of log p and how many
    tokens it is log p per token.
    """
    if metric is None:
        return None
    plain = (k for k, plain in AS_BASELINE.items() if plain == metric)
    for name in (metric, *plain, *(ACCURACIES if metric == GLUE_METRIC else ())):
        value = metrics.get(name)
        if name == "matthews" and isinstance(value, list | tuple):
            return float(value[0] == value[1])  # what was said, and what is right
        if name in LOG_P and (pair := _pair(value)):
            return pair[0] / pair[1]
        if isinstance(value, bool | int | float):
            return float(value)
    return None


def _pair(value: Any) -> tuple[float, float] | None:
    """Return log p and of how many tokens, where a value is that."""
    if not isinstance(value, list | tuple) or len(value) != 2:
        return None
    is_pair = all(isinstance(number, int | float) for number in value) and value[1] > 0
    return (float(value[0]), float(value[1])) if is_pair else None


def _less_is_better(metric: str) -> bool:
    return metric_of(metric).lower_is_better and metric.split(",")[0] not in LOG_P
