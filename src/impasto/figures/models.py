"""Several models in one figure: what they are called, what they have in common, how they are drawn.

A line's hue is its strategy's and its dash the model's, while few enough are in one pair of axes;
else every model has a panel of its own beside the others. Models that differ in layers are set side
by side by shares of them.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from impasto.figures.chart import Line, Panel, Reference
from impasto.figures.found import Found, MissingError, short_name
from impasto.look import DASH_DOT, DASHED, DOTTED, SOLID

DASHES = (SOLID, DASHED, DOTTED, DASH_DOT)
MOST_MODELS, MOST_LINES = 2, 4  # in one pair of axes


def told_apart(founds: Sequence[Found]) -> list[Found]:
    """Return the studies with labels that tell them apart: by model, then by folder."""
    if len(founds) == 1:
        return list(founds)
    for call in (lambda f: short_name(f.model_name), lambda f: f.model_name, _with_folder):
        labels = list(map(call, founds))
        if len(set(labels)) == len(labels):
            break
    else:
        labels = [f"{label} ({at})" for at, label in enumerate(labels, 1)]
    return [replace(found, label=label) for found, label in zip(founds, labels, strict=True)]


def _with_folder(found: Found) -> str:
    return f"{short_name(found.model_name)} ({found.folder.name if found.folder else ''})"


def is_relative(founds: Sequence[Found]) -> bool:
    """Say whether places are shares of the layers: where models differ in how many they have."""
    return len({found.layers for found in founds}) > 1


def named(founds: Sequence[Found]) -> str:
    """Say which models are shown, and how many layers they have."""
    return "; ".join(found.named for found in founds)


def asked(counts: Sequence[tuple[Found, int]], items: str) -> str:
    """Say how many questions, texts or plans there were, of each model where that differs."""
    numbers = dict.fromkeys(n for _, n in counts)
    if len(numbers) == 1:
        return f"{counts[0][1]:,} {items}"
    return ", ".join(f"{n:,} {items} of {found.model}" for found, n in counts)


def common(tasks: Mapping[str, Sequence[str]]) -> tuple[list[str], list[str]]:
    """Return the tasks that at least two of several models have, and who lacks which, in sentences.

    `tasks` are every model's. Of one model all its tasks are. Raises MissingError where several
    have none in common.
    """
    every = list(dict.fromkeys(task for of_model in tasks.values() for task in of_model))
    if len(tasks) == 1:
        return every, []
    having = {task: [model for model, own in tasks.items() if task in own] for task in every}
    shared = [task for task in every if len(having[task]) > 1]
    if not shared:
        has = (f"{model} has {', '.join(own) or 'none'}" for model, own in tasks.items())
        raise MissingError(reason=f"these studies have no task in common: {', '.join(has)}")
    notes = [
        f"{task} is not drawn: only {models[0]} has it"
        for task, models in having.items()
        if len(models) == 1
    ]
    for task in shared:
        if without := [model for model in tasks if model not in having[task]]:
            notes.append(f"{task}: {', '.join(without)} {_has(without)} no such task")
    return shared, notes


def alone(model: str, tasks: Sequence[str]) -> str:
    """Say that one of several models has tasks of a kind that no other has."""
    return f"only {model} has {', '.join(tasks)}: no other model is drawn beside it there"


def _has(models: Sequence[str]) -> str:
    return "has" if len(models) == 1 else "have"


def panels(
    lines: Sequence[tuple[Found, Sequence[Line], Sequence[Reference]]],
) -> list[Panel]:
    """Return the panels of some models' lines: one for all, or one for each where that is many."""
    if len(lines) == 1:
        [(_, of_model, levels)] = lines
        return [Panel(of_model, levels)]
    looks = {line.look.label for _, of_model, _ in lines for line in of_model}
    if len(lines) > MOST_MODELS or len(looks) > MOST_LINES:
        return [Panel(of_model, levels, found.named) for found, of_model, levels in lines]
    together = [
        replace(line, look=replace(line.look, dash=DASHES[at]), model=found.model)
        for at, (found, of_model, _) in enumerate(lines)
        for line in of_model
        if not line.quiet
    ]
    return [Panel(together, list(_merged(lines)))]


def _merged(
    lines: Sequence[tuple[Found, Sequence[Line], Sequence[Reference]]],
) -> Iterable[Reference]:
    """Yield the levels of all models, each with its model unless all have the same."""
    kinds: dict[str, list[tuple[Found, Reference, Any]]] = {}
    for at, (found, _, levels) in enumerate(lines):
        for level in levels:
            kind = "Chance" if level.is_chance else level.label.split(" ")[0]
            kinds.setdefault(kind, []).append((found, level, DASHES[at]))
    for here in kinds.values():
        if len(here) == len(lines) and len({level.label for _, level, _ in here}) == 1:
            yield here[0][1]
            continue
        for found, level, dash in here:
            label = level.label.replace("Full model", "Full").split(" ", 1)
            yield replace(level, label=f"{label[0]} {found.model} {label[1]}", dash=dash)
