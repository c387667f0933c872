"""Small random models of each family, with weights large enough that every edit shows."""

from collections.abc import Callable
from functools import cache
from typing import Any

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


def _llama() -> Any:
    return hf.LlamaForCausalLM(hf.LlamaConfig(**_SMALL, num_key_value_heads=2))


def _gpt2() -> Any:
    names = {"vocab_size", "bos_token_id", "eos_token_id", "pad_token_id"}
    shared = {name: value for name, value in _SMALL.items() if name in names}
    config = hf.GPT2Config(**shared, n_embd=32, n_layer=LAYERS, n_head=4, n_positions=128)
    return hf.GPT2LMHeadModel(config)


def _gpt_neox() -> Any:
    return hf.GPTNeoXForCausalLM(hf.GPTNeoXConfig(**_SMALL))


FAMILIES: dict[str, Callable[[], Any]] = {"llama": _llama, "gpt2": _gpt2, "gpt_neox": _gpt_neox}


@cache
def family(name: str, attention: str = "sdpa") -> Any:
    """Return the fp32 model of a family; the same one at each call."""
    torch.manual_seed(0)
    model = FAMILIES[name]().eval()
    model.set_attn_implementation(attention)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim > 1:
                weight.normal_(std=0.25)
            else:
                weight.add_(torch.randn_like(weight) * 0.1)
    return model
