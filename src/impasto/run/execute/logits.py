"""What is read off the logits: log-probabilities of given tokens, and the likeliest tokens.

The logits of all predictions at once would fill the memory (predictions × vocab), so they are made
and read some rows at a time. It is the same for decoders and encoders.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from impasto.model.decoder import Opened
from impasto.run.tuning import LOGITS_AT_ONCE, NORMALISED_AT_ONCE


def token_scores(
    model: Opened,
    states: Float[Tensor, "predictions hidden"],
    rows: Int[Tensor, "tokens"],
    tokens: Int[Tensor, "tokens"],
) -> tuple[Float[Tensor, "tokens"], Bool[Tensor, "tokens"]]:
    """Return log p in nats of each token, and whether it was the likeliest.

    Args:
        model: The model whose head predicts.
        states: The states of depth T that predictions are made from.
        rows: The state (by index) from which each token is predicted, in ascending order.
        tokens: The tokens.
    """
    log_p, greedy = [], []
    for slab, row, token in _slabs(model, len(states), rows, tokens):
        logits = model.leave(states[slab]).float()
        row, token = row.to(logits.device), token.to(logits.device)
        greedy.append(_are_likeliest(logits, row, token))
        parts = _parts(logits, row, token)
        log_p += [part.log_softmax(1)[at, named] for part, at, named in parts]
    return torch.cat(log_p), torch.cat(greedy)


class ComparedLogits(NamedTuple):
    """What one plan's logits say beside the full model's.

    Attributes:
        log_p: log p in nats of each token under the plan.
        kl: KL(full model || plan) in nats at each prediction.
        agrees: Whether both have the same likeliest token there; of equally likely ones, the first.
    """

    log_p: Float[Tensor, "tokens"]
    kl: Float[Tensor, "predictions"]
    agrees: Bool[Tensor, "predictions"]


def compared(
    model: Opened,
    full: Float[Tensor, "predictions hidden"],
    plans: Sequence[Float[Tensor, "predictions hidden"]],
    rows: Int[Tensor, "tokens"],
    tokens: Int[Tensor, "tokens"],
) -> list[ComparedLogits]:
    """Return what some plans predict beside the full model, given the final states of each.

    The full model's logits are made and normalised once for all the plans, one slab of rows after
    the other, and each plan's slab is read as soon as it is made: at most three slabs exist at once
    (the full model's log p and p, a plan's logits), however many plans and predictions there are.

    Args:
        model: The model whose head predicts.
        full: The states of depth T of the full model.
        plans: Those of each plan, row by row the same predictions.
        rows: The state (by index) from which each token is predicted, in ascending order.
        tokens: The tokens.
    """
    parts: list[list[ComparedLogits]] = [[] for _ in plans]
    for slab, row, token in _slabs(model, len(full), rows, tokens):
        reference = _Reference.of(model.leave(full[slab]).float())
        row, token = row.to(reference.log_p.device), token.to(reference.log_p.device)
        for found, states in zip(parts, plans, strict=True):
            found += reference.beside(model.leave(states[slab]).float(), row, token)
    return [ComparedLogits(*map(torch.cat, zip(*found, strict=True))) for found in parts]


@dataclass(frozen=True, slots=True)
class _Reference:
    """The full model's predictions in one slab of rows."""

    log_p: Float[Tensor, "rows vocab"]
    p: Float[Tensor, "rows vocab"]
    likeliest: Int[Tensor, "rows"]

    @classmethod
    def of(cls, logits: Float[Tensor, "rows vocab"]) -> "_Reference":
        log_p = torch.cat([part.log_softmax(1) for part in logits.split(_normalised_rows(logits))])
        return cls(log_p, log_p.exp(), log_p.argmax(1))

    def beside(
        self,
        logits: Float[Tensor, "rows vocab"],
        row: Int[Tensor, "tokens"],
        token: Int[Tensor, "tokens"],
    ) -> Iterator[ComparedLogits]:
        """Yield what a plan predicts on some rows after the other; rows of tokens ascend.

        Where the plan's logits are the full model's, KL is 0 to the last bit. It is never below 0:
        what rounding leaves there is cut off.
        """
        some = _normalised_rows(logits)
        whole = (each.split(some) for each in (self.log_p, self.p, self.likeliest))
        for (part, at, named), log_p, p, likeliest in zip(
            _parts(logits, row, token), *whole, strict=True
        ):
            own = part.log_softmax(1)
            kl = (p * (log_p - own)).sum(1).clamp(min=0)
            yield ComparedLogits(own[at, named], kl, own.argmax(1) == likeliest)


def _slabs(
    model: Opened, count: int, rows: Int[Tensor, "tokens"], tokens: Int[Tensor, "tokens"]
) -> Iterator[tuple[slice, Int[Tensor, "here"], Int[Tensor, "here"]]]:
    """Yield slabs of rows whose logits are made at once, with the row there of each token."""
    some = _rows_at_once(model)
    for begin in range(0, count, some):
        here = (rows >= begin) & (rows < begin + some)
        yield slice(begin, begin + some), rows[here] - begin, tokens[here]


def _parts(
    logits: Float[Tensor, "rows vocab"], row: Int[Tensor, "tokens"], token: Int[Tensor, "tokens"]
) -> Iterator[tuple[Float[Tensor, "some vocab"], Int[Tensor, "here"], Int[Tensor, "here"]]]:
    """Yield rows that are normalised at once, with the row there of each token; rows ascend."""
    some = _normalised_rows(logits)
    counts = torch.bincount(row // some, minlength=-(-len(logits) // some)).tolist()
    parts = zip(logits.split(some), row.split(counts), token.split(counts), strict=True)
    for part, at, named in parts:
        yield part, at % some, named


def _are_likeliest(
    logits: Float[Tensor, "rows vocab"], row: Int[Tensor, "tokens"], token: Int[Tensor, "tokens"]
) -> Bool[Tensor, "tokens"]:
    """Whether each token is the likeliest after its row; of equally likely ones, the first is."""
    is_likeliest = logits[row, token] == logits.amax(1)[row]
    at = is_likeliest.clone()  # few, for which it is worth looking for the first
    is_likeliest[at] = logits[row[at]].argmax(1) == token[at]
    return is_likeliest


def likeliest(
    model: Opened, states: Float[Tensor, "predictions hidden"]
) -> Int[Tensor, "predictions"]:
    """Return the likeliest token of each prediction."""
    parts = states.split(_rows_at_once(model))
    return torch.cat([model.leave(rows).argmax(-1) for rows in parts])


def _rows_at_once(model: Opened) -> int:
    """Return of how many rows logits are made at once."""
    return max(1, LOGITS_AT_ONCE // model.vocabulary)


def _normalised_rows(logits: Float[Tensor, "rows vocab"]) -> int:
    """Return of how many rows logits are normalised at once."""
    return NORMALISED_AT_ONCE.get(logits.device.type, LOGITS_AT_ONCE) // logits.shape[1] or 1
