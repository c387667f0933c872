"""What sweeps over many plans cost, against running them one after the other.

    python benchmarks/sweep.py                   # all workloads: a quarter of an hour to an hour
    python benchmarks/sweep.py --only C,B        # some of them
    python benchmarks/sweep.py --growth          # how the time grows with plans and with layers
    python benchmarks/sweep.py --device cuda     # A and C on a model of Llama-2-7B's shape, bf16

Workloads (the papers' families; T=16 layers, hidden 256, fp32, random weights and tokens, 2
threads; questions of 256 tokens with four choices of 12 tokens):

    C           drop_last: attention, mlp, block × 0…8 layers × keep_last no, yes; 16 questions
    B           n = 1…7: skip, middle_repeat, reverse, random_order × 10, parallel,
                looped_parallel × 1…8; 8 questions
    A           freeze, shuffle, gaussian, drop_attention_from at every depth; 16 questions
    few-shot    C, with the same 512 tokens before every question
    generation  A's families on a small real model, 64 prompts of 64 tokens, 64 new tokens; needs
                models/stories260K and data/tinystories in the folder that IMPASTO_REAL_DATA names
                (default: ../shared)
    shots-generation  the same behind 320 tokens that all prompts begin with

Each runs against its peer (see peers.py), plan by plan, in the same run; every answer of the peer
is compared. A slow peer is timed on every second or fourth plan (`--peer-every`), evenly chosen
within each family by cost, and scaled by layer-rows. What is timed is the scoring or writing alone,
after a warm-up; loading models, editing them and setting up lm-eval is not.

Layer-rows: rows through whole layers; a row that needs only some of a layer's weights counts as
their share. Machine rate: what a loop of the same matrix products reaches here, and what the whole
run, all else included, reaches of it. Peak memory: beyond libraries and the loaded model, the
median of five processes of their own, for how a heap comes to lie differs from one to the next (on
a GPU: what torch allocates); for the peer on its costliest plan, or on all plans one after the
other where all are timed. In brackets, that of the whole process. Exits with 1 if answers differ.
"""

import argparse
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import torch

from growth import growth
from impasto.speed.machine import machine
from impasto.speed.memory import peak_memory, resident
from measures import Products, Shape, flops, layer_rows, machine_rate, seconds
from peers import BATCH, Answers, Input
from workloads import TARGETS, Workload, workload

MOST_MEMORY = 1.5
PROCESSES = 5  # in which memory is measured, each time anew


class Peak(NamedTuple):
    """The most memory that some work takes, in bytes; None where it cannot be told.

    Attributes:
        beyond: Beyond libraries and the loaded model.
        whole: All that the process has.
    """

    beyond: int | None
    whole: int | None


@dataclass(frozen=True)
class Multiplied:
    """The matrix products of a sweep, and how long they took."""

    calls: Counter[Shape]
    seconds: float


def main() -> int:
    """Measure and print; return 0 if all answers agree."""
    given = _arguments()
    torch.set_num_threads(given.threads)
    if given.inside:
        return _inside(given)
    print(machine(torch.device(given.device)), flush=True)
    if given.growth:
        growth(given.device, given.dtype, given.layers or 16, given.questions or 8)
        return 0
    agreed = [_run(name, given) for name in given.only]
    return 0 if all(agreed) else 1


# ---------------------------------------------------------------------- one workload


