"""The weights of a plan's blocks under llama.cpp's names, made one at a time as they are written.

Nothing is held but the source's own weights and the one that is being written.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from impasto.exporting.blocks import ServedBlock
from impasto.exporting.error import ExportError
from impasto.exporting.gguf.families import (
    NO_UNITS,
    Family,
    arch_of,
    head_width,
    query_scale,
    rope_of,
)

DTYPES = {"f32": "F32", "f16": "F16", "bf16": "BF16", "q8_0": "Q8_0"}
OF_TORCH = {torch.float32: "f32", torch.float16: "f16", torch.bfloat16: "bf16"}
_OF_ATTENTION = ("self_attn.", "input_layernorm.")


@dataclass(frozen=True)
class Weight:
    """A weight that is yet to be made.

    Attributes:
        name: Its name in the file.
        shape: Its shape.
        make: Returns it.
    """

    name: str
    shape: tuple[int, ...]
    make: Callable[[], Tensor]


def weights_of(
    hf: Any, path: str, family: Family, blocks: Sequence[ServedBlock]
) -> Iterator[Weight]:
    """Give all weights of a file, in its order.

    Args:
        hf: The source.
        path: Where its layers are: ``model.layers``.
        family: How it is written.
        blocks: What the plan runs.
    """
    import gguf

    arch = arch_of(family, blocks)
    kinds = {name: kind for kind, name in gguf.MODEL_ARCH_NAMES.items()}
    names = gguf.get_tensor_name_map(kinds[arch], len(blocks))

    def named(name: str) -> str:
        found = names.get_name(name, try_suffixes=(".weight", ".bias"))
        if found is None:
            raise ExportError(f"llama.cpp's {arch} has no name for the weight {name}")
        return found

    layers: dict[int, dict[str, Tensor]] = {}
    for name, weight in hf.named_parameters():
        place, _, rest = name.removeprefix(f"{path}.").partition(".")
        if name.startswith(f"{path}."):
            layers.setdefault(int(place), {})[rest] = weight
        elif name != "lm_head.weight" or weight is not hf.get_input_embeddings().weight:
            yield Weight(named(name), tuple(weight.shape), partial(_made, name, weight, hf, family))
    yield from _rope_table(hf.config)
    for place, block in enumerate(blocks):
        for rest, weight in layers[block.layer].items():
            part = block.attention if rest.startswith(_OF_ATTENTION) else block.mlp
            if part is not None or block.is_whole:
                make = partial(_made, rest, weight, hf, family, len(blocks))
                yield Weight(named(f"{path}.{place}.{rest}"), tuple(weight.shape), make)
        if block.mlp is None:
            yield from _no_mlp(place, hf.config.hidden_size)
        if block.attention is None and place == 0:
            has_keys = all(each.attention is None for each in blocks)
            yield from _no_attention(place, hf.config, has_keys)


def _made(name: str, weight: Tensor, hf: Any, family: Family, blocks: int = 1) -> Tensor:
    """Return a weight as llama.cpp reads it."""
    made = weight.detach()
    if made.device.type == "meta":
        raise ExportError(f"{name} is offloaded, so it cannot be written; load without device_map")
    if name.startswith("self_attn.q_"):
        is_normed = "self_attn.q_norm.weight" in dict(hf.base_model.layers[0].named_parameters())
        scale = query_scale(hf, family, blocks)
        if scale != 1.0 and is_normed == ("q_norm" in name):
            # The norm's own weight, one more than what is stored where one is added.
            made = (
                made.float() + family.adds_one * is_normed
            ) * scale - family.adds_one * is_normed
    if family.adds_one and name.endswith("norm.weight"):
        made = made.float() + 1
    if family.interleaves and name.startswith(("self_attn.q_proj", "self_attn.k_proj")):
        heads = made.shape[0] // head_width(hf.config)
        halves = made.reshape(heads, 2, made.shape[0] // heads // 2, *made.shape[1:])
        made = halves.transpose(1, 2).reshape(made.shape)
    return made


def _no_mlp(place: int, hidden: int) -> Iterator[Weight]:
    """Give an MLP that adds nothing: llama.cpp leaves out the attention of a block without one."""
    yield _filled(place, "ffn_norm", hidden, value=1.0)
    yield _filled(place, "ffn_gate", NO_UNITS, hidden)
    yield _filled(place, "ffn_up", NO_UNITS, hidden)
    yield _filled(place, "ffn_down", hidden, NO_UNITS)


def _no_attention(place: int, config: Any, has_keys: bool) -> Iterator[Weight]:
    """Give an attention that adds nothing, for how wide a head is, is read from the first block.

    A linear one, which keeps no keys; or, where no block has any and none could be kept, one with.
    """
    hidden, width, heads = config.hidden_size, head_width(config), config.num_attention_heads
    yield _filled(place, "attn_norm", hidden, value=1.0)
    if has_keys:
        keys = getattr(config, "num_key_value_heads", None) or heads
        for name, count in (("attn_q", heads), ("attn_k", keys), ("attn_v", keys)):
            yield _filled(place, name, count * width, hidden)
    yield _filled(place, "attn_output", hidden, heads * width if has_keys else hidden)


def _filled(place: int, name: str, *shape: int, value: float = 0.0) -> Weight:
    return Weight(f"blk.{place}.{name}.weight", shape, lambda: torch.full(shape, value))


def _rope_table(config: Any) -> Iterator[Weight]:
    """Give Llama 3's table: by how much each rotation is slower than its base says."""
    rope = rope_of(config)
    if rope.get("rope_type") != "llama3":
        return
    width = head_width(config)
    speeds = rope["rope_theta"] ** -(torch.arange(0, width, 2, dtype=torch.float64) / width)
    lengths = 2 * math.pi / speeds
    low, high, factor = (rope[k] for k in ("low_freq_factor", "high_freq_factor", "factor"))
    share = (rope["original_max_position_embeddings"] / lengths - low) / (high - low)
    slower = 1 / ((1 - share.clamp(0, 1)) / factor + share.clamp(0, 1))
    yield Weight("rope_freqs.weight", tuple(slower.shape), lambda: slower.float())
