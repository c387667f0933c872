"""transformers' ``per_layer_config``: the parts that a layer skips, in ``config.json``."""

from __future__ import annotations

import json
from collections.abc import Iterator

from impasto.error import shown
from impasto.plan.formats.dropped import Dropped, dropped_by, steps_without
from impasto.plan.formats.source import Source
from impasto.plan.formats.target import Target
from impasto.plan.plan import Plan
from impasto.plan.steps import Step

TITLE = "transformers' per_layer_config"
NAME = "per_layer_config"


def recognises(source: Source) -> bool:
    """Whether the setting is there."""
    return NAME in source.mapping


def read(source: Source, layers: int | None) -> Iterator[list[Step]]:
    """Give the plan that a configuration describes; a layer's other settings are its own."""
    settings = source.mapping.get(NAME)
    if not isinstance(settings, dict):
        raise source.error(f"a mapping from layers to settings, not {shown(settings)}", NAME)
    depth = source.depth(layers)
    dropped: list[Dropped] = [frozenset()] * depth
    for key, own in settings.items():
        word = str(key)
        number = int(word) if word.isascii() and word.isdigit() and len(word) < 10 else word
        layer = source.layer(number, depth, NAME, word)
        skip = own.get("skip", []) if isinstance(own, dict) else own
        parts = source.sequence(skip, "skip is a list of attention and mlp", NAME, word, "skip")
        for part in parts:
            if part not in ("attention", "mlp"):
                raise source.error(
                    f"a layer skips attention or mlp, not {shown(part)}", NAME, word, "skip"
                )
        dropped[layer] = frozenset(map(str, parts))
    yield steps_without(dropped)


def write(plan: Plan, target: Target) -> str:
    """Return the settings for a plan that drops layers or parts of them."""
    lacking = dropped_by(plan, target.depth(TITLE), TITLE)
    settings = {str(i): {"skip": sorted(parts)} for i, parts in enumerate(lacking) if parts}
    return json.dumps({"num_hidden_layers": len(lacking), NAME: settings}) + "\n"
