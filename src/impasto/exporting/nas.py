"""A folder in the form of NVIDIA's Nemotron-NAS models: a Llama whose blocks may lack a part.

vLLM, SGLang and others run these (``DeciLMForCausalLM``). ``block_configs`` in ``config.json`` says
which parts each block has; the weights are a Llama's own, without those of absent parts. The one
file of code reads ``block_configs`` for them, as the public models' own does.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from impasto.exporting.blocks import ServedBlock
from impasto.exporting.error import ExportError, NotInFormError
from impasto.exporting.gguf.families import head_width, windows_of
from impasto.exporting.roundtrip import Expected
from impasto.exporting.shards import save_shards
from impasto.model.checks.decoder import difference
from impasto.plan.formats.block_configs import block_config

FAMILIES = ("LlamaForCausalLM", "MistralForCausalLM")
MULTIPLE = 256  # an MLP's size is told by a factor, and rounded up to a multiple of this
ATTENTION, MLP = ("self_attn.", "input_layernorm."), ("mlp.", "post_attention_layernorm.")
CODE = '''\
"""What engines read of this folder's config.json: a Llama's settings, and each block's parts."""

from types import SimpleNamespace

from transformers import LlamaConfig


class DeciLMConfig(LlamaConfig):
    model_type = "nemotron-nas"

    def __init__(self, block_configs=None, **settings):
        super().__init__(**settings)
        self.block_configs = [
            SimpleNamespace(
                attention=SimpleNamespace(**block["attention"]), ffn=SimpleNamespace(**block["ffn"])
            )
            for block in block_configs or []
        ]

    def to_dict(self):
        written = super().to_dict()
        written["block_configs"] = [
            {"attention": vars(block.attention), "ffn": vars(block.ffn)}
            for block in self.block_configs
        ]
        return written
