"""What plans cost in a model under `impasto.apply`, in shares of what the bare model costs.

    python benchmarks/plan_cost.py

A random Llama (16 layers, hidden 512, fp32, 2 threads) reads prompts and decodes behind them: bare,
and under each plan. All of them take turns in every round, so that drift of the machine falls on
all alike; what is printed is the median of the rounds' ratios, with its quartiles, beside the
target. Exits with 1 where one is missed.

    every row    the states of all tokens at the last depth, without the head
    prefill      a prompt read into a cache, and the logits after its last token
    decode       one token behind such a prompt
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

import impasto
from impasto import Plan

LAYERS, HIDDEN, INNER, HEADS = 16, 512, 1376, 8
PROPORTION = 0.05  # how far a ratio of times may be from that of operations

Work = Callable[[LlamaForCausalLM, torch.Tensor], Callable[[], Any]]


@dataclass(frozen=True)
class Target:
    """A plan's share of the bare model's time.

    Attributes:
        plan: The plan.
        most: The largest share that is good.
        least: The smallest.
        stack: Whether the weights of its parallel layers are stacked.
    """

    plan: str
    most: float
    least: float = 0.0
    stack: bool = False


def main() -> int:
    """Measure and print; return 0 if all targets are reached."""
    parser = argparse.ArgumentParser(description="See the head of this file.")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--tokens", type=int, default=512, help="where every row runs")
    parser.add_argument("--prompt", type=int, default=1024, help="where a prompt is read")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    hf = random_llama()
    print(f"{LAYERS} layers, hidden {HIDDEN}, {given.threads} threads, torch {torch.__version__}")
    ids = torch.randint(hf.config.vocab_size, (1, given.prompt))
    shorter = ids[:, : given.tokens]
    identity = Target(f"0-{LAYERS - 1}", 1.03)
    results = [
        measure("every row", every_row, hf, shorter, [
            identity, Target("0-7", 0.53),
            in_proportion("0-9 10-15.mlp", given.tokens),
            in_proportion("0-9 10-15.attn", given.tokens),
        ], given.rounds),
        measure("prefill", prefill, hf, ids, [
            identity, Target("0-7", 0.53), Target("0-7 freeze 8-15", 0.62),
        ], given.rounds),
        measure("decode", decode, hf, ids, [
            identity, Target("0-7", 0.53), Target("0-7 freeze 8-15", 1.0),
            Target("0-1 [2-13] 14-15", 1.05), Target("0-1 [2-13] 14-15", 0.9, stack=True),
        ], given.rounds),
        cache_bytes(hf, shorter, [
            "0-15", "0-7", "0-9 10-15.mlp", "0-9 10-15.attn", "0-7 freeze 8-15", "0-3 [4-11]*2 15",
        ]),
    ]  # fmt: skip
    return 0 if all(results) else 1


def random_llama() -> LlamaForCausalLM:
    """Return the model."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=8192, hidden_size=HIDDEN, intermediate_size=INNER, num_hidden_layers=LAYERS,
        num_attention_heads=HEADS, max_position_embeddings=4096,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


def in_proportion(line: str, tokens: int) -> Target:
    """Return the target of a plan that is to take its share of operations."""
    scores = 2 * 2 * HIDDEN * (tokens + 1) / 2  # of each row with the keys that it sees
    parts = {"attention": 2 * 4 * HIDDEN**2 + scores, "mlp": 2 * 3 * HIDDEN * INNER}
    parts["block"] = parts["attention"] + parts["mlp"]
    steps: Any = Plan.parse(line, layers=LAYERS).steps
    share = sum(parts[step.part] for step in steps) / (LAYERS * parts["block"])
    return Target(line, share * (1 + PROPORTION), share * (1 - PROPORTION))


# ---------------------------------------------------------------------- what is timed


def every_row(hf: LlamaForCausalLM, ids: torch.Tensor) -> Callable[[], Any]:
    """Return work that runs all rows."""
    return lambda: hf.model(ids, use_cache=False)


