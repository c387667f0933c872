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
from impasto.run.batching.padding import sent
from impasto.run.tuning import (
    LOGITS_AT_ONCE,
    LOGITS_AT_ONCE_ELSEWHERE,
    NORMALISED_AT_ONCE,
    NORMALISED_AT_ONCE_ELSEWHERE,
)


def token_scores(
    model: Opened,
    states: Float[Tensor, "predictions hidden"],
    rows: Int[Tensor, "tokens"],
    tokens: Int[Tensor, "tokens"],
) -> tuple[Float[Tensor, "tokens"], Bool[Tensor, "tokens"]]:
    """Return log p in nats of each token, and whether it was the likeliest; nothing is waited for.

    Args:
        model: The model whose head predicts.
        states: The states of depth T that predictions are made from.
        rows: The state (by index) from which each token is predicted, in ascending order; both
            on the processor.
        tokens: The tokens.
    """
    log_p, greedy = [], []
    for slab, parts in _slabs(model, len(states), rows, tokens):
        logits = model.leave(states[slab])
        for part, at, named in parts.of(logits):
            greedy.append(_are_likeliest(part, at, named))
            log_p.append(part.log_softmax(1, dtype=torch.float32)[at, named])
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
    read: list[list[ComparedLogits]] = [[] for _ in plans]
    for slab, parts in _slabs(model, len(full), rows, tokens):
        reference = _Reference.of(model.leave(full[slab]), parts.rows)
        for found, states in zip(read, plans, strict=True):
            found += reference.beside(model.leave(states[slab]), parts)
    return [ComparedLogits(*map(torch.cat, zip(*found, strict=True))) for found in read]


@dataclass(frozen=True, slots=True)
class _Reference:
    """The full model's predictions in one slab of rows."""

    log_p: Float[Tensor, "rows vocab"]
    p: Float[Tensor, "rows vocab"]
    likeliest: Int[Tensor, "rows"]

    @classmethod
    def of(cls, logits: Float[Tensor, "rows vocab"], some: int) -> "_Reference":
        parts = [part.log_softmax(1, dtype=torch.float32) for part in logits.split(some)]
        log_p = torch.cat(parts)
        return cls(log_p, log_p.exp(), log_p.argmax(1))

    def beside(
        self, logits: Float[Tensor, "rows vocab"], parts: "_Parts"
    ) -> Iterator[ComparedLogits]:
        """Yield what a plan predicts on some rows after the other.

        Where the plan's logits are the full model's, KL is 0 to the last bit. It is never below 0:
        what rounding leaves there is cut off.
        """
        whole = (each.split(parts.rows) for each in (self.log_p, self.p, self.likeliest))
        for (part, at, named), log_p, p, likeliest in zip(parts.of(logits), *whole, strict=True):
            own = part.log_softmax(1, dtype=torch.float32)
            kl = (p * (log_p - own)).sum(1).clamp(min=0)
            yield ComparedLogits(own[at, named], kl, own.argmax(1) == likeliest)


@dataclass(slots=True)
class _Parts:
    """The rows of a slab that are normalised at once, and the tokens that each part names.

    Attributes:
        rows: How many rows a part has.
        row: The row in its part of each token of the slab, rows ascending; on the processor first,
            then where the logits are.
        token: The tokens, likewise.
        counts: How many of the tokens each part names.
    """

    rows: int
    row: Int[Tensor, "here"]
    token: Int[Tensor, "here"]
    counts: Sequence[int]

    def of(
        self, logits: Float[Tensor, "rows vocab"]
    ) -> Iterator[tuple[Float[Tensor, "some vocab"], Int[Tensor, "here"], Int[Tensor, "here"]]]:
        """Yield the parts of a slab's logits, with the row in it and the token of each."""
        self.row, self.token = (sent(each, logits.device) for each in (self.row, self.token))
        yield from zip(
            logits.split(self.rows),
            self.row.split(self.counts),
            self.token.split(self.counts),
            strict=True,
        )


def _slabs(
    model: Opened, count: int, rows: Int[Tensor, "tokens"], tokens: Int[Tensor, "tokens"]
) -> Iterator[tuple[slice, _Parts]]:
    """Yield slabs of rows whose logits are made at once, in parts that are normalised at once."""
    some, few = _rows_at_once(model), _normalised_rows(model)
    for begin in range(0, count, some):
        end = min(begin + some, count)
        bounds = torch.tensor([*range(begin, end, few), end])
        places = torch.searchsorted(rows, bounds)
        here = slice(int(places[0]), int(places[-1]))
        row = (rows[here] - begin) % few
        yield slice(begin, end), _Parts(few, row, tokens[here], places.diff().tolist())


def _are_likeliest(
    logits: Float[Tensor, "rows vocab"], row: Int[Tensor, "tokens"], token: Int[Tensor, "tokens"]
) -> Bool[Tensor, "tokens"]:
    """Whether each token is the likeliest after its row; of equally likely ones, the first is."""
    if logits.device.type != "cpu":
        return logits.argmax(1)[row] == token
    is_likeliest = logits[row, token] == logits.amax(1)[row]  # amax is several times faster there
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
    numbers = LOGITS_AT_ONCE.get(model.device.type, LOGITS_AT_ONCE_ELSEWHERE)
    return max(1, numbers // model.vocabulary)


def _normalised_rows(model: Opened) -> int:
    """Return of how many rows logits are normalised at once."""
    numbers = NORMALISED_AT_ONCE.get(model.device.type, NORMALISED_AT_ONCE_ELSEWHERE)
    return max(1, min(numbers // model.vocabulary, _rows_at_once(model)))