'''


def check_shape(hf: Any) -> None:
    """Raise ExportError unless a model has a Llama's shape, as this form needs it."""
    config, name = hf.config, type(hf).__name__
    if name not in FAMILIES:
        raise NotInFormError(
            f"the form nemotron-nas holds models of Llama's shape ({', '.join(FAMILIES)}), and this"
            f" is a {name}"
        )
    if config.hidden_act != "silu" or config.intermediate_size % MULTIPLE:
        raise NotInFormError(
            f"the form nemotron-nas holds MLPs of silu and a multiple of {MULTIPLE} units, and this"
            f" model's have {config.hidden_act} and {config.intermediate_size}"
        )


def write_nas(
    folder: Path, hf: Any, path: str, blocks: Sequence[ServedBlock], max_shard_size: int | str
) -> None:
    """Write the weights, the configuration and its code."""
    weights = _weights(hf, path, blocks)
    save_shards(folder, weights, max_shard_size)
    text = json.dumps(_config(hf, blocks), indent=2) + "\n"
    (folder / "config.json").write_text(text, encoding="utf-8")
    (folder / "configuration_decilm.py").write_text(CODE, encoding="utf-8")
    if hf.can_generate():
        hf.generation_config.save_pretrained(folder)


def _stands_in(blocks: Sequence[ServedBlock], place: int) -> bool:
    """Whether a block without attention is written with one that adds nothing.

    Engines begin the residual stream at the first attention, so the first block has to have one.
    """
    return place == 0 and blocks[0].attention is None


def _weights(hf: Any, path: str, blocks: Sequence[ServedBlock]) -> Iterator[tuple[str, Tensor]]:
    layers: dict[int, dict[str, Tensor]] = {}
    for name, weight in hf.named_parameters():
        place, _, rest = name.removeprefix(f"{path}.").partition(".")
        if name.startswith(f"{path}."):
            layers.setdefault(int(place), {})[rest] = weight.detach()
        elif name != "lm_head.weight" or weight is not hf.get_input_embeddings().weight:
            yield name, weight.detach()
    for place, block in enumerate(blocks):
        for rest, weight in layers[block.layer].items():
            name = f"{path}.{place}.{rest}"
            if (block.attention if rest.startswith(ATTENTION) else block.mlp) is not None:
                yield name, weight
            elif rest.startswith(ATTENTION) and _stands_in(blocks, place):
                yield name, torch.zeros_like(weight)


def _config(hf: Any, blocks: Sequence[ServedBlock]) -> dict[str, Any]:
    """Return what ``config.json`` says, with all that engines read written out."""
    config = hf.config
    heads, keys = config.num_attention_heads, config.num_key_value_heads
    factor = config.intermediate_size * 3 / (2 * config.hidden_size)
    has_attention = [b.attention is not None or i == 0 for i, b in enumerate(blocks)]
    rope = dict(config.rope_parameters)
    longest = config.max_position_embeddings
    if any(windows_of(config, blocks)):
        longest = min(longest, config.sliding_window)  # up to there, windows hide nothing
    dtype = str(hf.dtype).removeprefix("torch.")
    return {
        "architectures": ["DeciLMForCausalLM"],
        "attention_bias": getattr(config, "attention_bias", False),
        "attention_dropout": 0.0,
        "auto_map": {"AutoConfig": "configuration_decilm.DeciLMConfig"},
        "block_configs": [
            block_config(heads // keys if has else None, None if block.mlp is None else factor)
            for has, block in zip(has_attention, blocks, strict=True)
        ],
        "bos_token_id": config.bos_token_id,
        "dtype": dtype,
        "eos_token_id": config.eos_token_id,
        "head_dim": head_width(config),
        "hidden_act": config.hidden_act,
        "hidden_size": config.hidden_size,
        "initializer_range": config.initializer_range,
        "intermediate_size": config.intermediate_size,
        "max_position_embeddings": longest,
        "mlp_bias": getattr(config, "mlp_bias", False),
        "model_type": "nemotron-nas",
        "num_attention_heads": heads,
        "num_hidden_layers": len(blocks),
        "num_key_value_heads": keys,
        "pad_token_id": config.pad_token_id,
        "pretraining_tp": 1,
        "rms_norm_eps": config.rms_norm_eps,
        "rope_parameters": rope,
        "rope_scaling": None if rope.get("rope_type", "default") == "default" else rope,
        "rope_theta": rope["rope_theta"],
        "tie_word_embeddings": config.tie_word_embeddings,
        "torch_dtype": dtype,
        "use_cache": True,
        "vocab_size": config.vocab_size,
    }


@torch.no_grad()
def check_nas(folder: Path, wanted: Expected) -> float:
    """Return how far the written weights' logits are from the plan's, relative to the largest.

    The folder is read as what it says it is, by a Llama whose absent parts are zero, and so add
    nothing. Of the engines' own code none is run.

    Raises:
        ExportError: when the weights are not all or not only those that the configuration names, or
            give other logits.
    """
    said = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    blocks = said.pop("block_configs")
    for name in ("architectures", "auto_map", "model_type", "rope_theta", "rope_scaling"):
        said.pop(name)
    config = LlamaConfig(**said)
    config._attn_implementation = wanted.attention
    with torch.device("meta"):
        hf: Any = LlamaForCausalLM(config)
    state = {
        name: weight
        for file in sorted(folder.glob("*.safetensors"))
        for name, weight in load_file(file).items()
    }
    missing = {name for name in hf.state_dict() if name not in state}
    for place, block in enumerate(blocks):
        for part, names in (("attention", ATTENTION), ("ffn", MLP)):
            if block[part]["no_op"]:
                begin = tuple(f"model.layers.{place}.{name}" for name in names)
                state |= {
                    name: torch.zeros(weight.shape, dtype=hf.dtype)
                    for name, weight in hf.state_dict().items()
                    if name.startswith(begin) and name in missing
                }
    if said["tie_word_embeddings"]:
        state["lm_head.weight"] = state["model.embed_tokens.weight"]
    stray = hf.state_dict().keys() ^ state.keys()
    if stray:
        raise ExportError(f"what was written is not all that it should be: {sorted(stray)}")
    hf.load_state_dict(state, assign=True)
    hf.model.rotary_emb = type(hf.model.rotary_emb)(config)
    hf = hf.eval().to(wanted.ids.device)
    found = difference(hf(input_ids=wanted.ids, use_cache=False).logits[0], wanted.logits)
    if not found <= wanted.limit:
        raise ExportError(
            f"the weights that were written do not give the plan's logits (relative difference "
            f"{found:.1e}, allowed {wanted.limit:.0e}); nothing was kept"
        )
    return found
