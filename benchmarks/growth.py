"""How a sweep's time grows: with the plans of a family, and with the layers of the model.

Doubling the plans of a family is never to more than double the time. Doubling T doubles the plans
of a k-sweep and the length of each, so that it may take four times as long, and not more.
"""

from collections.abc import Mapping, Sequence
from statistics import median
from types import MappingProxyType
from typing import Any

import torch

from impasto import Plan
from impasto.run import Model, load_decoder
from measures import seconds
from peers import Input, cases
from workloads import questions, random_llama, score

MOST_FOR_PLANS, MOST_FOR_LAYERS = 2.0, 4.0
ROUNDS = 5
DEPTH_SWEEPS = ("freeze", "shuffle", "gaussian", "drop_attention_from")


def growth(device: str, dtype: torch.dtype, layers: int, count: int) -> None:
    """Print both, at ``layers`` and half of them, on so many questions."""
    deep, shallow = (load_decoder(random_llama(device, dtype, T)) for T in (layers, layers // 2))
    inputs = questions(deep.hf.config.vocab_size, count)
    print(f"\ngrowth: {count} questions × 4 choices, medians of {ROUNDS} rounds", flush=True)
    for family, (fewer, all_of_them) in _doublings(layers).items():
        half = _plans(family, layers, fewer)
        whole = _plans(family, layers, all_of_them)
        before, after = _times([(deep, half), (deep, whole)], inputs, device)
        _told(f"{family}: {len(half)} → {len(whole)} plans", before, after, MOST_FOR_PLANS)
    for family in DEPTH_SWEEPS:
        few = _plans(family, layers // 2, {"k": range(layers // 2 + 1)})
        many = _plans(family, layers, {"k": range(layers + 1)})
        before, after = _times([(shallow, few), (deep, many)], inputs, device)
        _told(f"{family} at every k: T = {layers // 2} → {layers}", before, after, MOST_FOR_LAYERS)


_Choices = Mapping[str, Sequence[Any]]


def _doublings(T: int) -> Mapping[str, tuple[_Choices, _Choices]]:
    """Return some families with half of their choices, and with all."""
    depths = ({"k": range(0, T + 1, 2)}, {"k": range(T + 1)})
    n = {"n": [T // 4 - 1]}
    dropped = {"part": ["attention"], "keep_last": [False, True]}
    return MappingProxyType({
        **dict.fromkeys(DEPTH_SWEEPS, depths),
        "skip": ({"n": range(1, T // 2, 2)}, {"n": range(1, T // 2)}),
        "random_order": ({**n, "seed": range(5)}, {**n, "seed": range(10)}),
        "looped_parallel": ({**n, "loops": range(1, 5)}, {**n, "loops": range(1, 9)}),
        "drop_last": (
            {**dropped, "count": range(0, T // 2, 2)},
            {**dropped, "count": range(T // 2)},
        ),
    })  # fmt: skip


def _plans(family: str, T: int, choices: _Choices) -> list[Plan]:
    return [case.plan for case in cases(family, T, **choices)]


def _times(
    runs: Sequence[tuple[Model, list[Plan]]], inputs: list[Input], device: str
) -> list[float]:
    """Return the seconds of each run: the median of some rounds, in turns, after one to warm up."""
    lasted: list[list[float]] = [[] for _ in runs]
    for _ in range(ROUNDS + 1):
        for (model, plans), each in zip(runs, lasted, strict=True):
            each.append(seconds(lambda m=model, p=plans: score(m, p, inputs), device)[0])
    return [median(each[1:]) for each in lasted]


def _told(what: str, before: float, after: float, most: float) -> None:
    verdict = "ok" if after <= most * before else "MISSED"
    print(f"  {what:42}{before:8.2f} s → {after:8.2f} s   {after / before:5.2f} ×   "
          f"at most {most:.2f} ×: {verdict}", flush=True)  # fmt: skip
