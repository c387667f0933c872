"""How long the painters' GSM8K takes on Llama-2-7B, on a card that is not there.

    python benchmarks/reckoning.py                    # an H200
    python benchmarks/reckoning.py --card a100-80 --tokens 128

657 plans, some of which run 815 attentions, write behind 1,319 questions that all follow the same
five examples. A decode step takes as long as the card reads the layers' weights (or launches their
kernels, where that is longer), the keys and values that are seen, and multiplies rows; all at the
shares of its nominal rates that `impasto explain --device` assumes. Who decodes together is
counted by the scheduler's own order of calls. As many prompts decode at once as the longest plan
leaves room for, whose own keys stay while it reads the next ones; then as many plans as half of the
memory holds the keys of.

Three ways are compared: each text with keys and values of its own, in half of the memory that is
free; the same in what a batch may take now; and those of the examples once for all texts of a plan.
Nothing ends early, so each is the most that writing takes.
"""

import argparse
from types import SimpleNamespace
from typing import Any

import torch

from impasto import Study
from impasto.plan.cost import LayerShape, Shape
from impasto.plan.lowering import lower
from impasto.plan.program import Program
from impasto.run.batching.batches import texts_at_once
from impasto.run.generate.call_order import neighbour_key
from impasto.run.generate.expected import _step
from impasto.speed.cards import CARDS, OF_BANDWIDTH, OF_PRODUCTS, Card
from impasto.speed.on_card import LAUNCHING, batch_bytes

LAYERS, HIDDEN, INNER, VOCABULARY, HALF = 32, 4096, 11008, 32000, 2
QUESTIONS, EXAMPLES, QUESTION = 1319, 1000, 100  # GSM8K's test, and tokens of Llama-2's


def main() -> None:
    """Print what each way comes to."""
    parser = argparse.ArgumentParser(description="See the head of this file.")
    parser.add_argument("--card", choices=CARDS, default="h200")
    parser.add_argument("--tokens", type=int, default=256, help="that each text has at the most")
    given = parser.parse_args()
    card, programs = CARDS[given.card], programs_of_painters()
    weights = HALF * (sum(layer.parameters for layer in SHAPE.layers) + SHAPE.outside)
    half, now = int((card.memory - weights) * 0.5), batch_bytes(card, weights)
    ways = (
        ("each text its own, half of the memory", half, False),
        (f"each text its own, {now / (card.memory - weights):.1f} of it", now, False),
        ("the examples once for each plan", now, True),
    )
    print(f"{len(programs)} plans, {QUESTIONS} questions, {given.tokens} tokens, one {card.name}\n")
    print(
        "| keys and values | texts at once | calls a step, all plans | writing, at most | calls |"
    )
    print("|---|---|---|---|---|")
    for name, memory, in_common in ways:
        texts, calls, hours, of_calls = reckoned(programs, card, memory, in_common, given.tokens)
        told = f"{calls:,.0f} | {hours:.0f} h | {of_calls:.0%} of that |"
        print(f"| {name} | {texts} | {told}", flush=True)


def _layer() -> LayerShape:
    attention, mlp = 4 * HIDDEN**2, 3 * HIDDEN * INNER
    return LayerShape(
        attention=attention, keys_values=attention // 2, mlp=mlp, experts=None, pair=2 * HIDDEN,
        kept=2 * HIDDEN, parameters=attention + mlp,
    )  # fmt: skip


SHAPE = Shape(
    (_layer(),) * LAYERS,
    head=VOCABULARY * HIDDEN,
    outside=2 * VOCABULARY * HIDDEN,
    itemsize=HALF,
)
MODEL: Any = SimpleNamespace(
    hidden=HIDDEN,
    device=torch.device("cuda"),
    counted_device=torch.device("cuda"),
    present=tuple(range(LAYERS)),
)


def programs_of_painters() -> list[Program]:
    """Return the plans of the study, lowered, neighbours side by side."""
    study = Study.from_yaml("painters")
    programs = {lower(labelled.plan).behind_prompt for labelled in study.labelled_plans(LAYERS)}
    return sorted(programs, key=neighbour_key)


def reckoned(
    programs: list[Program], card: Card, memory: int, in_common: bool, tokens: int
) -> tuple[int, float, float, float]:
    """Return how many texts decode at once, the calls of a step, hours, and the calls' share."""
    kept = HALF * SHAPE.layers[0].kept
    before, own = (EXAMPLES, 0) if in_common else (0, EXAMPLES)
    own += QUESTION + tokens

    def keys(program: Program, texts: int, length: int = own) -> int:
        return len(program.occurrences) * kept * (before + texts * length)

    longest = max(programs, key=lambda program: len(program.occurrences))
    most, held = texts_at_once(MODEL), memory // 2
    needs = [keys(longest, n) + keys(longest, n, own - tokens) for n in range(1, most + 1)]
    texts = max(1, sum(need <= memory for need in needs))
    together: list[list[Program]] = [[]]
    for program in programs:
        size = sum(keys(each, texts) for each in (*together[-1], program))
        if together[-1] and (size > held or (len(together[-1]) + 1) * texts > most):
            together.append([])
        together[-1].append(program)
    calls = seconds = of_calls = 0.0
    asked: Any = SimpleNamespace(model=MODEL)
    seen = EXAMPLES / (texts if in_common else 1) + QUESTION + tokens / 2
    bandwidth, rate = card.bandwidth * OF_BANDWIDTH, card.rate("float16") * OF_PRODUCTS
    weights = SHAPE.layers[0].parameters
    for some in together:
        step = _step(asked, SHAPE, some, texts, len(some))
        calls += step.fixed.calls
        of_calls += step.fixed.calls * max(HALF * weights / bandwidth, LAUNCHING)
        seconds += sum(step.kept.values()) * HALF * seen / bandwidth
        seconds += step.fixed.rows * 2 * weights / rate
    seconds += of_calls
    hours = seconds * (tokens - 1) * QUESTIONS / texts / 3600
    return texts, calls, hours, of_calls / seconds


if __name__ == "__main__":
    main()
