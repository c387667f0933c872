"""What freeze(prompt) saves: prefill and decoding against the unmodified model, in turns.

    python benchmarks/prompt.py [--rounds 6]

A random Llama of 16 layers reads 1,024 tokens and then one by one, bare and under
`impasto.apply` with `0-7 freeze(prompt) 8-15`. Prints medians of the ratios within each round.
"""

import argparse
import time
from statistics import median
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

import impasto
from impasto import Plan

TOKENS, NEW = 1_024, 12
PLAN = "0-7 freeze(prompt) 8-15"


@torch.no_grad()
def timed(hf: Any, ids: torch.Tensor) -> tuple[float, float]:
    """Return the seconds of the prefill, and the median of those of a token more."""
    begin = time.perf_counter()
    out = hf(ids, use_cache=True, logits_to_keep=1)
    prefill, steps = time.perf_counter() - begin, []
    for _ in range(NEW):
        begin = time.perf_counter()
        out = hf(ids[:, :1], past_key_values=out.past_key_values, use_cache=True)
        steps.append(time.perf_counter() - begin)
    return prefill, median(steps)


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description="See the head of this file.")
    parser.add_argument("--rounds", type=int, default=6)
    rounds = parser.parse_args().rounds
    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=512, intermediate_size=1_376, num_hidden_layers=16, num_attention_heads=8,
        vocab_size=2_000, max_position_embeddings=2_048,
    )  # fmt: skip
    hf = LlamaForCausalLM(config).eval()
    ids = torch.randint(3, 2_000, (1, TOKENS))
    plan, ratios = Plan.parse(PLAN), []
    for _ in range(rounds + 1):  # the first warms up
        bare = timed(hf, ids)
        with impasto.apply(hf, plan):
            own = timed(hf, ids)
        ratios.append([mine / other for mine, other in zip(own, bare, strict=True)])
    for name, each in zip(("prefill", "a token more"), zip(*ratios[1:], strict=True), strict=True):
        print(f"{name:14}{median(each):.3f} of the bare model's")


if __name__ == "__main__":
    main()
