"""What a configuration says about lengths: where a model may begin to behave otherwise.

Windows, chunks, blocks and the like show only in texts that are longer than they are, so the
opening check reads one that is. Some rotary tables change with the length of the whole text: what
such a model says of a prefix then depends on how much is read after it, and plans end there.
"""

import re
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any, NamedTuple

from torch import nn

_SPEAKS = re.compile(
    r"window|chunk|topk|floor|block|local|span|segment|stride|context|distance|radius|horizon|"
    r"memory|buckets|lookback|sink"
)
_COUNTS = re.compile(r"(^|_)(layers?|pattern|num|n|groups?|feed)(_|$)")  # of other things
_ELSEWHERE = re.compile(r"vision|audio|image|video|quantization|encoder_config|mamba|conv|rope")
_CHANGING = ("dynamic", "longrope")


class Limit(NamedTuple):
    """The tokens up to which a model's rotary tables are one and the same, and their type."""

    tokens: int
    rope_type: str


def length_limit(config: Any) -> Limit | None:
    """Return where rotary tables begin to change with the length of the text, if they do."""
    most = getattr(config, "max_position_embeddings", None)
    limits = []
    for rope in _ropes(getattr(config, "rope_parameters", None)):
        kind = str(rope.get("rope_type", rope.get("type", "")))
        if kind in _CHANGING:
            original = rope.get("original_max_position_embeddings")
            original = original if kind == "longrope" and isinstance(original, int) else most
            if isinstance(original, int):
                limits.append(Limit(original, kind))
    return min(limits, default=None)


def _ropes(parameters: Any) -> Iterator[dict[str, Any]]:
    """Yield settings of rotary tables, of which some models have one for each type of layer."""
    if isinstance(parameters, dict):
        yield parameters
        for value in parameters.values():
            yield from _ropes(value)


def named_lengths(config: Any, layers: Iterable[nn.Module], most: int | None) -> dict[str, int]:
    """Return the lengths that a text may exceed, by their names in configuration and layers.

    Args:
        config: The configuration of the language model.
        layers: Its layers, whose modules may have been given others.
        most: How many tokens the model can read; longer lengths never show.
    """
    found: dict[str, int] = {}
    inside = (vars(module) for layer in layers for module in layer.modules())
    attributes = (item for each in inside for item in each.items() if type(item[1]) is int)
    own = (pair for name, value in attributes for pair in _numbers(name, value))
    for name, value in chain(_numbers("", config.to_dict()), own):
        if most is None or value < most:
            found[name] = max(value, found.get(name, 0))
    return dict(sorted(found.items(), key=lambda item: (item[1], item[0])))


def _numbers(name: str, value: Any) -> Iterator[tuple[str, int]]:
    """Yield the whole numbers under names that speak of lengths; lists go by their own name."""
    if isinstance(value, dict):
        for key, each in value.items():
            if not _ELSEWHERE.search(str(key)):
                yield from _numbers(str(key), each)
    elif isinstance(value, (list, tuple)):
        for each in value:
            yield from _numbers(name, each)
    elif type(value) is int and value > 1 and _speaks(name.lower()):
        yield name, value


def _speaks(name: str) -> bool:
    return bool(_SPEAKS.search(name)) and not _COUNTS.search(name)
