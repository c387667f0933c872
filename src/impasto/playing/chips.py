"""A plan as the chips of the page, and back.

A chip is a step of the plan's JSON. Layers of the model that a plan leaves out have chips too,
marked as off, where they would run: so they can be seen, and put back.
"""

import json
from typing import Any

from impasto.plan import Layer, Parallel, Plan, Step, in_words, picture, walk

MOST_CHIPS = 600  # beyond which a plan is drawn and described, but not edited by hand

Chip = dict[str, Any]


def shown(plan: Plan, layers: int) -> dict[str, Any]:
    """Return a plan as the page shows it, on a model of so many layers.

    Its line, its sentences, how often things run, and its chips; of a plan of too many chips, its
    picture instead, as SVG.
    """
    runs = plan.occurrences
    parts = [*walk(plan.steps)]
    many = len(parts) > MOST_CHIPS
    return {
        "plan": str(plan),
        "chips": None if many else chips_of(plan, layers),
        "picture": picture(plan) if many else None,
        "words": in_words(plan),
        "layers": runs.layers,
        "attention": runs.attention,
        "mlp": runs.mlp,
        "donors": list(dict.fromkeys(plan.injections)),
    }


def chips_of(plan: Plan, layers: int) -> list[Chip]:
    """Return a plan's steps as chips, with those of the layers that it leaves out where they were.

    A layer that is left out stands between its neighbours, or else behind the next lower layer.
    """
    steps: list[Chip] = json.loads(plan.to_json())["steps"]
    names = [_layers(step) for step in plan.steps]
    for layer in range(layers):
        if layer not in plan.layers:
            at = _place(names, layer)
            steps.insert(at, {"layer": layer, "part": "block", "off": True})
            names.insert(at, frozenset([layer]))
    return steps


def plan_of(document: str, layers: int) -> Plan:
    """Return the plan of a JSON document that the page wrote from its chips, checked for a model.

    Raises PlanError.
    """
    plan = Plan.from_json(document)
    plan.check(layers)
    return plan


def _layers(step: Step) -> frozenset[int]:
    moving = isinstance(step, Layer | Parallel)
    return frozenset(one.index for one in walk((step,)) if isinstance(one, Layer) and moving)


def _place(names: list[frozenset[int]], layer: int) -> int:
    """Return where a layer belongs among steps that name these layers."""
    lower = max((i for step in names for i in step if i < layer), default=None)
    higher = min((i for step in names for i in step if i > layer), default=None)
    for at in range(1, len(names)):
        before, after = names[at - 1], names[at]
        if (lower in before and higher in after) or (higher in before and lower in after):
            return at
    if lower is None:
        return next((at for at, step in enumerate(names) if higher in step), len(names))
    return max(at for at, step in enumerate(names) if lower in step) + 1
