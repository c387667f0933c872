"""What the identity plan costs under `impasto.apply`: the same model, bare and applied, in turns.

    python benchmarks/apply_overhead.py

A random Llama (16 layers, hidden 512) runs a forward over 8 × 256 tokens, and decodes with its
cache behind a prompt of 256 tokens. Bare and applied runs alternate, so that drift of the machine
falls on both; what is printed is the median of the paired ratios, with its quartiles. Logits and
tokens are compared in the same run.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from transformers import LlamaConfig, LlamaForCausalLM

import impasto
from impasto import Plan

LIMIT = 1.03


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="See the head of this file.")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args()
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=8192, hidden_size=512, intermediate_size=1376, num_hidden_layers=16,
        num_attention_heads=8, max_position_embeddings=1024,
    )  # fmt: skip
    hf = LlamaForCausalLM(config).eval().to(given.device)
    plan = Plan.identity(config.num_hidden_layers)
    many = torch.randint(8192, (8, 256), device=given.device)
    print(f"{config.num_hidden_layers} layers, hidden {config.hidden_size}, {given.device}, "
          f"{torch.get_num_threads()} threads, torch {torch.__version__}")  # fmt: skip
    _compare("forward, 8 × 256 tokens", hf, plan, lambda: hf(many).logits, given.rounds)
    for batch in (1, 8):
        _compare(
            f"decode 24 tokens after 256, batch {batch}",
            hf,
            plan,
            lambda rows=many[:batch]: _decode(hf, rows, 24),
            given.rounds,
        )


@torch.no_grad()
def _compare(what: str, hf: LlamaForCausalLM, plan: Plan, work: Callable[[], torch.Tensor],
             rounds: int) -> None:  # fmt: skip
    def timed() -> tuple[float, torch.Tensor]:
        begin = time.perf_counter()
        result = work()
        if result.is_cuda:
            torch.cuda.synchronize()
        return time.perf_counter() - begin, result

    timed()
    ratios, bare_times = [], []
    for turn in range(rounds):
        with impasto.apply(hf, plan):
            if turn == 0:
                timed()
            applied, found = timed()
        bare, own = timed()
        assert torch.equal(found, own), "the identity plan changed something"
        ratios.append(applied / bare)
        bare_times.append(bare)
    low, middle, high = statistics.quantiles(ratios, n=4)
    verdict = "ok" if middle <= LIMIT else f"above {LIMIT}"
    print(f"{what:34} bare {statistics.median(bare_times) * 1e3:7.1f} ms   "
          f"applied / bare {middle:.3f} [{low:.3f}, {high:.3f}]   {verdict}")  # fmt: skip


def _decode(hf: LlamaForCausalLM, ids: torch.Tensor, count: int) -> torch.Tensor:
    """Return the greedy tokens of a cached decoding loop."""
    out = hf(ids, use_cache=True)
    new = [out.logits[:, -1:].argmax(-1)]
    for _ in range(count - 1):
        out = hf(new[-1], past_key_values=out.past_key_values, use_cache=True)
        new.append(out.logits[:, -1:].argmax(-1))
    return torch.cat(new, 1)


if __name__ == "__main__":
    main()
