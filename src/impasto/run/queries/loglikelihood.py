"""Log-likelihoods of continuations, for many plans at once.

Each token of a continuation is predicted with its own preceding token current and all before it
earlier; the packed rows of :mod:`impasto.run.execute.rows` give them all in one forward, and the choices of
a question share one run of it (:mod:`impasto.run.batching.prefix_tree`).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from impasto.model.decoder import OpenedModel
from impasto.model.opened import Opened
from impasto.plan import Plan
from impasto.plan.program import lower
from impasto.run.attention.choice import chosen_attention
from impasto.run.attention.tree_sparse import tree_sparse_attention
from impasto.run.batching.batches import open_group
from impasto.run.batching.memory import fitting
from impasto.run.batching.progress import Meter
from impasto.run.batching.request import TokenRequest
from impasto.run.execute.plan_tree import plant, walk
from impasto.run.tuning import LOGITS_AT_ONCE, NORMALISED_AT_ONCE

Score = tuple[float, bool]


@torch.no_grad()
def score(
    model: OpenedModel,
    plans: Sequence[Plan],
    requests: Sequence[tuple[TokenRequest, list[int]]],
    progress: Callable[[float], None],
    memory: int | None = None,
) -> list[list[Score]]:
    """Return, per plan and request, (sum of log p in nats, all tokens greedy?).

    A request is a passage, and the tokens that its scored rows should predict. A batch takes no
    more than ``memory`` bytes (None: what is free).
    """
    tree = plant([lower(plan).instructions for plan in plans])
    scores: list[list[Score]] = [[(0.0, True)] * len(requests) for _ in plans]
    passages = [passage for passage, _ in requests]
    queue = fitting(model, tree, passages, memory)
    meter = Meter(progress, queue.rows * tree.size)
    for bundle in queue:
        wanted = Wanted([requests[index][1] for index in bundle.passages], bundle.predictions)
        step = lambda rows=bundle.rows: meter.add(rows)  # noqa: E731
        try:
            executors, donors = open_group(model, passages, bundle, tree.injects)
            with chosen_attention(model, tree_sparse_attention(model.device)):
                for plan, states in walk(tree, executors, donors, step):
                    found = wanted.scores(model, executors.finish(states))
                    for index, value in zip(bundle.passages, found, strict=True):
                        scores[plan][index] = value
        except (RuntimeError, MemoryError) as error:
            queue.failed(bundle, error)
    return scores


@dataclass(frozen=True)
class Wanted:
    """The tokens that requests want, and the prediction (by index) that each is wanted of."""

    tokens: Sequence[Sequence[int]]
    predictions: Sequence[Sequence[int]]

    def scores(
        self, model: OpenedModel, states: Float[Tensor, "predictions hidden"]
    ) -> Iterator[Score]:
        """Yield, per request, the sum of log p and whether every token was the likeliest."""
        order, rows, tokens = self._by_row
        log_p, greedy = token_scores(model, states, rows, tokens)
        back = torch.empty_like(order)
        back[order] = torch.arange(len(order))
        log_p, greedy = log_p.cpu()[back], greedy.cpu()[back]
        counts = [len(each) for each in self.tokens]
        for part, alike in zip(log_p.split(counts), greedy.split(counts), strict=True):
            yield part.sum().item(), bool(alike.all())

    @cached_property
    def _by_row(self) -> tuple[Tensor, Tensor, Tensor]:
        """All wanted tokens, ordered by the prediction that they are wanted of."""
        rows = torch.tensor([row for each in self.predictions for row in each])
        tokens = torch.tensor([token for each in self.tokens for token in each])
        order = rows.argsort(stable=True)
        return order, rows[order], tokens[order]


def token_scores(
    model: Opened,
    states: Float[Tensor, "predictions hidden"],
    rows: Int[Tensor, "tokens"],
    tokens: Int[Tensor, "tokens"],
) -> tuple[Float[Tensor, "tokens"], Bool[Tensor, "tokens"]]:
    """Return log p in nats of each token after its row, and whether it was the likeliest.

    Rows ascend.
    """
    slab = _slab(model)
    log_p, greedy = [], []
    for begin in range(0, len(states), slab):
        logits = model.leave(states[begin : begin + slab]).float()
        here = (rows >= begin) & (rows < begin + slab)
        row = (rows[here] - begin).to(logits.device)
        wanted = tokens[here].to(logits.device)
        greedy.append(_are_likeliest(logits, row, wanted))
        log_p.append(_normalised(logits, row, wanted))
    return torch.cat(log_p), torch.cat(greedy)


def _normalised(
    logits: Float[Tensor, "rows vocab"], row: Int[Tensor, "tokens"], wanted: Int[Tensor, "tokens"]
) -> Float[Tensor, "tokens"]:
    """Return log p of each token after its row; rows ascend."""
    some = NORMALISED_AT_ONCE.get(logits.device.type, LOGITS_AT_ONCE) // logits.shape[1] or 1
    counts = torch.bincount(row // some, minlength=-(-len(logits) // some)).tolist()
    parts = zip(logits.split(some), row.split(counts), wanted.split(counts), strict=True)
    return torch.cat([part.log_softmax(1)[at % some, token] for part, at, token in parts])


def _are_likeliest(
    logits: Float[Tensor, "rows vocab"], row: Int[Tensor, "tokens"], wanted: Int[Tensor, "tokens"]
) -> Bool[Tensor, "tokens"]:
    """Whether each token is the likeliest after its row; of equal ones, the first is."""
    found = logits[row, wanted] == logits.amax(1)[row]
    found[found.clone()] = logits[row[found]].argmax(1) == wanted[found]  # which few can be
    return found


def likeliest(
    model: Opened, states: Float[Tensor, "predictions hidden"]
) -> Int[Tensor, "predictions"]:
    """Return the likeliest token after each state."""
    return torch.cat([model.leave(rows).argmax(-1) for rows in states.split(_slab(model))])


def _slab(model: Opened) -> int:
    """Return of how many rows logits are made at once, so that they never fill the memory."""
    return max(1, LOGITS_AT_ONCE // model.vocabulary)
