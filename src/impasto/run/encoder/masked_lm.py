"""Masked tokens, for many plans at once: how likely is each, given all the others?

Pseudo-log-likelihood (Salazar et al. 2020, arXiv 1910.14659): every token is masked once, alone,
and the log-probabilities of the true tokens add up. Whether the true token was the likeliest gives
fill-mask accuracy from the same passes.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from impasto.model.encoder import OpenedEncoder
from impasto.plan import Plan
from impasto.run.encoder.batches import Sentence
from impasto.run.encoder.sweep import sweep
from impasto.run.queries.loglikelihood import likeliest, token_scores

Progress = Callable[[float], None]


class MaskedScore(NamedTuple):
    """What a text's tokens came to, each masked alone.

    Attributes:
        log_p: The pseudo-log-likelihood: the sum of log p in nats.
        likeliest: How many of the tokens were the likeliest at their place.
        tokens: How many were masked.
    """

    log_p: float
    likeliest: int
    tokens: int


@torch.no_grad()
def masked_scores(
    model: OpenedEncoder,
    plans: Sequence[Plan],
    sentences: Sequence[Sentence],
    mask: int,
    progress: Progress,
    memory: int | None = None,
) -> list[list[MaskedScore]]:
    """Return, per plan and sentence, what its wanted tokens come to, each masked alone."""
    asked = [(index, row) for index, one in enumerate(sentences) for row in one.wanted]
    each = [_masked(sentences[index], row, mask) for index, row in asked]
    truth = torch.tensor([sentences[index].ids[row] for index, row in asked], dtype=torch.long)

    def read(chosen: Sequence[int], states: Tensor) -> tuple[Tensor, Tensor]:
        return token_scores(model, states, torch.arange(len(states)), truth[list(chosen)])

    log_p = torch.zeros(len(plans), len(asked))
    greedy = torch.zeros(len(plans), len(asked), dtype=torch.long)
    for plan, chosen, (values, alike) in sweep(model, plans, each, read, progress, memory):
        log_p[plan, list(chosen)], greedy[plan, list(chosen)] = values.cpu(), alike.long().cpu()
    counts = [len(sentence.wanted) for sentence in sentences]
    return [
        [
            MaskedScore(float(one.double().sum()), int(alike.sum()), len(one))
            for one, alike in zip(values.split(counts), likely.split(counts), strict=True)
        ]
        for values, likely in zip(log_p, greedy, strict=True)
    ]


@torch.no_grad()
def fill(
    model: OpenedEncoder,
    plans: Sequence[Plan],
    sentences: Sequence[Sentence],
    progress: Progress,
    memory: int | None = None,
) -> list[list[list[int]]]:
    """Return, per plan and sentence, the likeliest token at each of its wanted places."""

    def read(chosen: Sequence[int], states: Tensor) -> list[list[int]]:
        counts = [len(sentences[index].wanted) for index in chosen]
        return [tokens.tolist() for tokens in likeliest(model, states).split(counts)]

    found: list[list[list[int]]] = [[[] for _ in sentences] for _ in plans]
    for plan, chosen, filled in sweep(model, plans, sentences, read, progress, memory):
        for index, tokens in zip(chosen, filled, strict=True):
            found[plan][index] = tokens
    return found


def _masked(sentence: Sentence, row: int, mask: int) -> Sentence:
    ids = [*sentence.ids[:row], mask, *sentence.ids[row + 1 :]]
    return replace(sentence, ids=ids, wanted=(row,))
