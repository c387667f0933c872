"""Log-likelihoods of continuations, for many plans at once.

Each token of a continuation is predicted with the token before it current and all before that one
earlier. Split rows (:mod:`impasto.run.execute.rows`) give all these predictions in one forward
pass, and the choices of a question share one run of it (:mod:`impasto.run.batching.prefix_tree`).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor

from impasto.model.decoder import OpenedModel
from impasto.plan import Plan
from impasto.plan.lowering import lower
from impasto.plan.tree import plant, walk
from impasto.run.attention.choice import chosen_attention
from impasto.run.attention.tree_sparse import tree_sparse_attention
from impasto.run.batching.demand import Asked
from impasto.run.batching.memory import Meter, fitting_groups
from impasto.run.batching.request import TokenRequest
from impasto.run.execute.groups import group_executor
from impasto.run.execute.logits import token_scores

Score = tuple[float, bool]


@torch.no_grad()
def score(
    model: OpenedModel,
    plans: Sequence[Plan],
    requests: Sequence[tuple[TokenRequest, list[int]]],
    progress: Callable[[float], None],
    memory: int | None = None,
) -> list[list[Score]]:
    """Return, per plan and request, (sum of log p in nats, whether every token was the likeliest).

    Args:
        model: The model.
        plans: The plans.
        requests: What is read, and the tokens that its scored rows should predict.
        progress: Called with the share that is done, 0 to 1.
        memory: The bytes that a batch may take; None for what is free.
    """
    programs = [lower(plan).instructions for plan in plans]
    tree = plant(programs, releases=model.packs_rows)
    scores: list[list[Score]] = [[(0.0, True)] * len(requests) for _ in plans]
    read = [request for request, _ in requests]
    queue = fitting_groups(Asked(model, tree), read, memory)
    meter = Meter(progress, queue.rows * tree.size)
    for group in queue:
        continuations = Continuations(
            [requests[index][1] for index in group.requests], group.predictions
        )
        on_node = lambda rows=group.rows: meter.add(rows)  # noqa: E731
        try:
            executor, donors = group_executor(model, read, group, tree.injects)
            with chosen_attention(model, tree_sparse_attention(model.device)):
                ended = [
                    (plan, continuations.read(model, executor.finish(states)))
                    for plan, states in walk(tree, executor, donors, on_node)
                ]
            read_by_plan = torch.stack([both for _, both in ended]).cpu()
            for (plan, _), both in zip(ended, read_by_plan, strict=True):
                for index, value in zip(group.requests, continuations.scores(both), strict=True):
                    scores[plan][index] = value
        except (RuntimeError, MemoryError) as error:
            queue.failed(group, error)
    return scores


@dataclass(frozen=True)
class Continuations:
    """The continuations of some requests.

    Attributes:
        tokens: The tokens of each continuation.
        predictions: For each token, the prediction (by index) that should name it.
    """

    tokens: Sequence[Sequence[int]]
    predictions: Sequence[Sequence[int]]

    def read(
        self, model: OpenedModel, states: Float[Tensor, "predictions hidden"]
    ) -> Float[Tensor, "2 tokens"]:
        """Return log p of each token by ascending prediction, and 1 where it was the likeliest.

        They stay on their device, which need not have come to them.
        """
        _, rows, tokens = self.by_prediction
        log_p, greedy = token_scores(model, states, rows, tokens)
        return torch.stack([log_p, greedy.to(log_p.dtype)])

    def scores(self, read: Float[Tensor, "2 tokens"]) -> Iterator[Score]:
        """Yield, per request, the sum of log p and whether every token was the likeliest."""
        log_p, greedy = read[:, self._back]
        counts = [len(continuation) for continuation in self.tokens]
        for part, is_likeliest in zip(log_p.split(counts), greedy.split(counts), strict=True):
            yield part.sum().item(), bool(is_likeliest.all())

    @cached_property
    def _back(self) -> Int[Tensor, "tokens"]:
        """Where each token stands by ascending prediction."""
        order = self.by_prediction[0]
        back = torch.empty_like(order)
        back[order] = torch.arange(len(order))
        return back

    @cached_property
    def by_prediction(
        self,
    ) -> tuple[Int[Tensor, "tokens"], Int[Tensor, "tokens"], Int[Tensor, "tokens"]]:
        """All tokens by ascending prediction: their order, their predictions, and they."""
        rows = torch.tensor([row for each in self.predictions for row in each])
        tokens = torch.tensor([token for each in self.tokens for token in each])
        order = rows.argsort(stable=True)
        return order, rows[order], tokens[order]
