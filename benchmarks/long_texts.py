"""What long texts take: memory and time beside the bare Hugging Face model, each in a process.

    python benchmarks/long_texts.py                 # all cases
    python benchmarks/long_texts.py --only freeze   # those whose name has this in it
    python benchmarks/long_texts.py --growth        # how time grows from 8,192 tokens to 16,384
    python benchmarks/long_texts.py --masks         # masks made against masks that are not

Random models (fp32, 2 threads): a Llama of 16 layers and one with sliding windows. Each case runs
in a fresh process, once on impasto and once on the bare model, and what memory rises by while it
runs is compared: at most 1.2 times as much where the plan is the model itself, twice where rows
stand there twice, as earlier and as current ones. Exits with 1 where a bound is missed.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM

import impasto
from impasto import Plan
from impasto.run.execute import frames
from impasto.speed.memory import peak_memory

LAYERS, WINDOW, VOCABULARY = 16, 1024, 97
BARE, FREEZE = "0-15", "0-7 freeze 8-15"
CPU = torch.device("cpu")

Work = Callable[[Any, list[int]], Any]


@dataclass(frozen=True)
class Case:
    """One thing that is measured.

    Attributes:
        name: What it is called.
        tokens: How long the text is.
        ours: What impasto runs, given a Hugging Face model and token ids.
        stock: What the bare model runs.
        most: How many times the bare model's memory it may take.
        kind: Which model.
    """

    name: str
    tokens: int
    ours: Work
    stock: Work
    most: float
    kind: str = "llama"


def forward(hf: Any, ids: list[int]) -> Any:
    """Return the logits of every token."""
    return hf(torch.tensor([ids]), use_cache=False).logits


def written(hf: Any, ids: list[int]) -> Any:
    """Return two new tokens."""
    given = torch.tensor([ids])
    options = {"max_new_tokens": 2, "do_sample": False, "pad_token_id": 0}
    return hf.generate(given, attention_mask=torch.ones_like(given), **options)


def applied(plan: str, work: Work) -> Work:
    """Return some work of a Hugging Face model under a plan."""

    def run(hf: Any, ids: list[int]) -> Any:
        with impasto.apply(hf, Plan.parse(plan, layers=LAYERS)):
            return work(hf, ids)

    return run


def generated(plan: str) -> Work:
    """Return what impasto's own `generate` runs."""

    def run(hf: Any, ids: list[int]) -> Any:
        parsed = Plan.parse(plan, layers=LAYERS)
        return impasto.load(hf).generate(parsed, [ids], max_new_tokens=2)

    return run


def next_logits(plan: str) -> Work:
    """Return what `next_logits` runs."""

    def run(hf: Any, ids: list[int]) -> Any:
        return impasto.load(hf).next_logits(Plan.parse(plan, layers=LAYERS), torch.tensor([ids]))

    return run


def scored(plan: str, choices: int = 1) -> Work:
    """Return what scoring continuations of 64 tokens runs, which share what is before them."""

    def run(hf: Any, ids: list[int]) -> Any:
        ends = [[(token + turn) % VOCABULARY for token in ids[-64:]] for turn in range(choices)]
        requests: list[Any] = [(ids[:-64], end) for end in ends]
        return impasto.load(hf).loglikelihood(Plan.parse(plan, layers=LAYERS), requests)

    return run


CASES = [
    Case("generate, bare", 32768, generated(BARE), written, 1.2),
    Case("next_logits, bare", 32768, next_logits(BARE), forward, 1.2),
    Case("score 64, bare", 32768, scored(BARE), forward, 1.2),
    Case("apply and forward, bare", 32768, applied(BARE, forward), forward, 1.2),
    Case("apply and generate, bare", 32768, applied(BARE, written), written, 1.2),
    Case("generate, windows, bare", 32768, generated(BARE), written, 1.2, "mistral"),
    Case("apply and forward, freeze", 16384, applied(FREEZE, forward), forward, 2),
    Case("apply and generate, freeze", 16384, applied(FREEZE, written), written, 2),
    Case("generate, freeze", 16384, generated(FREEZE), written, 2),
    Case("next_logits, freeze", 16384, next_logits(FREEZE), forward, 2),
    Case("score 64, freeze", 16384, scored(FREEZE), forward, 2),
    Case("score 64 four times, freeze", 16384, scored(FREEZE, 4), forward, 2),
    Case("score 64 four times, bare", 16384, scored(BARE, 4), forward, 2),
    Case("score 64, noise", 16384, scored("0-7 noise(gaussian) 8-15"), forward, 2),
    Case("score 64, parallel", 16384, scored("0-3 [4-11] 12-15"), forward, 2),
    Case("score 64 four times, windows, freeze", 16384, scored(FREEZE, 4), forward, 2, "mistral"),
    Case(
        "apply and forward, windows, freeze", 16384, applied(FREEZE, forward), forward, 2, "mistral"
    ),
]  # fmt: skip

GROWING = ("apply and forward, bare", "apply and forward, freeze", "score 64, freeze",
           "score 64 four times, freeze", "generate, freeze")  # fmt: skip


