"""LLM-Drop: two lists in a checkpoint's ``config.json``, the attentions and the MLPs dropped.

A list has the numbers of layers, or true and false for each layer.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from impasto.plan.formats.dropped import dropped_by, steps_without
from impasto.plan.formats.source import Source
from impasto.plan.formats.target import Target
from impasto.plan.plan import Plan
from impasto.plan.steps import Step

TITLE = "LLM-Drop's config.json"
LISTS = {"drop_attn_list": "attention", "drop_mlp_list": "mlp"}


def recognises(source: Source) -> bool:
    """Whether one of the two lists is there."""
    return any(name in source.mapping for name in LISTS)


def read(source: Source, layers: int | None) -> Iterator[list[Step]]:
    """Give the plan that a configuration describes."""
    lists = {name: _list(source, name) for name in LISTS}
    lengths = [len(values) for values in lists.values() if _is_flags(values)]
    depth = source.depth(layers, written=lengths[0] if lengths else None)
    dropped: list[set[str]] = [set() for _ in range(depth)]
    for name, values in lists.items():
        for layer in _numbers(source, name, values, depth):
            dropped[layer].add(LISTS[name])
    yield steps_without([frozenset(parts) for parts in dropped])


def write(plan: Plan, target: Target) -> str:
    """Return the settings for a plan that drops layers or parts of them."""
    lacking = dropped_by(plan, target.depth(TITLE), TITLE)
    written: dict[str, object] = {
        name: [layer for layer, parts in enumerate(lacking) if part in parts]
        for name, part in LISTS.items()
    }
    return json.dumps({"num_hidden_layers": len(lacking), **written}) + "\n"


def _list(source: Source, name: str) -> list[object]:
    values = source.mapping.get(name)
    what = "this is a list of layer numbers, or of true and false for each layer"
    return [] if values is None else source.sequence(values, what, name)


def _is_flags(values: list[object]) -> bool:
    return bool(values) and all(type(value) is bool for value in values)


def _numbers(source: Source, name: str, values: list[object], depth: int) -> list[int]:
    if not _is_flags(values):
        return [source.layer(value, depth, name, i) for i, value in enumerate(values)]
    if len(values) != depth:
        raise source.error(f"has {len(values)} entries, and the model {depth} layers", name)
    return [layer for layer, value in enumerate(values) if value]
