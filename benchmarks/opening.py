"""How long it takes to open a model for plans: everything that is checked, on the model at hand.

    python benchmarks/opening.py                        # the shape of Llama-2-7B, on this machine
    python benchmarks/opening.py --device cuda          # asked: less than 2 s
    python benchmarks/opening.py --layers 4             # the same with fewer layers

The weights are random, in bf16. Printed: the time to open the model, to open it again after nothing
has changed (what every later call pays), and the memory that opening takes beside the weights.
"""

import argparse
import time
from typing import Any

import psutil
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from impasto.run.opening import opened

LLAMA_2_7B: dict[str, Any] = {
    "vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 11008,
    "num_attention_heads": 32, "num_hidden_layers": 32, "max_position_embeddings": 4096,
}  # fmt: skip


def main() -> None:
    """Build the model, open it twice, and print what that took."""
    parser = argparse.ArgumentParser(description="See the head of this file.")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--layers", type=int, default=LLAMA_2_7B["num_hidden_layers"])
    given = parser.parse_args()
    config = LlamaConfig(**LLAMA_2_7B | {"num_hidden_layers": given.layers})
    with torch.device(given.device):
        torch.set_default_dtype(torch.bfloat16)
        hf = LlamaForCausalLM(config).eval()
        torch.set_default_dtype(torch.float32)
    count = sum(weight.numel() for weight in hf.parameters())
    before = _memory(given.device)
    first = _seconds(hf, given.device)
    taken = (_memory(given.device) - before) / 2**20
    again = _seconds(hf, given.device)
    print(
        f"{count / 1e9:.2f}e9 parameters on {given.device}: opened in {first:.2f} s, again in "
        f"{again * 1e3:.1f} ms, {taken:.0f} MiB beside the weights"
    )


def _seconds(hf: LlamaForCausalLM, device: str) -> float:
    begin = time.perf_counter()
    opened(hf)
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - begin


def _memory(device: str) -> int:
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    return psutil.Process().memory_info().rss


if __name__ == "__main__":
    main()
