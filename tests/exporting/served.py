"""Models and readers for what engines serve: small models with a real tokenizer."""

from functools import cache
from importlib.util import find_spec
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor

import impasto
from impasto.plan import Plan

SIZES: dict[str, Any] = {
    "vocab_size": 1536,
    "hidden_size": 64,
    "intermediate_size": 256,
    "num_hidden_layers": 6,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "initializer_range": 0.2,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": None,
}
IDS = [272, 273, 268, 281, 279, 280, 687, 269, 271, 5, 1200, 31]
needs_llama_cpp = pytest.mark.skipif(
    find_spec("llama_cpp") is None, reason="llama-cpp-python is not installed"
)


@cache
def demo() -> Any:
    return impasto.load("demo")


def small(name: str, **special: Any) -> Any:
    """Return a small random model of a class, opened, with the demo's tokenizer."""
    kind = getattr(transformers, name)
    torch.manual_seed(0)
    attention = "eager" if "Gemma2" in name else "sdpa"
    config = kind.config_class(**SIZES | special, attn_implementation=attention)
    return impasto.load(kind(config).eval(), tokenizer=demo().tokenizer)


@torch.no_grad()
def plan_logits(model: Any, line: str) -> Tensor:
    """Return the plan's logits after each token of ``IDS``."""
    with impasto.apply(model.hf, Plan.parse(line)):
        return model.hf(torch.tensor([IDS]), use_cache=False).logits[0]
