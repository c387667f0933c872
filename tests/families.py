"""Small random models of each family, with weights large enough that every edit shows.

A family is listed with what makes it special: layers of several kinds, windows shorter than the
texts, caps that bend, multipliers that are not 1.
"""

from collections.abc import Callable, Iterable
from functools import cache, partial
from typing import Any

import pytest
import torch
import transformers as hf

VOCABULARY = 97
LAYERS = 6

_SMALL = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "max_position_embeddings": 128,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": None,
}


# One of each make: grouped queries, places that are learned, biases in their stead, windows by
# turns with norms behind, parts side by side, experts, keys packed in one matrix, a carried state.
KINDS = ("llama", "gpt2", "bloom", "gemma3", "gptj", "qwen3_moe", "falcon_new", "qwen3_next")


def one_of_each(names: Iterable[str]) -> list[Any]:
    """Return the names as parameters of a test that is slow for all but one of each make.

    It is for what rests on code that is tested for every family elsewhere (`test_engine`).
    """
    slow = pytest.mark.slow
    return [pytest.param(name, marks=() if name in KINDS else slow) for name in names]


def small(kind: Any, attention: str = "sdpa", **special: Any) -> Any:
    """Build a model of a class; one that knows no SDPA gets its eager attention."""
    names = {*kind.config_class.__dataclass_fields__, *kind.config_class.attribute_map}
    shared = {name: value for name, value in _SMALL.items() if name in names}
    attention = attention if kind._supports_sdpa else "eager"
    return kind(kind.config_class(**shared | special, attn_implementation=attention))


_WIDE_HEADS = {"num_key_value_heads": 2, "head_dim": 16}
_TWO_OF_FOUR = {"num_experts_per_tok": 2, "num_local_experts": 4}
_BASES = {
    "sliding_attention": {"rope_type": "default", "rope_theta": 100.0},
    "full_attention": {"rope_type": "default", "rope_theta": 1e6},
}

FAMILIES: dict[str, Callable[..., Any]] = {
    "llama": partial(small, hf.LlamaForCausalLM, num_key_value_heads=2),
    "mistral": partial(small, hf.MistralForCausalLM, num_key_value_heads=2, sliding_window=4),
    "mixtral": partial(small, hf.MixtralForCausalLM, num_key_value_heads=2, **_TWO_OF_FOUR),
    "qwen2": partial(
        small, hf.Qwen2ForCausalLM, num_key_value_heads=2,
        use_sliding_window=True, sliding_window=4, max_window_layers=3,
    ),
    "qwen3": partial(small, hf.Qwen3ForCausalLM, **_WIDE_HEADS),
    "qwen3_moe": partial(
        small, hf.Qwen3MoeForCausalLM, **_WIDE_HEADS, **_TWO_OF_FOUR,
        moe_intermediate_size=48, mlp_only_layers=[1, 4],
    ),
    "gemma2": partial(
        small, hf.Gemma2ForCausalLM, **_WIDE_HEADS, query_pre_attn_scalar=16, sliding_window=4,
        attn_logit_softcapping=1.0, final_logit_softcapping=3.0,
    ),
    "gemma3": partial(
        small, hf.Gemma3ForCausalLM, **_WIDE_HEADS, query_pre_attn_scalar=16, sliding_window=4,
        layer_types=["sliding_attention", "sliding_attention", "full_attention"] * 2,
        rope_parameters=_BASES,
    ),
    "phi3": partial(small, hf.Phi3ForCausalLM, num_key_value_heads=2),
    "phi": partial(small, hf.PhiForCausalLM, qk_layernorm=True),
    "olmo2": partial(small, hf.Olmo2ForCausalLM, num_key_value_heads=2),
    "granite": partial(
        small, hf.GraniteForCausalLM, num_key_value_heads=2, embedding_multiplier=3.0,
        attention_multiplier=0.5, residual_multiplier=0.7, logits_scaling=1.5,
    ),
    "gpt_neox": partial(small, hf.GPTNeoXForCausalLM),
    "gpt_neox_sequential": partial(small, hf.GPTNeoXForCausalLM, use_parallel_residual=False),
    "gptj": partial(small, hf.GPTJForCausalLM, rotary_dim=4),
    "gpt2": partial(small, hf.GPT2LMHeadModel),
    "opt": partial(small, hf.OPTForCausalLM, ffn_dim=64),
    "falcon": partial(small, hf.FalconForCausalLM),
    "falcon_new": partial(
        small, hf.FalconForCausalLM, new_decoder_architecture=True, num_kv_heads=2
    ),
    "falcon_alibi": partial(
        small, hf.FalconForCausalLM, alibi=True, parallel_attn=False, multi_query=False, bias=True
    ),
    "bloom": partial(small, hf.BloomForCausalLM),
    "stablelm": partial(
        small, hf.StableLmForCausalLM, num_key_value_heads=2, qk_layernorm=True
    ),
    "stablelm_parallel": partial(
        small, hf.StableLmForCausalLM, num_key_value_heads=2, use_parallel_residual=True
    ),
    "cohere": partial(
        small, hf.CohereForCausalLM, num_key_value_heads=2, use_qk_norm=True, logit_scale=1.0
    ),
}  # fmt: skip