def _run(name: str, given: argparse.Namespace) -> bool:
    """Measure a workload and print what comes out; return whether all answers agree."""
    work = workload(name, given)
    if isinstance(work, str):
        print(f"\n{name}: skipped, for {work}", flush=True)
        return True
    hf, total = work.model.hf, len(work.cases)
    print(f"\n{name}: {total} plans × {len(work.inputs)} inputs, {hf.config.num_hidden_layers} "
          f"layers, {given.dtype}".replace("torch.", ""), flush=True)  # fmt: skip
    costs = _peer_costs(work)
    work.sweep(every=4, inputs=8)  # to warm up
    own_seconds, own = seconds(work.sweep, given.device)
    peer_seconds, chosen, apart = _timed_peer(work, costs, own, given.device)
    scaled = peer_seconds * sum(costs) / sum(costs[index] for index in chosen)
    products = _products_apart(name, work, given)
    costliest = [costs.index(max(costs))]
    peak = _peak_apart(name, work, None, given)
    peer_peak = _peak_apart(name, work, chosen if len(chosen) == total else costliest, given)

    _told_cost("impasto", own_seconds, layer_rows(products.calls, hf), peak)
    _told_cost("peer", scaled, sum(costs), peer_peak, work.peer_name)
    if len(chosen) < total:
        _line("", f"the peer ran {len(chosen)} of {total} plans, evenly chosen, in "
              f"{peer_seconds:.2f} s; scaled by layer-rows")  # fmt: skip
    ratio = scaled / own_seconds
    _line("ratio", f"{ratio:.1f} ×", f"at least {work.target} ×", ratio >= work.target)
    if peak.beyond is not None and peer_peak.beyond is not None:
        more = peak.beyond / peer_peak.beyond
        _line("memory", f"{more:.2f} × the peer's", f"at most {MOST_MEMORY} ×", more <= MOST_MEMORY)
    _told_products(work, products, given, own_seconds)
    agree = all(each <= work.limit for each in apart)
    _line("agreement", f"{len(apart)} answers of {len(chosen)} plans: {work.told(apart)}",
          f"limit {work.limit:g}", agree)  # fmt: skip
    return agree


def _peer_costs(work: Workload) -> list[float]:
    """Return the peer's layer-rows for each plan, in proportion to those of one short input."""
    rows = _rows([work.probe])
    costs = []
    for case in work.cases:
        with work.peer(work.model, case) as answers, Products() as products:
            answers([work.probe])
        costs.append(layer_rows(products.calls, work.model.hf) / rows * _rows(work.inputs))
    return costs


def _rows(inputs: Sequence[Input]) -> int:
    """Return how many tokens are read; the last one of each input is only predicted."""
    return sum(len(a) + (b if isinstance(b, int) else len(b)) - 1 for a, b in inputs)


