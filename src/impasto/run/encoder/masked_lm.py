"""How likely each token of a text is given all the others, for many plans at once.

Pseudo-log-likelihood (Salazar et al. 2020, arXiv 1910.14659): every token is masked once, alone,
and the log-probabilities of the true tokens add up. Whether the true token was the likeliest gives
fill-mask accuracy from the same passes.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import islice
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from impasto.model.encoder import OpenedEncoder
from impasto.plan import Plan
from impasto.run.encoder.batches import Sentence
from impasto.run.encoder.sweep import sweep
from impasto.run.execute.logits import likeliest, token_scores

Progress = Callable[[float], None]


class MaskedScore(NamedTuple):
    """The pseudo-log-likelihood of a text, each token masked alone.

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
    """Return, per plan and sentence, the score of its wanted tokens, each masked alone.

    Args:
        model: The encoder.
        plans: The plans.
        sentences: The sentences.
        mask: The token that masks another.
        progress: Called with the share that is done, 0 to 1.
        memory: The bytes that a batch may take; None for a share of the free ones.
    """
    places = [(index, row) for index, one in enumerate(sentences) for row in one.wanted]
    masked = [_masked(sentences[index], row, mask) for index, row in places]
    truth = torch.tensor([sentences[index].ids[row] for index, row in places], dtype=torch.long)

    def read(
        chosen: Sequence[int], states: Float[Tensor, "predictions hidden"]
    ) -> tuple[Float[Tensor, "predictions"], Bool[Tensor, "predictions"]]:
        return token_scores(model, states, torch.arange(len(states)), truth[list(chosen)])

    log_p = torch.zeros(len(plans), len(places))
    greedy = torch.zeros(len(plans), len(places), dtype=torch.bool)
    read_off = list(sweep(model, plans, masked, read, progress, memory))
    for values, each in ((log_p, 0), (greedy, 1)):  # waited for once, when all has run
        parts = [of_both[each] for *_, of_both in read_off]
        here = torch.cat(parts).cpu().split(list(map(len, parts))) if parts else ()
        for (plan, chosen, _), part in zip(read_off, here, strict=True):
            values[plan, list(chosen)] = part
    counts = [len(sentence.wanted) for sentence in sentences]
    return [
        [
            MaskedScore(float(values.double().sum()), int(are_greedy.sum()), len(values))
            for values, are_greedy in zip(*(row.split(counts) for row in rows), strict=True)
        ]
        for rows in zip(log_p, greedy, strict=True)
    ]


@torch.no_grad()
def fill(
    model: OpenedEncoder,
    plans: Sequence[Plan],
    sentences: Sequence[Sentence],
    progress: Progress,
    memory: int | None = None,
) -> list[list[list[int]]]:
    """Return, per plan and sentence, the likeliest token at each of its wanted tokens."""

    def read(
        chosen: Sequence[int], states: Float[Tensor, "predictions hidden"]
    ) -> Int[Tensor, "predictions"]:
        return likeliest(model, states)

    filled: list[list[list[int]]] = [[[] for _ in sentences] for _ in plans]
    read_off = list(sweep(model, plans, sentences, read, progress, memory))
    tokens = iter(torch.cat([each for *_, each in read_off]).tolist() if read_off else ())
    for plan, chosen, _ in read_off:
        for index in chosen:
            filled[plan][index] = list(islice(tokens, len(sentences[index].wanted)))
    return filled


def _masked(sentence: Sentence, row: int, mask: int) -> Sentence:
    """Return a sentence with one token masked, whose state alone is wanted."""
    ids = [*sentence.ids[:row], mask, *sentence.ids[row + 1 :]]
    return replace(sentence, ids=ids, wanted=(row,))