_MAMBA_2 = {
    "mamba_n_heads": 8, "mamba_d_head": 8, "mamba_d_state": 8, "mamba_n_groups": 1,
    "mamba_chunk_size": 8,
}  # fmt: skip
_BY_TURNS = ["linear_attention", "linear_attention", "full_attention"] * 2

# Their rows cannot be packed, for their layers carry a state.
SEQUENTIAL: dict[str, Callable[..., Any]] = {
    "bamba": partial(
        small, hf.BambaForCausalLM, num_key_value_heads=2, attn_layer_indices=[2, 5], **_MAMBA_2
    ),
    "granitemoehybrid": partial(
        small, hf.GraniteMoeHybridForCausalLM, num_key_value_heads=2, **_MAMBA_2,
        layer_types=["mamba", "mamba", "attention"] * 2, num_local_experts=0,
        shared_intermediate_size=64, residual_multiplier=0.7,
    ),
    "lfm2": partial(
        small, hf.Lfm2ForCausalLM, num_key_value_heads=2,
        layer_types=["conv", "conv", "full_attention"] * 2, block_auto_adjust_ff_dim=False,
    ),
    "qwen3_next": partial(
        small, hf.Qwen3NextForCausalLM, num_key_value_heads=2, head_dim=16, layer_types=_BY_TURNS,
        linear_num_key_heads=2, linear_num_value_heads=4, linear_key_head_dim=8,
        linear_value_head_dim=8, num_experts=0, mlp_only_layers=list(range(LAYERS)),
    ),
    "mamba": partial(small, hf.MambaForCausalLM, state_size=8, time_step_rank=4),
    "mamba2": partial(
        small, hf.Mamba2ForCausalLM, state_size=8, num_heads=8, head_dim=8, n_groups=1, chunk_size=8
    ),
    "rwkv": partial(small, hf.RwkvForCausalLM, attention_hidden_size=32, rescale_every=0),
}  # fmt: skip


@cache
def family(name: str, attention: str = "sdpa") -> Any:
    """Return the fp32 model of a family; the same one at each call."""
    return weighted({**FAMILIES, **SEQUENTIAL}[name](attention))


@torch.no_grad()
def weighted(model: Any) -> Any:
    """Draw a model's weights anew; the same ones at each call."""
    generator = torch.Generator().manual_seed(0)
    for name, weight in model.named_parameters():
        drawn = torch.randn(weight.shape, generator=generator)
        if weight.ndim == 1 or "norm" in name:
            weight.add_(drawn * 0.1)
        else:
            weight.copy_(drawn * 0.25)
    return model.eval()
