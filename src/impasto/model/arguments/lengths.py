"""The lengths that a configuration names: those from which a model may behave otherwise.

Windows, chunks and the like show only in texts that are longer than they are, so the opening check
reads a longer one. Some rotary tables change with the length of the whole text: from there on, the
logits after a prefix depend on the tokens that follow it, and no plan can run.
"""

import re
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any, NamedTuple

from torch import nn

_OF_LENGTHS = re.compile(
    r"window|chunk|topk|floor|block|local|span|segment|stride|context|distance|radius|horizon|"
    r"memory|buckets|lookback|sink"
)
_OF_COUNTS = re.compile(r"(^|_)(layers?|pattern|num|n|groups?|feed)(_|$)")  # layers, heads, …
_OF_OTHER_PARTS = re.compile(
    r"vision|audio|image|video|quantization|encoder_config|mamba|conv|rope"
)
_CHANGING = ("dynamic", "longrope")


class RotaryLimit(NamedTuple):
    """A length from which a model's rotary tables change.

    Attributes:
        tokens: The most tokens for which the tables are the same.
        rope_type: The type of the tables.
    """

    tokens: int
    rope_type: str


def length_limit(config: Any) -> RotaryLimit | None:
    """Return the length from which rotary tables change with that of the text; None for none."""
    most = getattr(config, "max_position_embeddings", None)
    limits = []
    for rope in _ropes(getattr(config, "rope_parameters", None)):
        kind = str(rope.get("rope_type", rope.get("type", "")))
        if kind in _CHANGING:
            original = rope.get("original_max_position_embeddings")
            original = original if kind == "longrope" and isinstance(original, int) else most
            if isinstance(original, int):
                limits.append(RotaryLimit(original, kind))
    return min(limits, default=None)


def _ropes(parameters: Any) -> Iterator[dict[str, Any]]:
    """Yield the settings of rotary tables; some models have tables for each type of layer."""
    if isinstance(parameters, dict):
        yield parameters
        for value in parameters.values():
            yield from _ropes(value)


def named_lengths(config: Any, layers: Iterable[nn.Module], most: int | None) -> dict[str, int]:
    """Return the lengths that a text may exceed, by their names; in tokens, ascending.

    Args:
        config: The configuration of the language model.
        layers: Its layers, whose modules may have lengths of their own as attributes.
        most: The most tokens that the model can read; longer lengths never show.
    """
    lengths: dict[str, int] = {}
    inside = (vars(module) for layer in layers for module in layer.modules())
    attributes = (item for each in inside for item in each.items() if type(item[1]) is int)
    own = (pair for name, value in attributes for pair in _numbers(name, value))
    for name, value in chain(_numbers("", config.to_dict()), own):
        if most is None or value < most:
            lengths[name] = max(value, lengths.get(name, 0))
    return dict(sorted(lengths.items(), key=lambda item: (item[1], item[0])))


def _numbers(name: str, value: Any) -> Iterator[tuple[str, int]]:
    """Yield the integers above 1 whose names are those of lengths, with the names."""
    if isinstance(value, dict):
        for key, each in value.items():
            if not _OF_OTHER_PARTS.search(str(key)):
                yield from _numbers(str(key), each)
    elif isinstance(value, (list, tuple)):
        for each in value:
            yield from _numbers(name, each)
    elif type(value) is int and value > 1 and _names_length(name.lower()):
        yield name, value


def _names_length(name: str) -> bool:
    return bool(_OF_LENGTHS.search(name)) and not _OF_COUNTS.search(name)
