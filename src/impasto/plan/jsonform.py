"""Plans as JSON: one fixed document per tuple of steps, and its reading.

The document is what a plan's digest is made of, so its form never changes within a version: keys
sorted, no spaces, ASCII only.
"""

from __future__ import annotations

import json
from typing import Any

from impasto.error import shown
from impasto.plan.error import PlanError
from impasto.plan.steps import (
    MAX_NESTING,
    MAX_OCCURRENCES,
    MAX_SCALE,
    Freeze,
    Inject,
    Layer,
    Noise,
    Parallel,
    Reach,
    Step,
)

VERSION = 1
_KEYS = {
    "layer": {"layer", "part"},
    "parallel": {"parallel", "combine"},
    "freeze": {"freeze"},
    "noise": {"noise", "seed", "keep"},
    "inject": {"inject"},
}
# Left out where they say nothing, so that a plan without them keeps its digest.
_OPTIONAL = {
    "layer": {"reach", "scale"},
    "parallel": {"scale"},
    "noise": {"prompt"},
}


def write_json(steps: tuple[Step, ...]) -> str:
    """Return the document that holds ``steps``."""
    document = {"plan": VERSION, "steps": [_encode(step) for step in steps]}
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def read_json(text: str | bytes) -> tuple[Step, ...]:
    """Return the steps of a document, unchecked but for their form.

    Raises:
        PlanError: the text is not JSON, or not of this form.
    """
    try:
        document = json.loads(text)
    except (ValueError, TypeError, RecursionError) as error:
        raise PlanError(f"a plan's JSON cannot be read: {error}") from None
    if not isinstance(document, dict) or document.keys() != {"plan", "steps"}:
        raise PlanError('a plan\'s JSON is an object {"plan": 1, "steps": […]}')
    if document["plan"] != VERSION or type(document["plan"]) is not int:
        raise PlanError(f"this reads plans of version {VERSION}, not {shown(document['plan'], 80)}")
    return _decode_all(document["steps"], nesting=0)


def _encode(step: Step) -> dict[str, Any]:
    match step:
        case Layer(index, part, reach, scale):
            entry: dict[str, Any] = {"layer": index, "part": part}
            if reach is not None:
                entry["reach"] = {"first": reach.first, "last": reach.last}
            return entry | _scale(scale)
        case Parallel(branches, combine, scale):
            inner = [[_encode(step) for step in branch] for branch in branches]
            return {"parallel": inner, "combine": combine} | _scale(scale)
        case Freeze(prompt):
            return {"freeze": "prompt" if prompt else True}
        case Noise(kind, seed, keep, prompt):
            entry = {"noise": kind, "seed": seed, "keep": keep}
            return entry | {"prompt": True} if prompt else entry
        case Inject(name):
            return {"inject": name}


def _scale(scale: float) -> dict[str, Any]:
    return {} if scale == 1 else {"scale": scale}


def _decode_all(entries: Any, nesting: int) -> tuple[Step, ...]:
    if not isinstance(entries, list):
        raise PlanError(f"steps are a list, not {shown(entries, 80)}")
    if nesting > MAX_NESTING:
        raise PlanError(f"brackets nest at most {MAX_NESTING} deep")
    if len(entries) > 2 * MAX_OCCURRENCES:
        raise PlanError(f"a plan runs at most {MAX_OCCURRENCES} layer occurrences")
    return tuple([_decode(entry, nesting) for entry in entries])


def _decode(entry: Any, nesting: int) -> Step:
    kind = next((kind for kind in _KINDS_OF_STEP if isinstance(entry, dict) and kind in entry), "")
    if not kind or entry.keys() - _OPTIONAL.get(kind, set()) != _KEYS[kind]:
        forms = "; ".join(", ".join(sorted(keys)) for keys in _KEYS.values())
        raise PlanError(f"{shown(entry, 80)} is not a step: a step has the keys of one of {forms}")
    match kind:
        case "layer":
            return Layer(entry["layer"], entry["part"], _reach(entry), _decoded_scale(entry))
        case "parallel":
            if not isinstance(entry["parallel"], list):
                raise PlanError(
                    f"parallel holds a list of branches, not {shown(entry['parallel'], 80)}"
                )
            branches = tuple([_decode_all(branch, nesting + 1) for branch in entry["parallel"]])
            return Parallel(branches, entry["combine"], _decoded_scale(entry))
        case "noise":
            return Noise(entry["noise"], entry["seed"], entry["keep"], entry.get("prompt", False))
        case "inject":
            return Inject(entry["inject"])
        case _:
            if entry["freeze"] is not True and entry["freeze"] != "prompt":
                raise PlanError(f'freeze is true or "prompt", not {shown(entry["freeze"], 80)}')
            return Freeze(entry["freeze"] == "prompt")


def _reach(entry: dict[str, Any]) -> Reach | None:
    if "reach" not in entry:
        return None
    reach = entry["reach"]
    if not isinstance(reach, dict) or reach.keys() != {"first", "last"}:
        raise PlanError(f'a reach is {{"first": 1, "last": 64}}, not {shown(reach, 80)}')
    return Reach(reach["first"], reach["last"])


def _decoded_scale(entry: dict[str, Any]) -> float:
    scale = entry.get("scale", 1.0)
    return float(scale) if type(scale) is int and abs(scale) <= MAX_SCALE else scale


_KINDS_OF_STEP = tuple(_KEYS)
