"""mergekit's ``passthrough``: slices of one model, a range of its layers each.

A slice may scale the matrices whose outputs its attentions (``o_proj``) and MLPs (``down_proj``)
add. As the MLP of a layer reads what its attention added, a scaled layer i is ``i.attn@a i.mlp@b``.
"""

from __future__ import annotations

from collections.abc import Iterator

import yaml

from impasto.error import shown
from impasto.plan.formats.dropped import order_of
from impasto.plan.formats.source import Key, Source
from impasto.plan.formats.target import Target
from impasto.plan.plan import Plan
from impasto.plan.steps import MAX_OCCURRENCES, SCALE_RULE, Layer, Part, Step, is_scale, span

Scales = tuple[float, float]  # of attention and of MLP

TITLE = "mergekit's passthrough"
PARTS: tuple[Part, Part] = ("attention", "mlp")
FILTERS = ("o_proj", "down_proj")
UNSCALED: Scales = (1.0, 1.0)
_SCALE_RULE = (
    "scale is a list such as [{filter: o_proj, value: 0.5}, {filter: down_proj, value: 0.5}, "
    "{value: 1.0}]: a plan scales what attentions and MLPs add"
)


def recognises(source: Source) -> bool:
    """Whether there are slices."""
    return "slices" in source.mapping


def read(source: Source, layers: int | None) -> Iterator[list[Step]]:
    """Give the plan that the slices make."""
    method = source.mapping.get("merge_method", "passthrough")
    if method != "passthrough":
        raise source.error(
            f"{shown(method)} mixes weights; a plan is what passthrough makes", "merge_method"
        )
    _check_unscaled(source, source.mapping, ())
    steps: list[Step] = []
    models: list[object] = []
    slices = source.sequence(source.mapping.get("slices"), "slices is a list", "slices")
    for i, each in enumerate(slices):
        steps += _slice(source, each, layers, models, i)
        if len(steps) > MAX_OCCURRENCES:
            raise source.error(f"a plan runs at most {MAX_OCCURRENCES} layers", "slices", i)
    yield steps


def write(plan: Plan, target: Target) -> str:
    """Return the file for a plan of whole layers: a slice for each ascending run of them."""
    if target.layers is not None:
        plan.check(target.layers)
    runs: list[tuple[list[int], Scales]] = []
    for layer, scales in _scaled_order(plan):
        if runs and layer == runs[-1][0][1] and scales == runs[-1][1]:
            runs[-1][0][1] += 1
        else:
            runs.append(([layer, layer + 1], scales))
    name = target.name(TITLE)
    slices = [
        {"sources": [{"model": name, "layer_range": run} | _parameters(scales)]}
        for run, scales in runs
    ]
    written = {"slices": slices, "merge_method": "passthrough"}
    return yaml.safe_dump(written, sort_keys=False, default_flow_style=None, allow_unicode=True)


def _slice(
    source: Source, each: object, layers: int | None, models: list[object], i: int
) -> list[Step]:
    """Return the layers of one slice."""
    keys: tuple[Key, ...] = ("slices", i, "sources")
    given = each.get("sources") if isinstance(each, dict) else None
    sources = source.sequence(given, "a slice has sources, a list of one model", *keys)
    if isinstance(each, dict):
        _check_unscaled(source, each, ("slices", i))
    one = sources[0] if len(sources) == 1 else None
    if not isinstance(one, dict):
        raise source.error(
            f"passthrough takes one source for each slice, not {len(sources)}", *keys
        )
    keys = (*keys, 0)
    scales = _scales(source, one, keys)
    models.append(one.get("model"))
    if models[-1] != models[0]:
        raise source.error(
            f"a plan runs the layers of one model, and this takes some of {shown(models[0])} and "
            f"some of {shown(models[-1])}",
            *keys,
            "model",
        )
    keys = (*keys, "layer_range")
    ends = source.sequence(one.get("layer_range"), "layer_range is [first, end]", *keys)
    if len(ends) != 2:
        raise source.error(f"layer_range is [first, end], not {shown(ends)}", *keys)
    first, end = (source.layer(number, None, *keys) for number in ends)
    if not first < end:
        raise source.error(f"{shown(ends)} has no layer: the end is left out", *keys)
    source.layer(end - 1, layers, *keys)
    if scales == UNSCALED:
        return span(first, end - 1)
    return [
        Layer(layer, part, scale=scale)
        for layer in range(first, end)
        for part, scale in zip(PARTS, scales, strict=True)
    ]


def _scales(source: Source, holder: dict[object, object], keys: tuple[Key, ...]) -> Scales:
    """Return by how much a slice scales what its attentions and its MLPs add."""
    parameters = holder.get("parameters")
    if not isinstance(parameters, dict) or "scale" not in parameters:
        return UNSCALED
    keys = (*keys, "parameters", "scale")
    found: dict[object, float] = {}
    for i, each in enumerate(source.sequence(parameters["scale"], _SCALE_RULE, *keys)):
        value = each.get("value") if isinstance(each, dict) else None
        scale = float(value) if type(value) in (int, float) else None
        if not isinstance(each, dict) or not is_scale(scale) or scale is None:
            raise source.error(f"{_SCALE_RULE}; {SCALE_RULE}, not {shown(each)}", *keys, i)
        name = each.get("filter")
        if name is None:
            if scale != 1:
                raise source.error(f"all weights are scaled by {scale:g}; {_SCALE_RULE}", *keys, i)
            break  # what is said behind it is not asked any more
        if name not in FILTERS:
            raise source.error(f"{shown(name)} is scaled; {_SCALE_RULE}", *keys, i)
        found.setdefault(name, scale)
    attention, mlp = (found.get(name, 1.0) for name in FILTERS)
    return attention, mlp


def _scaled_order(plan: Plan) -> Iterator[tuple[int, Scales]]:
    """Yield the layers of a plan with their scales; raises PlanError for what has none."""
    steps, at = plan.steps, 0
    while at < len(steps):
        one, other = steps[at], steps[at + 1] if at + 1 < len(steps) else None
        if isinstance(one, Layer) and isinstance(other, Layer) and _are_scaled(one, other):
            yield one.index, (one.scale, other.scale)
            at += 2
        else:
            [layer] = order_of(Plan((one,)), TITLE)
            yield layer, UNSCALED
            at += 1


def _are_scaled(one: Layer, other: Layer) -> bool:
    """Whether two steps are a layer's attention and its MLP, one of them scaled."""
    is_scaled = (one.scale, other.scale) != UNSCALED
    is_one_layer = one.index == other.index and (one.part, other.part) == PARTS
    return is_scaled and is_one_layer and one.reach is None


def _parameters(scales: Scales) -> dict[str, object]:
    if scales == UNSCALED:
        return {}
    pairs = zip(FILTERS, scales, strict=True)
    listed: list[dict[str, object]] = [{"filter": name, "value": scale} for name, scale in pairs]
    return {"parameters": {"scale": [*listed, {"value": 1.0}]}}


def _check_unscaled(source: Source, holder: dict[object, object], keys: tuple[Key, ...]) -> None:
    """Raise PlanError where weights are scaled elsewhere than in a slice's own source."""
    parameters = holder.get("parameters")
    if isinstance(parameters, dict) and "scale" in parameters:
        raise source.error(
            f"scales stand in the source of a slice; {_SCALE_RULE}",
            *keys,
            "parameters",
            "scale",
        )