def model(kind: str) -> Any:
    """Return a random model."""
    torch.manual_seed(0)
    shape: dict[str, Any] = {
        "vocab_size": VOCABULARY, "hidden_size": 32, "intermediate_size": 48,
        "num_hidden_layers": LAYERS, "num_attention_heads": 2, "num_key_value_heads": 1,
        "max_position_embeddings": 65536, "bos_token_id": None, "eos_token_id": None,
        "pad_token_id": None,
    }  # fmt: skip
    if kind == "mistral":
        return MistralForCausalLM(MistralConfig(**shape, sliding_window=WINDOW)).eval()
    return LlamaForCausalLM(LlamaConfig(**shape)).eval()


def measured(case: Case, who: str, tokens: int, threads: int) -> dict[str, float]:
    """Run one side of a case in this process; return bytes and seconds."""
    torch.set_num_threads(threads)
    hf = model(case.kind)
    impasto.load(hf)
    ids = torch.randint(3, VOCABULARY, (tokens,)).tolist()
    work = case.ours if who == "impasto" else case.stock
    with torch.no_grad():
        forward(hf, ids[:100])
        decoding = time.perf_counter()
        rises = peak_memory(lambda: work(hf, ids), CPU)
    assert rises is not None, "peaks are read on Linux"
    return {"bytes": rises, "seconds": time.perf_counter() - decoding}


def apart(case: Case, who: str, tokens: int, threads: int) -> dict[str, float]:
    """Run one side of a case in a fresh process."""
    asked = json.dumps([case.name, who, tokens, threads])
    ended = subprocess.run(
        [sys.executable, __file__, "--one", asked], capture_output=True, text=True, check=False
    )
    if ended.returncode:
        raise SystemExit(f"{case.name}, {who}: {ended.stderr}")
    return json.loads(ended.stdout.splitlines()[-1])


def main() -> int:
    """Measure and print; return 0 if all bounds are kept."""
    parser = argparse.ArgumentParser(description="See the head of this file.")
    parser.add_argument("--only", default="")
    parser.add_argument("--growth", action="store_true")
    parser.add_argument("--masks", action="store_true")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        name, who, tokens, threads = json.loads(given.one)
        case = next(case for case in CASES if case.name == name)
        print(json.dumps(measured(case, who, tokens, threads)))
        return 0
    if given.masks:
        torch.set_num_threads(given.threads)
        return both_ways()
    chosen = [case for case in CASES if given.only in case.name]
    print(f"{LAYERS} layers, {given.threads} threads, torch {torch.__version__}")
    kept = [(grown if given.growth else beside)(case, given.threads) for case in chosen]
    return 0 if all(kept) else 1


def beside(case: Case, threads: int) -> bool:
    """Measure a case on both sides and print it; return whether its bound is kept."""
    ours, stock = (apart(case, who, case.tokens, threads) for who in ("impasto", "stock"))
    ratio = ours["bytes"] / stock["bytes"]
    print(
        f"{case.name:36} {case.tokens:6}: {ours['bytes'] / 2**20:7.0f} MiB of "
        f"{stock['bytes'] / 2**20:7.0f}, {ratio:5.2f} (at most {case.most}); "
        f"{ours['seconds']:6.1f} s of {stock['seconds']:6.1f}  "
        f"{'kept' if ratio <= case.most else 'MISSED'}",
        flush=True,
    )
    return ratio <= case.most


def grown(case: Case, threads: int) -> bool:
    """Measure how time grows with twice the tokens; return whether ours grows no faster."""
    if case.name not in GROWING:
        return True
    factors = []
    for who in ("impasto", "stock"):
        few, many = (apart(case, who, tokens, threads)["seconds"] for tokens in (8192, 16384))
        factors.append(many / few)
    is_kept = factors[0] <= 1.25 * factors[1]  # times differ by as much from run to run
    print(
        f"{case.name:36} twice the tokens: {factors[0]:.2f} times as long, stock {factors[1]:.2f}  "
        f"{'kept' if is_kept else 'MISSED'}",
        flush=True,
    )
    return is_kept


def both_ways() -> int:
    """Time scoring with whole masks and with none, for `frames.NUMBERS_OF_A_MASK`."""
    hf = model("llama")
    for tokens in (256, 512, 1024, 2048, 4096):
        ids = torch.randint(3, VOCABULARY, (tokens,)).tolist()
        told = []
        for name in ("score 64, freeze", "score 64 four times, freeze"):
            case = next(case for case in CASES if case.name == name)
            seconds: dict[int, list[float]] = {0: [], 2**40: []}
            for _ in range(5):
                for numbers, took in seconds.items():
                    frames.NUMBERS_OF_A_MASK = numbers
                    decoding = time.perf_counter()
                    case.ours(hf, ids)
                    took.append(time.perf_counter() - decoding)
            blocks, whole = (min(took[1:]) for took in seconds.values())
            told.append(f"{name}: {blocks:.3f} s by blocks, {whole:.3f} s with whole masks")
        print(f"{tokens:5} tokens ({tokens**2 / 2**20:5.2f} Mi numbers): {'; '.join(told)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
