"""A configuration for other layers: every setting that goes by layer, for a plan's own order.

What is written here is a claim: :mod:`impasto.exporting.rebuild` builds the model that it
describes and compares it with the source, layer by layer. The names are those of the
configurations that come with transformers.
"""

import copy
from collections.abc import Sequence
from typing import Any

from impasto.exporting.error import NotInFormError

# One entry for each layer.
LISTS = (
    "layer_types",
    "mlp_layer_types",
    "layers_block_type",
    "no_rope_layers",
    "layer_rope_theta",
    "attention_layers",
    "num_attention_heads_per_layer",
    "num_key_value_heads_per_layer",
    "per_layer_config",
    "activation_sparsity_pattern",
)
# The numbers of some layers.
NUMBERS = (
    "moe_layers",
    "full_attn_idxs",
    "cross_attention_layers",
    "global_layers",
    "attn_layer_indices",
)
# The number of layers where a configuration has an encoder's beside it.
DEPTHS = ("decoder_layers", "num_decoder_layers")
# So many layers at the beginning are dense, the others have experts.
LEADING_DENSE = ("first_k_dense_replace", "num_dense_layers")
# How often a layer is not local, as an older form of ``layer_types``.
PATTERNS = ("sliding_window_pattern", "_sliding_window_pattern")


def renumbered(config: Any, order: Sequence[int]) -> Any:
    """Return a configuration of a model whose layer i is layer ``order[i]`` of this one.

    Raises:
        NotInFormError: when a setting of this family cannot say that.
    """
    written = copy.deepcopy(config)
    text, own = written.get_text_config(decoder=True), config.get_text_config(decoder=True)
    depth = own.num_hidden_layers
    for name in LISTS:
        values = getattr(own, name, None)
        if _is_computed(own, name):
            continue
        if isinstance(values, (list, tuple)) and len(values) == depth:
            setattr(text, name, [values[layer] for layer in order])
    for name in NUMBERS:
        values = getattr(own, name, None)
        if isinstance(values, (list, tuple)):
            setattr(text, name, _places(order, values))
    for name in ("num_hidden_layers", *DEPTHS):
        if getattr(own, name, None) == depth:
            setattr(text, name, len(order))
    for name in LEADING_DENSE:
        if isinstance(getattr(own, name, None), int):
            setattr(text, name, _leading(name, [layer < getattr(own, name) for layer in order]))
    _write_sparse_step(own, text, order)
    _write_expert_range(own, text, order)
    _write_windows(own, text)
    return written


def _is_computed(config: Any, name: str) -> bool:
    """Whether a configuration computes a setting from others, which are written instead."""
    mapped = type(config).attribute_map.get(name, name)
    return isinstance(getattr(type(config), mapped, None), property)


def _places(order: Sequence[int], layers: Sequence[int]) -> list[int]:
    return [place for place, layer in enumerate(order) if layer in layers]


def _leading(name: str, dense: list[bool]) -> int:
    """Return how many come first; a plan that puts one later cannot be said by a count."""
    count = dense.index(False) if False in dense else len(dense)
    if any(dense[count:]):
        raise NotInFormError(
            f"{name} says only how many layers at the beginning have no experts, and this plan "
            f"has one at place {dense.index(True, count)}, after others that have"
        )
    return count


def _write_sparse_step(own: Any, text: Any, order: Sequence[int]) -> None:
    """Qwen's rule (experts in every so manyth layer, with exceptions), as exceptions alone."""
    step, exceptions = (
        getattr(own, "decoder_sparse_step", None),
        own.__dict__.get("mlp_only_layers"),
    )
    if step is None or exceptions is None:
        return
    dense = [i for i in range(own.num_hidden_layers) if i in exceptions or (i + 1) % step]
    text.decoder_sparse_step = 1
    text.mlp_only_layers = _places(order, dense)


def _write_expert_range(own: Any, text: Any, order: Sequence[int]) -> None:
    """Ernie's rule: experts from one layer to another, at an interval."""
    first, step = (getattr(own, f"moe_layer_{n}", None) for n in ("start_index", "interval"))
    last = getattr(own, "moe_layer_end_index", None)
    if first is None or last is None or step is None:
        return
    last = own.num_hidden_layers - 1 if last == -1 else last
    sparse = _places(order, [i for i in range(first, last + 1) if (i + 1) % step == 0])
    if sparse and sparse != list(range(sparse[0], sparse[-1] + 1)):
        raise NotInFormError(
            "moe_layer_start_index and moe_layer_end_index say that neighbouring layers have "
            f"experts, and in this plan those at places {sparse} have"
        )
    text.moe_layer_interval = 1
    text.moe_layer_start_index = sparse[0] if sparse else len(order)
    text.moe_layer_end_index = sparse[-1] if sparse else len(order)


def _write_windows(own: Any, text: Any) -> None:
    """Keep older forms of ``layer_types`` in step with it, for whoever reads only those."""
    kinds = getattr(text, "layer_types", None)
    if not isinstance(kinds, list):
        return
    is_full = [kind == "full_attention" for kind in kinds]
    if isinstance(getattr(own, "max_window_layers", None), int) and not all(is_full):
        text.max_window_layers = is_full.index(False)
    for name in PATTERNS:
        value = getattr(own, name, None)
        if isinstance(value, str):
            setattr(text, name, "".join("G" if full else "L" for full in is_full))
        elif isinstance(value, int) and value:
            setattr(text, name, _period(is_full) or value)


def _period(is_full: list[bool]) -> int | None:
    """Return p where exactly every p-th is full; one longer than the list where none is."""
    period = is_full.index(True) + 1 if True in is_full else len(is_full) + 1
    told = [(place + 1) % period == 0 for place in range(len(is_full))]
    return period if told == is_full else None
