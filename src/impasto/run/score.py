"""Log-likelihoods of continuations, for many plans at once.

Each token of a continuation is predicted with its own preceding token current and all before it
earlier; the packed rows of :mod:`impasto.run.rows` give them all in one forward.
"""

from collections.abc import Callable, Iterator, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from impasto.model.opened import OpenedModel
from impasto.plan import Plan
from impasto.run.meter import Meter
from impasto.run.passage import Passage, batches, open_passages
from impasto.run.tree import Node, plant, walk

Score = tuple[float, bool]

_LOGITS_AT_ONCE = 2**25  # how many numbers a slab of logits may hold


@torch.no_grad()
def score(
    model: OpenedModel,
    plans: Sequence[Plan],
    requests: Sequence[tuple[Passage, list[int]]],
    progress: Callable[[float], None],
) -> list[list[Score]]:
    """Return, per plan and request, (sum of log p in nats, all tokens greedy?).

    A request is a passage, and the tokens that its scored rows should predict.
    """
    tree = plant([plan.steps for plan in plans])
    scores: list[list[Score]] = [[(0.0, True)] * len(requests) for _ in plans]
    passages = [passage for passage, _ in requests]
    meter = Meter(progress, sum(len(passage.ids) for passage in passages) * tree.size)
    for indices in batches(passages):
        part = [requests[index] for index in indices]
        step_cost = sum(len(passage.ids) for passage, _ in part)
        for plan, found in _score_batch(model, tree, part, lambda c=step_cost: meter.add(c)):
            for index, value in zip(indices, found, strict=True):
                scores[plan][index] = value
    return scores


def _score_batch(
    model: OpenedModel,
    tree: Node,
    requests: list[tuple[Passage, list[int]]],
    on_step: Callable[[], None],
) -> Iterator[tuple[int, list[Score]]]:
    walker, donors = open_passages(model, [p for p, _ in requests], tree.injects, records=False)
    answers = torch.tensor([t for _, answer in requests for t in answer], device=model.device)
    counts = [len(answer) for _, answer in requests]
    for plan, state in walk(tree, walker, donors, on_step):
        log_p, greedy = token_scores(model, walker.finish(state), answers)
        sums = [part.sum().item() for part in log_p.split(counts)]
        alike = [bool(part.all()) for part in greedy.split(counts)]
        yield plan, list(zip(sums, alike, strict=True))


def token_scores(
    model: OpenedModel, states: Float[Tensor, "rows hidden"], tokens: Int[Tensor, "rows"]
) -> tuple[Float[Tensor, "rows"], Tensor]:
    """Return log p in nats of each token after its row, and whether it was the likeliest."""
    slab = max(1, _LOGITS_AT_ONCE // model.vocabulary)
    log_p, greedy = [], []
    for rows, wanted in zip(states.split(slab), tokens.split(slab), strict=True):
        logits = model.leave(rows).float()
        wanted = wanted.to(logits.device)
        chosen = logits.gather(1, wanted[:, None])[:, 0]
        log_p.append(chosen - logits.logsumexp(1))
        greedy.append(logits.argmax(1) == wanted)
    return torch.cat(log_p), torch.cat(greedy)
