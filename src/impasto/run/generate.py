"""Greedy generation, for many plans at once.

Prompts are read once per trunk of the plan tree, and behind them a draft: what the first plan (a
study's baseline) wrote. A plan that would have written the same is done at once. The others decode
from where they differ, together (:mod:`impasto.run.decode`). A step takes one new token: as the
current one, and, past a marker, at once also as the earlier token that it will be from the next
step on. Sequences that have finished leave the batch.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile

import torch
from jaxtyping import Float
from torch import Tensor

from impasto.model.opened import OpenedModel
from impasto.plan import Plan
from impasto.run.begun import Begun
from impasto.run.bundle import Bundle, bundles, open_bundle, rows_per_call
from impasto.run.decode import decode
from impasto.run.memory import fitting, free_bytes
from impasto.run.meter import Meter
from impasto.run.passage import Passage
from impasto.run.score import likeliest
from impasto.run.tree import Node, plant, walk
from impasto.run.walk import State, Walker

IsFinished = Callable[[list[int]], bool]


@dataclass(frozen=True, slots=True)
class Limits:
    """When to end: after so many new tokens, or when a sequence of new tokens is finished."""

    max_new_tokens: int
    is_finished: IsFinished

    def is_done(self, written: list[int]) -> bool:
        """Whether nothing is to follow these new tokens."""
        return len(written) >= self.max_new_tokens or self.is_finished(written)


@torch.no_grad()
def generate(
    model: OpenedModel,
    plans: Sequence[Plan],
    prompts: Sequence[Passage],
    limits: Limits,
    progress: Callable[[float], None],
    memory: int | None = None,
) -> list[list[list[int]]]:
    """Return, per plan and prompt, the new token ids, the ones that ended it included.

    The first plan decodes alone; what it wrote is the draft that the others verify. Batches, and
    the keys and values of plans that decode together, take no more than ``memory`` bytes each.
    """
    memory = free_bytes(model.device) if memory is None else memory
    meter = Meter(progress, len(plans) * len(prompts))
    if not plans:
        return []
    nothing: list[list[int]] = [[] for _ in prompts]
    first = _continued(model, plans[:1], prompts, nothing, limits, meter, memory)
    return first + _continued(model, plans[1:], prompts, first[0], limits, meter, memory)


@dataclass(frozen=True, slots=True)
class _Job:
    """What is to be continued, under which plans, and within which bounds."""

    model: OpenedModel
    plans: Sequence[Plan]
    tree: Node
    reading: Sequence[Passage]
    drafts: Sequence[list[int]]
    limits: Limits
    memory: int


def _continued(
    model: OpenedModel,
    plans: Sequence[Plan],
    prompts: Sequence[Passage],
    drafts: Sequence[list[int]],
    limits: Limits,
    meter: Meter,
    memory: int,
) -> list[list[list[int]]]:
    """Return, per plan and prompt, the new token ids, given a draft of each.

    A draft is read behind its prompt. Its tokens are the plan's own as far as the plan would have
    predicted them; from the first that it would not, the plan decodes by itself.
    """
    tree = plant([plan.steps for plan in plans])
    written: list[list[list[int]]] = [[[] for _ in prompts] for _ in plans]
    reading = [
        replace(
            prompt,
            ids=prompt.ids + draft[:-1],
            scored=range(prompt.scored.start, prompt.scored.start + max(1, len(draft))),
        )
        for prompt, draft in zip(prompts, drafts, strict=True)
    ]
    if not plans:
        return written
    job = _Job(model, plans, tree, reading, drafts, limits, memory)
    queue = fitting(model, tree, reading, memory, merge=False)
    for bundle in queue:
        try:
            for plan, found in _continued_bundle(job, bundle):
                for index, new in zip(bundle.passages, found, strict=True):
                    written[plan][index] = new
        except (RuntimeError, MemoryError) as error:
            queue.failed(bundle, error)
        else:
            meter.add(len(bundle.passages) * len(plans))
    return written


def _continued_bundle(job: "_Job", bundle: Bundle) -> Iterator[tuple[int, list[list[int]]]]:
    """Yield, per plan, what it wrote behind a bundle's prompts.

    Plans decode together, until more at once would be no faster or would take too much memory.
    """
    walker, donors = open_bundle(job.model, job.reading, bundle, job.tree.injects, records=True)
    counts = [len(job.reading[index].scored) for index in bundle.passages]
    enough = rows_per_call(job.model)
    written: dict[int, list[list[int]]] = {}
    begun: list[Begun] = []
    for plan, state in walk(job.tree, walker, donors):
        tokens = likeliest(job.model, walker.finish(state)).split(counts)
        new = [
            _agreed(job.drafts[index], row.tolist())
            for index, row in zip(bundle.passages, tokens, strict=True)
        ]
        written[plan] = new
        begun.append(_begun(walker, job.plans[plan], state, new))
        del state
        rows, size = len(bundle.tries) * len(begun), sum(each.bytes for each in begun)
        if rows >= enough or size > job.memory / 2:
            decode(job.model, begun, job.limits.is_done, job.limits.max_new_tokens)
            yield from written.items()
            written = {}
    decode(job.model, begun, job.limits.is_done, job.limits.max_new_tokens)
    yield from written.items()


def _agreed(draft: list[int], likeliest: list[int]) -> list[int]:
    """Return the likeliest tokens up to the first that the draft did not foresee."""
    same = (a == b for a, b in zip(draft, likeliest, strict=False))
    return likeliest[: sum(takewhile(bool, same)) + 1]


@torch.no_grad()
def predict(
    model: OpenedModel, plan: Plan, prompts: Sequence[Passage]
) -> Float[Tensor, "prompts vocab"]:
    """Return the logits after each prompt."""
    tree = plant([plan.steps])
    found: list[Tensor] = [torch.empty(0)] * len(prompts)
    for bundle in bundles(model, prompts, merge=False):
        walker, donors = open_bundle(model, prompts, bundle, tree.injects, records=False)
        ((_, state),) = walk(tree, walker, donors)
        logits = model.leave(walker.finish(state))
        for index, row in zip(bundle.passages, logits, strict=True):
            found[index] = row
    return torch.stack(found)


def _begun(walker: Walker, plan: Plan, state: State, written: list[list[int]]) -> Begun:
    """Return where decoding stands: prompts read, and as much of each draft as was agreed."""
    batch = walker.batch
    agreed = torch.tensor([len(new) for new in written], device=batch.ids.device)
    count = batch.scored[:, :1] + agreed[:, None]
    is_read = torch.arange(batch.ids.shape[1], device=batch.ids.device) < count
    return Begun(
        plan,
        written,
        state.kept,
        past=torch.cat([batch.past, batch.positions], 1),
        has_past=torch.cat([batch.has_past, is_read], 1),
        total=batch.hashed[1].gather(1, count - 1)[:, 0],
    )
