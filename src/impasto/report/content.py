"""What the page knows, as plain values: tasks, plans, scores, findings, and pictures of plans."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

import pandas as pd
import yaml

from impasto.analysis import critical_depths, findings, item_scores, main_metric, metric_name
from impasto.analysis.best import best_findings, best_plans, critical_findings
from impasto.analysis.costs import COUNTED, counted_cost, family_of
from impasto.analysis.curves import BASELINE, Row, table_rows
from impasto.analysis.series import parameters_of, task_sets
from impasto.figures.found import Found
from impasto.figures.style import look_of
from impasto.plan import Plan, in_words, picture
from impasto.report.flips import MOST_RECORDS, Flips, find_flips

INJECTED = "answers_original"  # a plan that injects is shown by how often the answer survives
PLACE = "PLAN-GOES-HERE"
AXES = {"k": "depth k", "n": "n", "count": "layers dropped", "loops": "loops"}


@dataclass(frozen=True)
class Content:
    """The page's values: `first` is needed to open it, `later` once a plan is opened.

    `told` are the findings, in sentences, and `more` those that are folded away below them; `title`
    and `about` head the page.
    """

    title: str
    about: Sequence[str]
    told: Sequence[str]
    more: Sequence[str]
    first: Mapping[str, Any]
    later: Mapping[str, Any]


def content_of(found: Found) -> Content:
    """Return what the page of a study shows."""
    results, frame = found.results, found.frame
    assert results is not None
    rows = [row for tasks in task_sets(frame) for row in table_rows(tasks.frame)]
    tasks = _tasks(rows)
    labels = list(dict.fromkeys(map(_label, rows)))
    baseline = next((row.digest for row in rows if row.strategy == BASELINE), "")
    scores, flips = _items(found, tasks, baseline, len(labels))
    first = {
        "model": results.study.model,
        "layers": rows[0].layers if rows else 0,
        "tasks": tasks,
        "axes": AXES,
        "cost": found.costs[0] if found.costs else COUNTED,
        "families": _families(rows),
        "plans": [_plan(label, rows[0].layers, found) for label in labels],
        "scores": _scores(rows, tasks, labels),
        "changed": _changed(flips, tasks, labels),
        "study": _study_text(found),
    }
    told, more = _told(frame, results.answers, scores, found)
    return Content(
        title=results.study.name,
        about=list(_about(found, tasks, labels)),
        told=told,
        more=more,
        first=first,
        later=_later(flips, tasks, labels),
    )


Label = tuple[str, str, str, str]  # strategy, all parameters as JSON, plan, digest


def _label(row: Row) -> Label:
    parameters = json.dumps(parameters_of(row), sort_keys=True)
    return row.strategy, parameters, row.plan, row.digest


def _tasks(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Return the tasks, each with what it is measured by."""
    found = []
    for name in dict.fromkeys(row.task for row in rows):
        here = [row for row in rows if row.task == name]
        metric = main_metric(dict.fromkeys(row.metric for row in here)) or here[0].metric
        measured = [row for row in here if row.metric == metric]
        known = [row.value for row in measured if row.value == row.value]
        first, largest = measured[0], max(known, default=0.0)
        found.append(
            {
                "name": name,
                "title": first.title,
                "metric": metric,
                "unit": metric_name(metric),
                "n": first.n,
                "chance": _number(first.chance),
                "baseline": _number(first.baseline),
                "share": max(largest, _number(first.baseline) or 0.0) <= 1,
            }
        )
    return found


def _families(rows: Sequence[Row]) -> dict[str, dict[str, str]]:
    found = {}
    for row in rows:
        family = family_of(row.strategy, row.parameters)
        if family not in found:
            look = look_of(family)
            found[family] = {"title": look.label, "colour": look.colour, "marker": look.marker}
    return found


def _plan(label: Label, layers: int, found: Found) -> dict[str, Any]:
    strategy, parameters, plan, digest = label
    measured = found.costs[1].get(digest) if found.costs else None
    return {
        "family": family_of(strategy, parameters),
        "with": json.loads(parameters),
        "plan": plan,
        "digest": digest,
        "cost": _number(measured if found.costs else counted_cost(plan, layers)),
    }


