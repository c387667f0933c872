"""How many tokens differ where a layer that runs twice has one slot in the cache, not two.

    python benchmarks/one_cache_slot.py [--model demo] [--texts FILE] [--tokens 12] [--prompts 20]

Published code for paths through layers sets a model's own blocks in another order and lets Hugging
Face generate. A block knows its slot of the cache by its `layer_idx`, so all turns of a layer write
into one slot: a turn reads the keys and values of the turns before it, and while tokens are written
each turn reads those of all. Here the tokens of that are compared with the same path's without any
cache, which is what the path computes, and so are impasto's, which has a slot for each occurrence.
"""

import argparse
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import DynamicCache

import impasto
from impasto import Plan
from impasto.plan import Layer
from impasto.tasks.arithmetic import exercises

PATHS = ("0-11", "0-1 0-11", "0-5 2-11", "0-8 3-11", "0-11*2")
EXAMPLE = "4 - 1 + 2 = 5\n"


@contextmanager
def in_order(hf: Any, path: Sequence[int]) -> Iterator[None]:
    """Run a model's own blocks in another order, each as often as it is named."""
    layers, count = hf.model.layers, hf.config.num_hidden_layers
    hf.model.layers = torch.nn.ModuleList(layers[index] for index in path)
    hf.config.num_hidden_layers = len(path)
    try:
        yield
    finally:
        hf.model.layers, hf.config.num_hidden_layers = layers, count


def written(hf: Any, prompt: list[int], tokens: int, use_cache: bool) -> list[int]:
    """Return the tokens that Hugging Face writes behind a prompt, greedily."""
    ids = torch.tensor([prompt])
    options: Any = {"max_new_tokens": tokens, "min_new_tokens": tokens, "do_sample": False}
    if use_cache:
        options["past_key_values"] = DynamicCache()  # which has a slot for any layer_idx
    with torch.no_grad():
        found = hf.generate(ids, use_cache=use_cache, pad_token_id=0, **options)
    return found[0, len(prompt) :].tolist()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="See the head of this file.")
    parser.add_argument("--model", default="demo")
    parser.add_argument("--texts", type=Path, help="prompts, one a line; else exercises")
    parser.add_argument("--tokens", type=int, default=12)
    parser.add_argument("--prompts", type=int, default=20)
    parser.add_argument("--paths", nargs="*", default=PATHS)
    given = parser.parse_args()
    model = impasto.load(given.model)
    texts = [f"{EXAMPLE}{exercise} =" for exercise in list(exercises(3))[::60]]
    texts = given.texts.read_text().splitlines() if given.texts else texts
    prompts = [model.tokenizer(text).input_ids for text in texts[: given.prompts]]
    print(f"{'path':24}{'one slot':>12}{'texts':>8}{'impasto':>12}   of {given.tokens} tokens each")
    for line in given.paths:
        plan = Plan.parse(line, layers=model.num_layers)
        path = [step.index for step in plan.steps if isinstance(step, Layer)]
        with in_order(model.hf, path):
            true, slot = (
                [written(model.hf, prompt, given.tokens, cached) for prompt in prompts]
                for cached in (False, True)
            )
        with impasto.apply(model.hf, plan):
            ours = [written(model.hf, prompt, given.tokens, True) for prompt in prompts]
        count = given.tokens * len(prompts)
        of_slot, of_ours = ([a != b for a, b in zip(true, x, strict=True)] for x in (slot, ours))
        print(
            f"{line:24}{differing(true, slot) / count:11.1%} {sum(of_slot):7}"
            f"{differing(true, ours) / count:11.1%} {sum(of_ours):7}"
        )


def differing(true: Sequence[list[int]], others: Sequence[list[int]]) -> int:
    """Return at how many places tokens differ."""
    pairs = zip(true, others, strict=True)
    return sum(one != other for a, b in pairs for one, other in zip(a, b, strict=True))


if __name__ == "__main__":
    main()
