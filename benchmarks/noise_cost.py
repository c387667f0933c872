"""What a noise marker costs, against the layer that follows it.

    python benchmarks/noise_cost.py [--device cuda] [--hidden 4096]

Both run on the same rows of a random Llama layer, in turns; what is printed is the noise's time as
a share of the layer's, at batches of realistic size.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from impasto.model.decoder import open_model
from impasto.run.noise import NoiseSource, noise, prefix_keys

LIMIT = 0.05


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="See the head of this file.")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--hidden", type=int, default=2048)
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args()
    config = LlamaConfig(
        vocab_size=64, hidden_size=given.hidden, intermediate_size=given.hidden * 43 // 16,
        num_hidden_layers=1, num_attention_heads=given.hidden // 64, max_position_embeddings=2048,
    )  # fmt: skip
    dtype = torch.bfloat16 if given.device == "cuda" else torch.float32
    hf = LlamaForCausalLM(config).eval()
    hf = hf.to(device=given.device, dtype=dtype)  # type: ignore[arg-type]
    model = open_model(hf)
    for batch, tokens in ((8, 256), (2, 1024)):
        ids = torch.randint(64, (batch, tokens), device=given.device)
        entered = model.enter(ids, torch.arange(tokens, device=given.device).expand_as(ids))
        real, none = torch.ones_like(ids, dtype=torch.bool), ids.new_zeros(batch)
        keys = prefix_keys(ids, real, none, none)[0]
        for kind in ("shuffle", "gaussian"):
            source = NoiseSource(kind, seed=0, depth=1, number=0)  # type: ignore[arg-type]
            shares, layers = [], []
            for _ in range(given.rounds):
                drawn = _seconds(lambda k=keys, s=source, e=entered: noise(e.states, k, s))
                layer = _seconds(lambda e=entered: model.blocks[0](e.states, e.arguments[0]))
                shares.append(drawn / layer)
                layers.append(layer)
            share = statistics.median(shares[1:])
            print(f"hidden {given.hidden}, {batch} × {tokens} tokens, {kind:8} "
                  f"layer {statistics.median(layers) * 1e3:7.1f} ms   noise {share:6.1%} of it   "
                  f"{'ok' if share < LIMIT else f'above {LIMIT:.0%}'}")  # fmt: skip


@torch.no_grad()
def _seconds(work: Callable[[], torch.Tensor]) -> float:
    begin = time.perf_counter()
    if work().is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - begin


if __name__ == "__main__":
    main()