def _timed_peer(
    work: Workload, costs: list[float], own: list[Answers], device: str
) -> tuple[float, list[int], list[float]]:
    """Return the peer's seconds, the plans that it ran, and how far each answer is from ours."""
    ordered = sorted(range(len(costs)), key=lambda i: (work.cases[i].family, costs[i]))
    chosen = sorted(ordered[min(work.peer_every, len(costs)) // 2 :: work.peer_every])
    spent, apart = 0.0, []
    for turn, index in enumerate(chosen):
        with work.peer(work.model, work.cases[index]) as answers:
            if turn == 0:
                answers(work.inputs[:BATCH])  # to warm up
            lasted, found = seconds(partial(answers, work.inputs), device)
        spent += lasted
        apart += map(work.differ, found, own[index])
    return spent, chosen, apart


def _told_products(
    work: Workload, products: Multiplied, given: argparse.Namespace, spent: float
) -> None:
    calls, vocabulary = products.calls, work.model.hf.config.vocab_size
    every = flops(calls)
    head = flops(Counter({shape: n for shape, n in calls.items() if shape[2] == vocabulary}))
    rate, rows = machine_rate(calls, given.device, given.dtype)
    share, alone = every / spent / rate, every / products.seconds / rate
    _line("products", f"{every / 1e12:.3f}e12 operations in linear layers and head (the head's "
          f"{head / every:.0%}); attention's own are not counted")  # fmt: skip
    _line("", f"{every / spent / 1e9:.1f}e9 a second of the whole run; the machine reaches "
          f"{rate / 1e9:.1f}e9")  # fmt: skip
    _line("", f"(in loops over {', '.join(f'{m} rows × {shape}' for shape, m in rows.items())})")
    bar = f"at least {work.least_share:.0%}" if work.least_share else ""
    _line("share", f"{share:.0%} of that; the products alone {alone:.0%}", bar,
          alone >= work.least_share)  # fmt: skip


def _told_cost(who: str, spent: float, rows: float, peak: Peak, remark: str = "") -> None:
    memory = "not measured" if peak.beyond is None else f"{peak.beyond / 1e6:,.0f} MB"
    if peak.whole is not None:
        memory += f" ({peak.whole / 1e6:,.0f} MB)"
    _line(who, f"{spent:10,.2f} s {rows:14,.0f} layer-rows {memory:>19} at peak   {remark}")


def _line(what: str, text: str, bar: str = "", holds: bool = True) -> None:
    verdict = f"   {bar}: {'ok' if holds else 'MISSED'}" if bar else ""
    print(f"  {what:10} {text.rstrip()}{verdict}", flush=True)


# ---------------------------------------------------------------------- in a process of its own


def _products_apart(name: str, work: Workload, given: argparse.Namespace) -> Multiplied:
    """Watch the sweep's products, which takes time and memory of its own."""
    calls, spent = _products(work) if given.device == "cuda" else _apart(name, "products")
    return Multiplied(Counter({(m, k, n): times for (m, k, n), times in calls}), spent)


def _peak_apart(
    name: str, work: Workload, plans: Sequence[int] | None, given: argparse.Namespace
) -> Peak:
    """Return the median of the engine's peaks, or of the peer's on some plans in turn."""
    if given.device == "cuda":
        return _peak(work, plans, given.device)
    side = "engine" if plans is None else ",".join(map(str, plans))
    return sorted(Peak(*_apart(name, side)) for _ in range(PROCESSES))[PROCESSES // 2]


def _apart(name: str, side: str) -> Any:
    command = [sys.executable, *sys.argv, "--inside", name, side]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def _inside(given: argparse.Namespace) -> int:
    """Print what `_apart` asks for."""
    name, side = given.inside
    work = workload(name, given)
    assert isinstance(work, Workload), work
    if side == "products":
        found: Any = _products(work)
    else:
        plans = None if side == "engine" else [int(index) for index in side.split(",")]
        found = _peak(work, plans, given.device)
    print(json.dumps(found))
    return 0


def _products(work: Workload) -> tuple[list[tuple[Shape, int]], float]:
    """Return the shapes of the sweep's products, how many are of each, and their seconds."""
    work.sweep(every=len(work.cases), inputs=1)
    with Products() as products:
        work.sweep()
    return list(products.calls.items()), products.seconds


def _peak(work: Workload, plans: Sequence[int] | None, device: str) -> Peak:
    """Return the peak of the sweep, or of the peer on some plans, one after the other."""

    def run(index: int, inputs: Sequence[Input]) -> None:
        with work.peer(work.model, work.cases[index]) as answers:
            answers(inputs)

    def run_all() -> None:
        for index in plans or []:
            run(index, work.inputs)

    if plans is None:
        work.sweep(every=len(work.cases), inputs=1)
    else:
        run(plans[0], [work.probe])
    beyond = peak_memory(work.sweep if plans is None else run_all, torch.device(device))
    is_told = device != "cuda" and beyond is not None
    return Peak(beyond, resident("VmHWM") if is_told else None)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="See the head of this file.")
    parser.add_argument("--only", help=f"workloads, with commas between: {','.join(TARGETS)}")
    parser.add_argument("--growth", action="store_true", help="measure growth instead")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--dtype", help="default: float32, on a GPU bfloat16")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--questions", type=int, help="or, in generation, prompts")
    parser.add_argument("--layers", type=int, help="T; the targets are for the default")
    parser.add_argument("--peer-every", type=int, help="time the peer on one plan in this many")
    parser.add_argument("--inside", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    on_gpu = given.device == "cuda"
    given.only = (given.only or ("C,A" if on_gpu else ",".join(TARGETS))).split(",")
    given.dtype = getattr(torch, given.dtype or ("bfloat16" if on_gpu else "float32"))
    if unknown := set(given.only) - TARGETS.keys():
        parser.error(f"there is no workload {', '.join(sorted(unknown))}")
    return given


if __name__ == "__main__":
    sys.exit(main())
