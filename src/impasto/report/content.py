"""What the page knows, as plain values: tasks, plans, scores, findings, and pictures of plans."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

import yaml

from impasto.analysis import Changes, Loss, item_scores, main_metric, metric_name
from impasto.analysis.best import LOSSES
from impasto.analysis.costs import COUNTED, counted_cost, family_of
from impasto.analysis.curves import BASELINE, Row, table_rows
from impasto.analysis.findings import Findings, findings_of
from impasto.analysis.scores import tasks_above_chance
from impasto.analysis.series import parameters_of, task_sets
from impasto.figures.found import Found
from impasto.figures.style import look_of
from impasto.paths import from_here
from impasto.plan import Plan, count_of_plans, in_words, picture
from impasto.report.commands import commands_of
from impasto.report.flips import MOST_RECORDS, Cell, Flips, find_flips
from impasto.report.lens import Lenses, lenses_of
from impasto.report.questions import Asked, asked_of, shortened
from impasto.tasks.metrics import metric_of

INJECTED = "answers_original"  # a plan that injects is shown by how often the answer survives
NO_LENS = Lenses()
PLACE = "PLAN-GOES-HERE"
RIGHT = 90  # characters of a right answer
AXES = {"k": "depth k", "n": "n", "count": "layers dropped", "loops": "loops"}


@dataclass(frozen=True)
class Content:
    """The page's values of one model: `first` is needed to show it, `later` once a plan is opened.

    `found` is what the study shows; `title` and `about` head the page, and `made` says at its end
    how it was made. `commands` are what to do
    next: what for, and the command. `lens` is what the model would say at each depth.
    """

    title: str
    about: Sequence[str]
    found: Findings
    first: Mapping[str, Any]
    later: Mapping[str, Any]
    commands: Sequence[tuple[str, str]] = ()
    lens: Lenses = NO_LENS
    made: Sequence[str] = ()

    @property
    def sentences(self) -> Sequence[str]:
        """The findings, the most important first."""
        return self.found.sentences


def content_of(
    found: Found, losses: Sequence[Loss] = LOSSES, *, with_lens: bool = False
) -> Content:
    """Return what the page of a study shows; `losses` are those that a plan is recommended for.

    `with_lens` opens the study's model, for what it would say at each depth of its plans.
    """
    results, frame = found.results, found.frame
    assert results is not None
    rows = [row for tasks in task_sets(frame) for row in table_rows(tasks.frame)]
    tasks = _tasks(rows)
    labels = list(dict.fromkeys(map(_label, rows)))
    baseline = next((row.digest for row in rows if row.strategy == BASELINE), "")
    few = 0 < len(results.answers) <= MOST_RECORDS
    asked = asked_of(results) if few else Asked()
    scores = item_scores(results.answers) if few else {}
    flips = _flips(results.answers, tasks, baseline, len(labels), asked) if few else None
    first = {
        "model": from_here(results.study.model),
        "layers": rows[0].layers if rows else 0,
        "tasks": tasks,
        "axes": AXES,
        "cost": found.costs[0] if found.costs else COUNTED,
        "families": _families(rows),
        "plans": [_plan(label, rows[0].layers, found) for label in labels],
        "scores": _scores(rows, tasks, labels, Changes(frame, scores) if baseline else None),
        "changed": _changed(flips, tasks, labels),
        "study": _study_text(found),
        "lacking": list(asked.lacking),
    }
    shows = findings_of(frame, scores, found.costs, losses)
    best = [one.plan.digest for one in shows.best if one.plan is not None]
    return Content(
        title=results.study.name,
        about=list(_about(found, tasks, labels)),
        found=shows,
        first=first,
        later=_later(flips, tasks, labels, asked),
        commands=[(what, from_here(command)) for what, command in commands_of(found, shows)],
        lens=lenses_of(results, asked, best) if with_lens else NO_LENS,
        made=list(_made(found)),
    )


Label = tuple[str, str, str, str]  # strategy, all parameters as JSON, plan, digest


def _label(row: Row) -> Label:
    parameters = json.dumps(parameters_of(row), sort_keys=True)
    return row.strategy, parameters, row.plan, row.digest


def _tasks(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Return the tasks, each with what it is measured by, and whether it is above chance."""
    found = []
    for name in dict.fromkeys(row.task for row in rows):
        here = [row for row in rows if row.task == name]
        metric = main_metric(dict.fromkeys(row.metric for row in here)) or here[0].metric
        measured = [row for row in here if row.metric == metric]
        first, kind = measured[0], metric_of(metric)
        above = tasks_above_chance(measured).get(name, False)
        # of a perplexity a guess is far off, and only told where the model is no better
        chance = first.chance if kind.is_bounded or not above else None
        found.append(
            {
                "name": name,
                "title": first.title,
                "metric": metric,
                "unit": metric_name(metric),
                "n": first.n,
                "chance": _number(chance),
                "baseline": _number(first.baseline),
                "share": kind.is_bounded,
                "lower": kind.lower_is_better,
                "above": above,
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
    rows: Sequence[Row],
    tasks: Sequence[Mapping[str, Any]],
    labels: Sequence[Label],
    changes: Changes | None,
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
            low, high = changes.interval_of(row) if changes else row.interval
            values[row.task][place[_label(row)]] = [*map(_number, (row.value, low, high))]
    return list(values.values())


def _flips(
    answers: Any, tasks: Sequence[Mapping[str, Any]], baseline: str, plans: int, asked: Asked
) -> Flips:
    metrics = {task["name"]: task["metric"] for task in tasks}
    return find_flips(answers, metrics, baseline, plans * max(len(tasks), 1), asked)


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
        nothing = Cell()
        counts = [cells.get(digest, nothing) for *_, digest in labels]
        changed.append([[cell.lost, cell.gained] for cell in counts])
    return changed


def _later(
    flips: Flips | None,
    tasks: Sequence[Mapping[str, Any]],
    labels: Sequence[Label],
    asked: Asked,
) -> dict[str, Any]:
    """Return plans' pictures and words by digest, and some of the items that changed."""
    plans = {digest: Plan.parse(plan) for _, _, plan, digest in labels}
    names, flips = [task["name"] for task in tasks], flips or Flips()
    return {
        "pictures": {digest: picture(plan) for digest, plan in plans.items()},
        "words": {digest: in_words(plan)[:40] for digest, plan in plans.items()},
        "shown": flips.shown,
        "items": [flips.items.get(name, []) for name in names],
        "said": [flips.said.get(name, []) for name in names],
        "asked": [_asked(flips, name, asked) for name in names],
        "cells": [
            {d: [cell.some_lost, cell.some_gained] for d, cell in flips.cells.get(name, {}).items()}
            for name in names
        ],
    }


def _asked(flips: Flips, task: str, asked: Asked) -> dict[int, list[str]]:
    """Return the question and the right answer of the items that are shown, by their numbers."""
    cells, items = flips.cells.get(task, {}).values(), asked.items.get(task, {})
    places = {place for cell in cells for place, _ in (*cell.some_lost, *cell.some_gained)}
    names = {place: flips.items[task][place] for place in sorted(places)}
    return {
        place: [shortened(items[name]["question"]), shortened(items[name]["right"], RIGHT)]
        for place, name in names.items()
        if name in items
    }


def _about(
    found: Found, tasks: Sequence[Mapping[str, Any]], labels: Sequence[Label]
) -> Iterator[str]:
    assert found.results is not None
    yield f"model {from_here(found.results.study.model)}"
    plans = count_of_plans(len(labels), len({digest for *_, digest in labels}))
    yield f"{plans} on {len(tasks):,} task{'s' if len(tasks) != 1 else ''}"


def _made(found: Found) -> Iterator[str]:
    """Yield by which command and with which versions the study was run."""
    assert found.results is not None
    run = found.results.run
    if command := run.get("command"):
        yield f"made by {from_here(command)}"
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
    return from_here(text).split(PLACE, 1)


def _number(value: float | None) -> float | None:
    """Return a number as JSON has it, with five digits; None where it is none."""
    return round(float(value), 5) if value is not None and isfinite(value) else None
