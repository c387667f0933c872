"""Log-likelihoods of continuations, for many plans at once.

Each token of a continuation is predicted with its own preceding token current and all before it
earlier; the packed rows of :mod:`impasto.run.rows` give them all in one forward.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from impasto.model.opened import OpenedModel
from impasto.plan import Plan
from impasto.run.batches import Meter, batches
from impasto.run.donors import Transplant, donor_run
from impasto.run.rows import first_batch
from impasto.run.tree import Node, plant, walk
from impasto.run.walk import Walker

Score = tuple[float, bool]

_LOGITS_AT_ONCE = 2**25  # how many numbers a slab of logits may hold


@dataclass(frozen=True, slots=True)
class Request:
    """Tokens to read, the rows whose predictions count, and what they should predict."""

    read: list[int]
    scored: range
    answer: list[int]
    transplants: Mapping[str, Transplant]
    cut: int = 0  # tokens lost at the left end


@torch.no_grad()
def score(
    model: OpenedModel,
    plans: Sequence[Plan],
    requests: Sequence[Request],
    progress: Callable[[float], None],
) -> list[list[Score]]:
    """Return, per plan and request, (sum of log p in nats, all tokens greedy?)."""
    tree = plant(plans)
    scores: list[list[Score]] = [[(0.0, True)] * len(requests) for _ in plans]
    meter = Meter(progress, sum(len(request.read) for request in requests) * tree.size)
    for indices in batches([len(request.read) for request in requests]):
        part = [requests[index] for index in indices]
        step_cost = sum(len(request.read) for request in part)
        for plan, found in _score_batch(model, tree, part, lambda c=step_cost: meter.add(c)):
            for index, value in zip(indices, found, strict=True):
                scores[plan][index] = value
    return scores


def _score_batch(
    model: OpenedModel, tree: Node, requests: list[Request], on_step: Callable[[], None]
) -> list[tuple[int, list[Score]]]:
    batch = first_batch([r.read for r in requests], [r.scored for r in requests], model.device)
    walker = Walker(model, batch)
    lengths, cut = [len(r.read) for r in requests], [r.cut for r in requests]
    donors = {
        name: donor_run(model, [r.transplants[name] for r in requests], lengths, cut)
        for name in tree.injects
    }
    answer = torch.tensor([t for r in requests for t in r.answer], device=model.device)
    counts = [len(r.answer) for r in requests]
    found = []
    for plan, state in walk(tree, walker, donors, on_step):
        log_p, greedy = token_scores(model, walker.finish(state), answer)
        sums = [part.sum().item() for part in log_p.split(counts)]
        alike = [bool(part.all()) for part in greedy.split(counts)]
        found.append((plan, list(zip(sums, alike, strict=True))))
    return found


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
