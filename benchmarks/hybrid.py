"""A sweep over layer plans on a hybrid, against HFLM on models whose layers are edited by hand.

    python benchmarks/hybrid.py                 # a minute or two on two cores
    python benchmarks/hybrid.py --family qwen3_next

A hybrid's layers carry a state, so a sequence runs as it is, and what is shared is read once: the
question before its four choices, and the layers that plans begin with. 40 plans (each layer left
out, neighbours swapped, a layer run twice) × 16 questions with four choices each; random weights
and tokens, fp32, 16 layers, 1 thread unless told. The peer runs plan after plan in the same run,
and every answer of it is compared. Exits with 1 if any differs by more than 1e-3 nats.
"""

import argparse
import sys
import time
from collections.abc import Iterator

import torch
import transformers as hf

import impasto
from impasto import Plan
from impasto.speed.machine import machine
from peers import edited, harness_of, scores

LAYERS, QUESTIONS, CHOICES, TARGET, LIMIT = 16, 16, 4, 3.0, 1e-3
SMALL = {
    "vocab_size": 4096, "hidden_size": 256, "intermediate_size": 688, "num_hidden_layers": LAYERS,
    "num_attention_heads": 8, "num_key_value_heads": 2, "max_position_embeddings": 1024,
    "pad_token_id": 0, "bos_token_id": None, "eos_token_id": None,
}  # fmt: skip


def model_of(family: str) -> hf.PreTrainedModel:
    """Return a small random hybrid: three layers with a state, then one with attention."""
    torch.manual_seed(0)
    if family == "granite":
        kinds = (["mamba"] * 3 + ["attention"]) * (LAYERS // 4)
        config = hf.GraniteMoeHybridConfig(
            **SMALL, layer_types=kinds, num_local_experts=0, shared_intermediate_size=688,
            mamba_n_heads=8, mamba_d_head=64, mamba_d_state=64, mamba_chunk_size=64,
        )  # fmt: skip
        return hf.GraniteMoeHybridForCausalLM(config).eval()
    config = hf.Qwen3NextConfig(
        **SMALL, head_dim=32, linear_num_key_heads=4, linear_num_value_heads=8,
        linear_key_head_dim=32, linear_value_head_dim=32, num_experts=0,
        mlp_only_layers=list(range(LAYERS)),
    )  # fmt: skip
    return hf.Qwen3NextForCausalLM(config).eval()


def orders() -> Iterator[list[int]]:
    """Yield the layers of 40 plans."""
    every = list(range(LAYERS))
    for at in every:
        yield [layer for layer in every if layer != at]
    for at in every[:-1]:
        yield [*every[:at], at + 1, at, *every[at + 2 :]]
    for at in every[1:10]:
        yield [*every[:at], at, *every[at:]]


def questions() -> list[tuple[list[int], list[int]]]:
    """Return questions of 60 to 100 tokens, each with four choices of 3 to 10."""
    seed = torch.Generator().manual_seed(1)

    def drawn(least: int, most: int) -> list[int]:
        count = int(torch.randint(least, most + 1, (), generator=seed))
        return torch.randint(3, SMALL["vocab_size"], (count,), generator=seed).tolist()

    asked = [drawn(60, 100) for _ in range(QUESTIONS)]
    return [(question, drawn(3, 10)) for question in asked for _ in range(CHOICES)]


def main() -> int:
    """Measure and print; return 0 if all answers agree."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--family", choices=["granite", "qwen3_next"], default="granite")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--peer-every", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    print(machine(torch.device("cpu")), flush=True)
    source = model_of(given.family)
    model, inputs, every = impasto.load(source), questions(), list(orders())
    plans = [Plan.parse(" ".join(map(str, order)), layers=LAYERS) for order in every]
    model.loglikelihood(plans[:2], inputs[:CHOICES])  # to warm up
    begin = time.perf_counter()
    own = model.loglikelihood(plans, inputs)
    own_seconds = time.perf_counter() - begin
    chosen, peer_seconds, worst = range(0, len(plans), given.peer_every), 0.0, 0.0
    for index in chosen:
        layers = list(source.model.layers)
        order = every[index]
        harness = harness_of(edited(source, lambda _: [layers[each] for each in order]))  # noqa: B023
        begin = time.perf_counter()
        answers = scores(harness, inputs)
        peer_seconds += time.perf_counter() - begin
        apart = (abs(a - b) for (a, _), b in zip(own[index], answers, strict=True))
        worst = max(worst, *apart)
    peer_seconds *= len(plans) / len(chosen)
    ratio = peer_seconds / own_seconds
    print(
        f"{type(source).__name__}: {len(plans)} plans x {QUESTIONS} questions of {CHOICES} choices"
    )
    print(f"impasto {own_seconds:.1f} s, HFLM in a loop {peer_seconds:.1f} s "
          f"({len(chosen)} of {len(plans)} plans timed)")  # fmt: skip
    print(f"ratio   {ratio:.1f} x (at least {TARGET:g} x)")
    print(f"largest difference {worst:.1e} nats (limit {LIMIT:g})")
    return 0 if worst <= LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
