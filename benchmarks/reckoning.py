"""How long the painters' GSM8K takes on Llama-2-7B, on a card that is not there.

    python benchmarks/reckoning.py                    # an H200
    python benchmarks/reckoning.py --card a100-80 --tokens 128

657 plans, some of which run 815 attentions, write behind 1,319 questions that all follow the same
five examples. A decode step takes as long as the card reads the layers' weights (or launches their
kernels, where that is longer), the keys and values that are seen, and multiplies rows; all at the
shares of its nominal rates that `impasto explain --device` assumes. Who decodes together is
counted by the scheduler's own order of calls. As many prompts decode at once as the longest plan
leaves room for, then as many plans as half of the memory holds the keys of.

Four ways are compared: each text with keys and values of its own, in half of the memory that is
free; the same in what a batch may take now; those of the examples once for all texts of a plan; and
plans in sets by how many texts they leave room for, where before the longest of all said how many,
whose own keys stayed while it read the next ones. Nothing ends early, so each is the most that
writing takes. At the end it says what would be left if each plan had all memory to itself.
"""

import argparse
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, NamedTuple

import torch

from impasto import Study
from impasto.plan.cost import LayerShape, Shape
from impasto.plan.lowering import lower
from impasto.plan.program import Program
from impasto.run.batching.batches import texts_at_once
from impasto.run.generate.call_order import neighbour_key
from impasto.run.generate.expected import _step
from impasto.run.generate.sets import set_number
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
        print(_row(name, [reckoned(programs, card, memory, in_common, given.tokens)]), flush=True)
    own = now, True, given.tokens, False
    sets = [reckoned(some, card, *own) for some in in_sets(programs, card, now, given.tokens)]
    print(_row("the same, plans in sets", sets), flush=True)
    print(_row("each plan by itself", [reckoned([each], card, *own) for each in programs]))


class Reckoned(NamedTuple):
    """What plans come to that have a turn of their own.

    Attributes:
        texts: How many prompts decode at once.
        calls: The calls of layers of a step of all plans.
        hours: Of writing.
        of_calls: Those of the hours that go to calls, rather than to keys and products.
    """

    texts: int
    calls: float
    hours: float
    of_calls: float


def _row(name: str, found: Sequence[Reckoned]) -> str:
    few, many = min(each.texts for each in found), max(each.texts for each in found)
    texts = f"{few}" if few == many else f"{few} to {many}"
    hours = sum(each.hours for each in found)
    share = sum(each.of_calls for each in found) / hours
    calls = sum(each.calls for each in found)
    return f"| {name} | {texts} | {calls:,.0f} | {hours:.0f} h | {share:.0%} of that |"


def in_sets(
    programs: Sequence[Program], card: Card, memory: int, tokens: int
) -> list[list[Program]]:
    """Return the plans in sets by how many texts they leave room for, as `generate` does."""
    longest = max(programs, key=lambda program: len(program.occurrences))
    texts = texts_that_fit(longest, memory, True, tokens, False)
    by_texts: dict[int, list[Program]] = {}
    for program in programs:
        lengths = len(program.occurrences), len(longest.occurrences)
        number = set_number(*lengths, texts_at_once(MODEL) / texts)
        by_texts.setdefault(number, []).append(program)
    return [some for _, some in sorted(by_texts.items())]


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


def keys(program: Program, texts: int, in_common: bool, tokens: int) -> int:
    """Return the bytes that keys and values of a plan take, with so many tokens written."""
    before, own = (EXAMPLES, 0) if in_common else (0, EXAMPLES)
    kept = HALF * SHAPE.layers[0].kept
    return len(program.occurrences) * kept * (before + texts * (own + QUESTION + tokens))


def texts_that_fit(
    longest: Program, memory: int, in_common: bool, tokens: int, beside_next: bool
) -> int:
    """Return how many texts a plan leaves room for, beside the next one's prompts or alone."""
    most = texts_at_once(MODEL)
    needs = [
        keys(longest, texts, in_common, tokens) + beside_next * keys(longest, texts, in_common, 0)
        for texts in range(1, most + 1)
    ]
    return max(1, sum(need <= memory for need in needs))


def reckoned(
    programs: Sequence[Program],
    card: Card,
    memory: int,
    in_common: bool,
    tokens: int,
    beside_next: bool = True,
) -> Reckoned:
    """Return what plans come to that have a turn of their own."""
    longest = max(programs, key=lambda program: len(program.occurrences))
    texts = texts_that_fit(longest, memory, in_common, tokens, beside_next)
    together: list[list[Program]] = [[]]
    for program in programs:
        some = (*together[-1], program)
        size = sum(keys(each, texts, in_common, tokens) for each in some)
        if together[-1] and (size > memory // 2 or len(some) * texts > texts_at_once(MODEL)):
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
    hours = (tokens - 1) * QUESTIONS / texts / 3600
    return Reckoned(texts, calls, (seconds + of_calls) * hours, of_calls * hours)


if __name__ == "__main__":
    main()
