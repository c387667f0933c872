"""What impasto does on a GPU: right, fast, and within its memory. Ten minutes on an H200.

    python benchmarks/gpu.py                        # all parts; run it again to go on after a stop
    python benchmarks/gpu.py --only right-bf16,C    # some of them
    python benchmarks/gpu.py --small                # the whole script on a processor, in a minute

Each part that is finished is kept in a JSON file (--out) and passed over when the script runs
again, so it may be stopped at any time, and fits machines that are lent for minutes. Nothing is
downloaded: models are of real shapes, with random weights.

    right-bf16, right-fp32  30 plans on a model of a billion parameters: packed scores beside
                            the same plan applied to Hugging Face's forward without a cache, and
                            six plans worked by hand (as impasto doctor does)
    C, A                    the papers' sweeps on a Llama-2-7B shape beside lm-eval's HFLM, and
                            what is reached of the matrix rate of such products and of the card's
    decode                  a token more, as a share of what the memory could move; a step of
                            7 plans × 7 texts
    paper-C                 paper C's tables
    memory                  what batches take beside what was estimated

Prints a Markdown table; exits with 1 if an answer is wrong or a part failed.
"""

import argparse
import io
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import impasto
import paper_c
import workloads
from impasto import Plan
from impasto.plan import Layer
from impasto.run.batching.live_bytes import LiveBytes
from impasto.speed import Settings, bench, random_model
from impasto.speed.cards import Card, card_behind
from impasto.speed.doctor.answers import compared
from impasto.speed.doctor.attended import Kernels
from impasto.speed.machine import machine
from impasto.speed.memory import peak_memory
from measures import flops, machine_rate, seconds
from sweep import _peer_costs, _products, _timed_peer

ONE_BILLION = (
    "llama-2-7b,hidden_size=2048,intermediate_size=8192,num_hidden_layers=16,"
    "num_key_value_heads=8,vocab_size=128256"
)
TINY = "small-llama,hidden_size=64,intermediate_size=128,num_hidden_layers=8,vocab_size=512"
PLANS = 30
WITHIN = 0.10  # of the memory that batches take, the estimate
STEPS = 8, 40  # tokens that are written; the steps between the two are timed


@dataclass(frozen=True)
class Row:
    """A line of the table: what was measured, what came out, what is wanted, and whether it is."""

    what: str
    found: str
    wanted: str = ""
    holds: bool = True


@dataclass(frozen=True)
class Setting:
    """On what parts run.

    Attributes:
        device: The device.
        is_small: Whether shapes are tiny, for a processor.
        card: The card, where its data sheet is known.
    """

    device: torch.device
    is_small: bool
    card: Card | None

    def model(self, shape: str, dtype: torch.dtype) -> impasto.Model:
        """Return a model of a shape, a tiny one where all is small."""
        return random_model(TINY if self.is_small else shape, self.device, dtype)


def main(words: Sequence[str] | None = None) -> int:
    """Run the parts that are not finished, and print what all of them found."""
    given = _arguments(words)
    name = torch.cuda.get_device_name() if given.device == "cuda" else ""
    setting = Setting(torch.device(given.device), given.small, card_behind(name))
    known: dict[str, Any] = {}
    where = machine(setting.device)
    if given.out.exists() and not given.fresh:
        kept = json.loads(given.out.read_text())
        if kept["machine"] != where:
            print(f"{given.out} is of another machine ({kept['machine']}); say --fresh or --out",
                  file=sys.stderr)  # fmt: skip
            return 2
        known = kept["parts"]
    failed = False
    for part in given.only:
        if part in known:
            continue
        print(f"{part} …", file=sys.stderr, flush=True)  # stdout is the table's
        began = time.perf_counter()
        try:
            with redirect_stdout(io.StringIO()) as text:
                rows = RUNS[part](setting)
        except (RuntimeError, ValueError) as error:
            first = (str(error).strip() or "no message").splitlines()[0]
            print(f"{part} failed: {type(error).__name__}: {first}", file=sys.stderr, flush=True)
            failed = True
            continue
        known[part] = {
            "seconds": time.perf_counter() - began,
            "rows": [vars(row) for row in rows],
            "text": text.getvalue(),
        }
        given.out.write_text(json.dumps({"machine": where, "parts": known}, indent=1))
        if setting.device.type == "cuda":
            torch.cuda.empty_cache()
    _show(where, known)
    holds = all(row["holds"] for part in known.values() for row in part["rows"] if row["wanted"])
    return 0 if holds and not failed else 1


# ---------------------------------------------------------------------- right


