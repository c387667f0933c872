"""What is read off the logits: log-probabilities of given tokens, and the likeliest tokens.

The logits of all predictions at once would fill the memory (predictions × vocab), so they are made
and read some rows at a time. It is the same for decoders and encoders.
"""

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
    count = _rows_at_once(model)
    log_p, greedy = [], []
    for begin in range(0, len(states), count):
        logits = model.leave(states[begin : begin + count]).float()
        here = (rows >= begin) & (rows < begin + count)
        row = (rows[here] - begin).to(logits.device)
        token = tokens[here].to(logits.device)
        greedy.append(_are_likeliest(logits, row, token))
        log_p.append(_log_p(logits, row, token))
    return torch.cat(log_p), torch.cat(greedy)


def _log_p(
    logits: Float[Tensor, "rows vocab"], row: Int[Tensor, "tokens"], token: Int[Tensor, "tokens"]
) -> Float[Tensor, "tokens"]:
    """Return log p in nats of each token after its row; rows ascend."""
    some = NORMALISED_AT_ONCE.get(logits.device.type, LOGITS_AT_ONCE) // logits.shape[1] or 1
    counts = torch.bincount(row // some, minlength=-(-len(logits) // some)).tolist()
    parts = zip(logits.split(some), row.split(counts), token.split(counts), strict=True)
    return torch.cat([part.log_softmax(1)[at % some, here] for part, at, here in parts])


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
