"""PoLar and DR.LLM: a path, the layers' numbers in the order in which they run.

A path is a JSON list or a mapping with ``path``; data sets have many, under ``valid_paths`` of a
mapping, in a list, or one a line.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from impasto.error import shown
from impasto.plan.formats.dropped import order_of
from impasto.plan.formats.source import Key, Source
from impasto.plan.formats.target import Target
from impasto.plan.plan import Plan
from impasto.plan.steps import Step

TITLE = "a path (PoLar, DR.LLM)"
ONE, MANY = "path", "valid_paths"


def recognises(source: Source) -> bool:
    """Whether this is a list of numbers, of paths, or a mapping that has some."""
    return _is_path(source.data) or (
        isinstance(source.data, list) and bool(source.data) and all(map(_is_path, source.data))
    )


def read(source: Source, layers: int | None) -> Iterator[list[Step]]:
    """Give the plan of each path."""
    return _paths(source, source.data, layers)


def write(plan: Plan, target: Target) -> str:
    """Return the path of a plan of whole layers."""
    if target.layers is not None:
        plan.check(target.layers)
    return json.dumps(order_of(plan, TITLE)) + "\n"


def _is_path(value: object) -> bool:
    if isinstance(value, dict):
        return ONE in value or MANY in value
    return isinstance(value, list) and bool(value) and type(value[0]) is int


def _paths(source: Source, value: object, layers: int | None, *keys: Key) -> Iterator[list[Step]]:
    """Give the plans of a path, of a mapping that has one or several, and of lists of those."""
    if isinstance(value, dict) and (MANY in value or ONE in value):
        name = MANY if MANY in value else ONE
        keys, value = (*keys, name), value[name]
        if name == MANY:
            paths = source.sequence(value, "valid_paths is a list of paths", *keys)
            for i, path in enumerate(paths):
                yield list(source.order(path, layers, *keys, i))
            return
    elif isinstance(value, list) and value and isinstance(value[0], (list, dict)):
        if keys:
            raise source.error(f"a path is a list of layer numbers, not {shown(value)}", *keys)
        for i, path in enumerate(value):
            yield from _paths(source, path, layers, i)
        return
    yield list(source.order(value, layers, *keys))
