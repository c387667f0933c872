"""Nemotron-NAS and DeciLM: ``block_configs`` in ``config.json``, one for each layer.

Written they are as the models of that kind have them: an absent part is ``no_op``, and has no size.
"""

from __future__ import annotations

from collections.abc import Iterator

from impasto.error import shown
from impasto.plan.formats.dropped import Dropped, steps_without
from impasto.plan.formats.source import Source
from impasto.plan.steps import Step

TITLE = "Nemotron-NAS's block_configs"
NAME = "block_configs"
PARTS = {"attention": "attention", "ffn": "mlp"}


def recognises(source: Source) -> bool:
    """Whether the setting is there."""
    return NAME in source.mapping


def read(source: Source, layers: int | None) -> Iterator[list[Step]]:
    """Give the plan that a configuration describes; sizes are the model's own."""
    configs = source.sequence(source.mapping.get(NAME), "a list, one for each layer", NAME)
    source.depth(layers, written=len(configs))
    dropped: list[Dropped] = []
    for i, config in enumerate(configs):
        absent = set()
        for name, part in PARTS.items():
            own = config.get(name) if isinstance(config, dict) else None
            if not isinstance(own, dict):
                raise source.error(f"a layer has attention and ffn, not {shown(config)}", NAME, i)
            if own.get("replace_with_linear"):
                raise source.error(
                    "this part is replaced by a linear map, which no plan holds",
                    NAME,
                    i,
                    name,
                    "replace_with_linear",
                )
            if own.get("no_op"):
                absent.add(part)
        dropped.append(frozenset(absent))
    yield steps_without(dropped)


def block_config(attention: int | None, mlp: float | None) -> dict[str, dict[str, object]]:
    """Return the entry of one layer.

    Args:
        attention: How many query heads share a key head; None where there is no attention.
        mlp: The MLP's size, as ``ffn_mult``; None where there is no MLP.
    """
    return {
        "attention": {
            "n_heads_in_group": attention,
            "no_op": attention is None,
            "num_sink_tokens": None,
            "replace_with_linear": False,
            "sparsify": None,
            "unshifted_sink": False,
            "use_prefill_window_in_sink_attention": False,
            "window_length": None,
        },
        "ffn": {
            "ffn_mult": mlp,
            "no_op": mlp is None,
            "replace_with_linear": False,
            "sparsify": None,
        },
    }