def _scores(
    rows: Sequence[Row], tasks: Sequence[Mapping[str, Any]], labels: Sequence[Label]
) -> list[list[Any]]:
    """Return, by task and plan, [value, low, high], or null where there is none."""
    metric = {task["name"]: task["metric"] for task in tasks}
    place = {label: at for at, label in enumerate(labels)}
    values: dict[str, list[Any]] = {task["name"]: [None] * len(labels) for task in tasks}
    for row in rows:
        wanted = metric.get(row.task)
        if wanted is None:
            continue
        injects = row.metric == INJECTED and wanted == "exact_match"
        if (row.metric == wanted or injects) and row.value == row.value:
            low, high = row.interval
            values[row.task][place[_label(row)]] = [*map(_number, (row.value, low, high))]
    return list(values.values())


def _items(
    found: Found, tasks: Sequence[Mapping[str, Any]], baseline: str, plans: int
) -> tuple[Mapping[Any, Any], Flips | None]:
    """Return the items' scores, and on which plans differ; nothing where there are too many."""
    assert found.results is not None
    answers = found.results.answers
    if not 0 < len(answers) <= MOST_RECORDS:
        return {}, None
    metrics = {task["name"]: task["metric"] for task in tasks}
    flips = find_flips(answers, metrics, baseline, plans * max(len(tasks), 1))
    return item_scores(answers), flips


def _changed(
    flips: Flips | None, tasks: Sequence[Mapping[str, Any]], labels: Sequence[Label]
) -> list[list[Any]] | None:
    """Return, by task and plan, how many items were lost and gained."""
    if flips is None:
        return None
    changed = []
    for task in tasks:
        name = task["name"]
        if name not in flips.items:
            changed.append([None] * len(labels))
            continue
        cells = flips.cells.get(name, {})
        changed.append([list(cells[d][:2]) if d in cells else [0, 0] for *_, d in labels])
    return changed


def _later(
    flips: Flips | None, tasks: Sequence[Mapping[str, Any]], labels: Sequence[Label]
) -> dict[str, Any]:
    """Return plans' pictures and words by digest, and some of the items that changed."""
    plans = {digest: Plan.parse(plan) for _, _, plan, digest in labels}
    names = [task["name"] for task in tasks]
    return {
        "pictures": {digest: picture(plan) for digest, plan in plans.items()},
        "words": {digest: in_words(plan)[:40] for digest, plan in plans.items()},
        "shown": flips.shown if flips else 0,
        "items": [flips.items.get(name, []) if flips else [] for name in names],
        "said": [flips.said.get(name, []) if flips else [] for name in names],
        "cells": [
            {d: [lost, gained] for d, (_, _, lost, gained) in flips.cells.get(name, {}).items()}
            if flips
            else {}
            for name in names
        ],
    }


def _told(
    frame: pd.DataFrame, answers: Any, scores: Mapping[Any, Any], found: Found
) -> tuple[list[str], list[str]]:
    """Return what the study shows, in sentences: what matters most, and the rest."""
    told = list(best_findings(best_plans(frame, scores, found.costs)))
    if scores and bool(frame["k"].notna().any()):
        told += critical_findings(frame, critical_depths(frame, answers))
    more = findings(frame)
    return (told, more) if told else (more, [])


def _about(
    found: Found, tasks: Sequence[Mapping[str, Any]], labels: Sequence[Label]
) -> Iterator[str]:
    assert found.results is not None
    run = found.results.run
    yield f"model {found.results.study.model}"
    yield f"{len(labels):,} plans on {len(tasks):,} task{'s' if len(tasks) != 1 else ''}"
    if command := run.get("command"):
        yield f"made by {command}"
    if versions := run.get("versions"):
        yield ", ".join(f"{name} {version}" for name, version in versions.items())


def _study_text(found: Found) -> list[str]:
    """Return a study file around the place where a plan goes: what comes before it, and after."""
    assert found.results is not None
    study = found.results.study
    content: dict[str, Any] = {
        "model": study.model,
        "tasks": [entry.written() for entry in study.tasks],
        "plans": [PLACE],
    }
    if study.load:
        content["load"] = dict(study.load)
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=10_000)
    return text.split(PLACE, 1)


def _number(value: float | None) -> float | None:
    """Return a number as JSON has it, with five digits; None where it is none."""
    return round(float(value), 5) if value is not None and isfinite(value) else None
