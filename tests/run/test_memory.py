"""The memory that an estimate tells is what the bytes of live tensors come to."""

import random
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

import impasto
from impasto import Plan, strategies
from impasto.run.batching.live_bytes import LiveBytes
from thinning import thinned

DRAW = random.Random(0)
FREEZE = [strategies.freeze(6, k) for k in range(7)]
MIXED = [
    *FREEZE,
    *(strategies.gaussian(6, k) for k in range(1, 6)),
    *(strategies.drop_last(6, part, 3) for part in ("attention", "mlp", "block")),
]
LOOPS = [Plan.parse(f"0 [1-4]*{n} 5") for n in range(1, 6)]


def draw(count):
    return DRAW.choices(range(3, 500), k=count)


def questions(count, length, shared=()):
    asked = [[*shared, *draw(length)] for _ in range(count)]
    return [(question, draw(5)) for question in asked for _ in range(4)]


def llama(dtype=torch.float32, hidden=128, inner=256):
    config = LlamaConfig(
        hidden_size=hidden, intermediate_size=inner, num_hidden_layers=6, vocab_size=500,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=4096,
    )  # fmt: skip
    made: Any = LlamaForCausalLM(config).to
    return made(dtype).eval().requires_grad_(False)


FEW_SHOT = draw(400)
SETTINGS = {
    "choices": ("scoring", [Plan.identity(6)], questions(12, 120), {}),
    "choices, frozen": ("scoring", FREEZE, questions(12, 120), {}),
    "choices, several kinds of plans": ("scoring", MIXED, questions(12, 120), {}),
    "loops": ("scoring", LOOPS, questions(12, 120), {}),
    "a few-shot prompt": ("scoring", MIXED, questions(16, 60, draw(500)), {}),
    "whole texts": ("scoring", MIXED, [(draw(1), draw(300)) for _ in range(8)], {}),
    "a wide MLP": ("scoring", MIXED, questions(12, 120), {"hidden": 64, "inner": 1024}),
    "half precision": ("scoring", MIXED, questions(12, 120), {"dtype": torch.bfloat16}),
    "one long text": ("scoring", MIXED, [(draw(1500), draw(20))], {}),
    "fidelity": ("fidelity", MIXED, [draw(200) for _ in range(8)], {}),
    "texts": ("generating", MIXED, [draw(60) for _ in range(16)], {}),
    "texts behind a few-shot prompt": (
        "generating", [Plan.identity(6)], [[*FEW_SHOT, *draw(40)] for _ in range(16)], {},
    ),
}  # fmt: skip


@pytest.mark.parametrize("setting", thinned(SETTINGS))
def test_the_estimate_is_within_a_tenth_of_what_is_counted(setting):
    kind, plans, given, sizes = SETTINGS[setting]
    hf = llama(**sizes)
    model = impasto.load(hf)
    model.memory = 2**30
    ask = {
        "scoring": model.loglikelihood,
        "fidelity": model.fidelity,
        "generating": lambda plans, given: model.generate(plans, given, max_new_tokens=8),
    }[kind]
    further = (8,) if kind == "generating" else ()
    told = getattr(model, f"{kind}_cost")
    estimate = told(plans, given, *further).peak_bytes
    ask(plans, given[:2])
    with LiveBytes([*hf.parameters(), *hf.buffers()]) as live:
        ask(plans, given)
    assert live.most == pytest.approx(estimate, rel=0.11)