def _right(dtype: torch.dtype) -> Callable[[Setting], list[Row]]:
    def right(setting: Setting) -> list[Row]:
        """Compare packed scores with the plan applied to a forward without a cache."""
        model = setting.model(ONE_BILLION, dtype)
        plans = _plans(model.num_layers)
        inputs = _texts(model, 4, 40, 8)
        own = model.loglikelihood(plans, inputs)
        apart = [
            abs(score - _applied(model, plan, *text))
            for plan, scores in zip(plans, own, strict=True)
            for text, (score, _) in zip(inputs, scores, strict=True)
        ]
        limit = (1e-4 if dtype == torch.float32 else 2e-2) * len(inputs[0][1])
        answers = compared(model, Kernels())
        off = max(answers, key=lambda answer: answer.apart)
        return [
            Row(f"{len(plans)} plans × {len(inputs)} texts, packed beside applied",
                f"at most {max(apart):.1e} nats apart", f"{limit:g}", max(apart) <= limit),
            Row(f"{len(answers)} plans by hand, every way",
                f"at most {off.apart:.1e} of the largest logit ({off.name})", f"{off.limit:.0e}",
                all(answer.is_right for answer in answers)),
        ]  # fmt: skip

    return right


def _plans(layers: int) -> list[Plan]:
    """Return plans of all three papers' families, evenly chosen."""
    every = [
        case.plan
        for family in (workloads._paper_a, workloads._paper_b, workloads._paper_c)
        for case in family(layers)
    ]
    return every[:: len(every) // PLANS][:PLANS]


def _texts(
    model: impasto.Model, count: int, context: int, choice: int
) -> list[tuple[list[int], list[int]]]:
    """Return contexts of tokens drawn at random, each with two continuations."""
    generator = torch.Generator().manual_seed(0)
    vocabulary = model.hf.config.vocab_size

    def tokens(size: int) -> list[int]:
        return torch.randint(vocabulary, (size,), generator=generator).tolist()

    contexts = [tokens(context) for _ in range(count)]
    return [(each, tokens(choice)) for each in contexts for _ in range(2)]


@torch.no_grad()
def _applied(
    model: impasto.Model, plan: Plan, context: list[int], continuation: list[int]
) -> float:
    """Return a continuation's log-likelihood from Hugging Face's own forward under a plan."""
    ids = torch.tensor([context + continuation], device=model.hf.device)
    with impasto.apply(model.hf, plan):
        logits: Tensor = model.hf(input_ids=ids, use_cache=False).logits[0]
    rows = logits[len(context) - 1 : -1].float().log_softmax(-1)
    return float(rows.gather(1, ids[0, len(context) :, None]).double().sum())


# ---------------------------------------------------------------------- fast


def _sweep(name: str) -> Callable[[Setting], list[Row]]:
    def sweep(setting: Setting) -> list[Row]:
        """Run a paper's sweep beside lm-eval's HFLM, as benchmarks/sweep.py does."""
        kind = setting.device.type
        dtype = torch.float32 if setting.is_small else torch.bfloat16
        asked = argparse.Namespace(
            device=kind, dtype=dtype, layers=4 if setting.is_small else None,
            questions=1 if setting.is_small else None, peer_every=12 if setting.is_small else 8,
        )  # fmt: skip
        work = workloads.workload(name, asked)
        assert isinstance(work, workloads.Workload), work
        costs = _peer_costs(work)
        work.sweep(every=4, inputs=8)
        spent, own = seconds(work.sweep, kind)
        peer, chosen, apart = _timed_peer(work, costs, own, kind)
        peer *= sum(costs) / sum(costs[index] for index in chosen)
        calls = Counter(dict(_products(work)[0]))
        rate, _ = machine_rate(calls, kind, dtype)
        reached = flops(calls) / spent
        rows = [
            Row(f"{len(work.cases)} plans × {len(work.inputs)} inputs",
                f"{spent:.1f} s; {work.peer_name} {peer:.1f} s (of {len(chosen)} plans, scaled)"),
            Row("times faster", f"{peer / spent:.1f}", "" if setting.is_small else f"{work.target}",
                peer / spent >= work.target),
            Row("answers", work.told(apart), f"{work.limit:g}",
                all(each <= work.limit for each in apart)),
            Row("of such products' own rate", f"{reached / rate:.0%} of {rate / 1e12:,.1f}e12/s"),
        ]  # fmt: skip
        if setting.card is not None:
            nominal = setting.card.rate("bfloat16")
            share = f"{reached / nominal:.0%} of {nominal / 1e12:,.0f}e12/s"
            rows.append(Row(f"of the {setting.card.name}'s nominal rate", share))
        return rows

    return sweep


def _decode(setting: Setting) -> list[Row]:
    """Time a token more, under Hugging Face's loop and the engine's."""
    dtype = torch.float32 if setting.is_small else torch.bfloat16
    model = setting.model("llama-2-7b", dtype)
    tokens, rounds = (16, 2) if setting.is_small else (512, 5)
    rows = []
    for batch in (1, 8):
        half = {"half": Plan(tuple(map(Layer, range(model.num_layers // 2))))}
        found = bench(model, half, Settings((tokens,), (batch,), 8, rounds))
        for each in found.times:
            if each.work == "token" and each.plan:
                moved = each.bytes / each.seconds.middle
                share = f"{moved / found.rates.bytes_per_second:.0%} of copies"
                if setting.card is not None:
                    share += f", {moved / setting.card.bandwidth:.0%} of nominal"
                told = f"{1e3 * each.seconds.middle:.2f} ms, {share}"
                rows.append(Row(f"{each.label}: a token behind {tokens}, {batch} at once", told))
    plans, prompts = _plans(model.num_layers)[::4][:7], [[7 + t] * tokens for t in range(7)]
    model.hf.generation_config.eos_token_id = None
    few, many = (2, 4) if setting.is_small else STEPS
    taken = []
    for count in (few, few, many):
        write = lambda count=count: model.generate(plans, prompts, max_new_tokens=count)  # noqa: E731
        taken.append(seconds(write, setting.device.type)[0])
    step = (taken[2] - taken[1]) / (many - few)
    rows.append(Row(f"a step of {len(plans)} plans × {len(prompts)} texts", f"{1e3 * step:.1f} ms"))
    return rows


def _paper_c(setting: Setting) -> list[Row]:
    """Print paper C's tables, which are kept as text."""
    small = ["--device", "cpu", "--shape", TINY, "--dtype", "float32", "--sequences", "1",
             "--batch", "1", "--rounds", "1"]  # fmt: skip
    large = ["--device", "cuda", "--sequences", "40", "--batch", "64", "--rounds", "3"]
    paper_c.main(small if setting.is_small else large)
    return [Row("Tables 7 to 10", "below")]


# ---------------------------------------------------------------------- within its memory


def _memory(setting: Setting) -> list[Row]:
    """Compare what batches take with the estimate, under two budgets."""
    dtype = torch.float32 if setting.is_small else torch.bfloat16
    model = setting.model(ONE_BILLION, dtype)
    plans = _plans(model.num_layers)[::3]
    size = (16, 24, 4) if setting.is_small else (256, 200, 12)
    texts = _texts(model, *size)
    prompts = [context for context, _ in texts[::2]]
    rows = []
    for budget in (2**22, 2**25) if setting.is_small else (2**30, 2**33):
        model.memory = budget
        for name, ask, told in (
            ("scoring", lambda: model.loglikelihood(plans, texts),
             model.scoring_cost(plans, texts)),
            ("writing", lambda: model.generate(plans, prompts, max_new_tokens=8),
             model.generating_cost(plans, prompts, 8)),
        ):  # fmt: skip
            ask()
            taken = _taken(model, ask)
            what = f"{name}, {budget / 2**20:,.0f} MiB allowed"
            found = f"{taken / 2**20:,.1f} MiB, {told.peak_bytes / 2**20:,.1f} estimated"
            holds = taken <= (1 + WITHIN) * told.peak_bytes
            rows.append(Row(what, found, f"at most {WITHIN:.0%} more", holds))
    return rows


def _taken(model: impasto.Model, ask: Callable[[], Any]) -> int:
    """Return the most bytes that some work takes beside the weights."""
    device = model.hf.device
    if device.type == "cuda":
        return peak_memory(ask, device) or 0
    with LiveBytes([*model.hf.parameters(), *model.hf.buffers()]) as live:
        ask()
    return live.most


RUNS: dict[str, Callable[[Setting], list[Row]]] = {
    "right-bf16": _right(torch.bfloat16),
    "right-fp32": _right(torch.float32),
    "C": _sweep("C"),
    "decode": _decode,
    "memory": _memory,
    "paper-C": _paper_c,
    "A": _sweep("A"),
}
"""What each part runs; the longest comes last."""


def _show(where: str, known: dict[str, Any]) -> None:
    print(f"{where}\n")
    print("| part | | found | wanted | |\n|---|---|---|---|---|")
    for name, part in known.items():
        for row in part["rows"]:
            verdict = ("ok" if row["holds"] else "MISSED") if row["wanted"] else ""
            print(f"| {name} | {row['what']} | {row['found']} | {row['wanted']} | {verdict} |")
        print(f"| {name} | took | {part['seconds']:.0f} s | | |")
    for part in known.values():
        if part["text"].strip():
            print(f"\n```text\n{part['text'].strip()}\n```")


def _arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="See the head of this file.")
    parser.add_argument("--small", action="store_true", help="tiny shapes on a processor")
    parser.add_argument("--only", help=f"parts, with commas between: {','.join(RUNS)}")
    parser.add_argument("--out", type=Path, help="default: gpu.json, or gpu-small.json")
    parser.add_argument("--fresh", action="store_true", help="run finished parts again")
    given = parser.parse_args(words)
    given.device = "cpu" if given.small else "cuda"
    if not given.small and not torch.cuda.is_available():
        parser.error("torch sees no CUDA device here; --small runs all of it on a processor")
    given.out = given.out or Path("gpu-small.json" if given.small else "gpu.json")
    given.only = given.only.split(",") if given.only else list(RUNS)
    if unknown := set(given.only) - RUNS.keys():
        parser.error(f"there is no part {', '.join(sorted(unknown))}")
    return given


if __name__ == "__main__":
    sys.exit(main())
