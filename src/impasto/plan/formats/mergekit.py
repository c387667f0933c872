"""mergekit's ``passthrough``: slices of one model, a range of its layers each."""

from __future__ import annotations

from collections.abc import Iterator

import yaml

from impasto.error import shown
from impasto.plan.formats.dropped import order_of
from impasto.plan.formats.source import Key, Source
from impasto.plan.formats.target import Target
from impasto.plan.plan import Plan
from impasto.plan.steps import MAX_OCCURRENCES, Step, span

TITLE = "mergekit's passthrough"


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
    runs: list[list[int]] = []
    for layer in order_of(plan, TITLE):
        if runs and layer == runs[-1][1]:
            runs[-1][1] += 1
        else:
            runs.append([layer, layer + 1])
    name = target.name(TITLE)
    written = {
        "slices": [{"sources": [{"model": name, "layer_range": run}]} for run in runs],
        "merge_method": "passthrough",
    }
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
    _check_unscaled(source, one, keys)
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
    return span(first, end - 1)


def _check_unscaled(source: Source, holder: dict[object, object], keys: tuple[Key, ...]) -> None:
    """Raise PlanError where a part's output is scaled, which no plan can say yet."""
    parameters = holder.get("parameters")
    if isinstance(parameters, dict) and "scale" in parameters:
        raise source.error(
            "the weights are scaled here, and a plan runs them as they are; leave scale out",
            *keys,
            "parameters",
            "scale",
        )