def prefill(hf: LlamaForCausalLM, ids: torch.Tensor) -> Callable[[], Any]:
    """Return work that reads a prompt."""
    return lambda: hf(ids, use_cache=True, logits_to_keep=1)


def decode(hf: LlamaForCausalLM, ids: torch.Tensor) -> Callable[[], Any]:
    """Return work that reads one token more, behind a prompt that has been read."""
    cache = hf(ids, use_cache=True, logits_to_keep=1).past_key_values
    return lambda: hf(ids[:, :1], past_key_values=cache, use_cache=True, logits_to_keep=1)


def applied(hf: LlamaForCausalLM, target: Target | None) -> AbstractContextManager[object]:
    """Return a context in which a model runs a target's plan; bare without one."""
    if target is None:
        return nullcontext()
    plan = Plan.parse(target.plan, layers=LAYERS)
    return impasto.apply(hf, plan, stack=target.stack)


@torch.no_grad()
def measure(
    name: str,
    work: Work,
    hf: LlamaForCausalLM,
    ids: torch.Tensor,
    targets: Sequence[Target],
    rounds: int,
) -> bool:
    """Time some work bare and under plans, in turns; return whether all targets are reached."""
    cases = [None, *targets]
    times: list[list[float]] = [[] for _ in cases]
    works = []
    for case in cases:
        with applied(hf, case):
            works.append(work(hf, ids))
    repeat = 16 if name == "decode" else 1
    for turn in range(-2, rounds):
        for case, mine, taken in zip(cases, works, times, strict=True):
            with applied(hf, case):
                begin = time.perf_counter()
                for _ in range(repeat):
                    mine()
                if turn >= 0:
                    taken.append((time.perf_counter() - begin) / repeat)
    bare = times[0]
    print(f"\n{name}, {ids.shape[1]} tokens: bare {statistics.median(bare) * 1e3:.2f} ms")
    reached = True
    for target, taken in zip(targets, times[1:], strict=True):
        ratios = [one / other for one, other in zip(taken, bare, strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4)
        is_good = target.least <= middle <= target.most
        reached = reached and is_good
        wanted = f"at most {target.most:.3f}"
        if target.least:
            wanted = f"{target.least:.3f} to {target.most:.3f}"
        told = f"{middle:.3f} [{low:.3f}, {high:.3f}]"
        name = f"{target.plan} stacked" if target.stack else target.plan
        print(f"  {name:24} {told:24} {wanted:16} {'ok' if is_good else 'missed'}")
    return reached


@torch.no_grad()
def cache_bytes(hf: LlamaForCausalLM, ids: torch.Tensor, lines: Sequence[str]) -> bool:
    """Print what caches grow by with a token, in memory; return whether all is due."""
    each, half = 2 * HIDDEN * hf.dtype.itemsize, ids.shape[1] // 2
    print("\nbytes of keys and values for a token, as they lie in memory")
    reached = True
    for line in lines:
        plan = Plan.parse(line, layers=LAYERS)
        with impasto.apply(hf, plan):
            shorter, longer = (
                held_bytes(prefill(hf, part)().past_key_values) for part in (ids[:, :half], ids)
            )
        count = plan.occurrences.attention
        found, due = (longer - shorter) / (ids.shape[1] - half), each * count
        reached = reached and found == due
        told = f"{count} × {each}"
        print(f"  {line:24} {found:8.0f} {told:16} {'ok' if found == due else 'missed'}")
    return reached


def held_bytes(cache: Any) -> int:
    """Return the memory behind the keys and values of a cache, the ledger's tokens left out."""
    storages = [
        one.untyped_storage() for layer in cache.layers[1:] for one in (layer.keys, layer.values)
    ]
    return sum({each.data_ptr(): each.nbytes() for each in storages}.values())


if __name__ == "__main__":
    sys.exit(main())
