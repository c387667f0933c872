"""What a user is told in sentences: which cells are new and why, what has no score or was cut."""

import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from impasto.study.database.asked import listed, names_in, study_names
from impasto.study.database.reading import last_basis
from impasto.study.database.register import Need
from impasto.study.results.table import Results
from impasto.study.work.asking import Asking
from impasto.study.work.identity import WAY
from impasto.tasks import Fidelity, Generation, LogLikelihood, RollingLogLikelihood


def why_new(connection: sqlite3.Connection, need: Need, fresh: Mapping[str, int]) -> Iterator[str]:
    """Yield, for every task with new cells that ran here before, how many there are and why.

    `fresh` counts the new cells by task. Nothing is said of a task or a model that this folder
    never held.
    """
    for needed in need.tasks:
        name = needed.task.name
        basis = last_basis(connection, name, need.model_name)
        if not fresh.get(name) or basis is None:
            continue
        reasons = [
            f"the {what}'s {part} changed"
            for what, identity in (("model", need.model), ("task", needed.identity))
            for part in identity.changes(basis[what])
        ]
        before, now = basis["engine"], need.engine.parts
        reasons += [
            f"{part} changed from {before.get(part, 'none')} to {now.get(part, 'none')}"
            for part in need.engine.changes(before)
        ]
        known = "asked these questions" if WAY in needed.identity.parts else "run"
        why = ", ".join(reasons) or f"its plans were not {known} here before"
        yield f"{name}: {fresh[name]} new cells: {why}"


def which_study(out: Path, study: str | None) -> Iterator[str]:
    """Yield which study of a folder is meant, where it has several and none was named."""
    names = names_in(out)
    if study is None and len(names) > 1:
        yield (
            f"this is {names[0]}, which ran last; {out} also holds {listed(sorted(names[1:]))}: "
            "--study NAME shows another"
        )


def about_others(out: Path | None, connection: sqlite3.Connection, study: str) -> Iterator[str]:
    """Yield that a folder that a study is run in also holds others, if so."""
    others = sorted(set(study_names(connection)) - {study})
    if others:
        yield f"{out} also holds {listed(others)}; --study NAME says which is to be read"


def about_texts(model: Any, asked: Iterable[Asking]) -> Iterator[str]:
    """Yield that the model's tokenizer appends special tokens, if so, and how that is dealt with.

    A model that warns of it by itself needs not any more.
    """
    appended = getattr(model, "appended", ())
    if not appended:
        return
    from impasto.run.batching.tokenisation import AS_LM_EVAL, LEFT_OUT, appending_notice

    requests = [request for asking in asked for some in asking.requests for request in some]
    theirs = [
        isinstance(request, RollingLogLikelihood) or getattr(request, "as_lm_eval", False)
        for request in requests
        if isinstance(request, LogLikelihood | RollingLogLikelihood | Generation | Fidelity)
    ]
    rules = ([LEFT_OUT] if not all(theirs) else []) + ([AS_LM_EVAL] if any(theirs) else [])
    if hasattr(model, "appending_is_known"):
        model.appending_is_known = True
    yield appending_notice(model.tokenizer, appended, *rules)


def still_missing(results: Results) -> Iterator[str]:
    """Yield, for a study that is not finished, that it is not, and what its table lacks."""
    undone = [reached for reached in results.precisions if not reached.is_done]
    if not results.gaps and not undone:
        return
    yield "not finished: each row is over the n items that its plan was asked so far. Missing:"
    yield from (f"  {gap}" for gap in results.gaps)
    yield from (f"  {reached.name}: as many more as its precision takes" for reached in undone)
    if results.run.get("command"):
        yield f"to go on:  {results.run['command']}"


def about_precisions(results: Results) -> Iterator[str]:
    """Yield how precisely changes are known, of each task and group whose limit is about that."""
    yield from map(str, results.precisions)


def about_items(frame: pd.DataFrame) -> Iterator[str]:
    """Yield what a reader of the table must know about its items: `without_scores`, `cut_short`."""
    yield from without_scores(frame)
    yield from cut_short(frame)


def cut_short(frame: pd.DataFrame) -> Iterator[str]:
    """Yield, for every task or whole group, how many items did not fit the model's context."""
    whole = {row["task"]: row for row in frame.to_dict(orient="records") if not row["part_of"]}
    for task, row in whole.items():
        if row["truncated"]:
            yield (
                f"{task}: {row['truncated']} of {row['n']} items did not fit the model's context "
                "and lost their beginning"
            )


def without_scores(frame: pd.DataFrame) -> Iterator[str]:
    """Yield, for every task and plan, how many items have scores that are no finite numbers."""
    groups = set(frame["part_of"])
    told: set[tuple[str, str]] = set()
    for row in frame.to_dict(orient="records"):
        if not row["not_finite"] or row["task"] in groups or (row["task"], row["digest"]) in told:
            continue
        told.add((row["task"], row["digest"]))
        yield (
            f"{row['task']} under {row['plan']}: {row['not_finite']} of {row['n']} items have a "
            "score that is no finite number, so the plan has no value there"
        )
