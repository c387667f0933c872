"""Greedy generation, for many plans at once.

Prompts are read once per trunk of the plan tree, and behind them a draft: what the first plan (a
study's baseline) wrote. A plan that would have written the same is done at once. Else each plan
decodes from where it differs, with keys and values of its own, one slot per attention occurrence.
A step takes one new token: as the current one, and, past a marker, at once also as the earlier
token that it will be from the next step on. Rows that have finished leave the batch.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from impasto.model.opened import OpenedModel
from impasto.plan import Inject, Plan
from impasto.run.meter import Meter
from impasto.run.passage import Passage, batches, open_passages
from impasto.run.rows import Batch
from impasto.run.slot import KeysValues
from impasto.run.tree import plant, walk
from impasto.run.walk import State, Walker

IsFinished = Callable[[list[int]], bool]


@dataclass(frozen=True, slots=True)
class Limits:
    """When to end: after so many new tokens, or when a sequence of new tokens is finished."""

    max_new_tokens: int
    is_finished: IsFinished


@torch.no_grad()
def generate(
    model: OpenedModel,
    plans: Sequence[Plan],
    prompts: Sequence[Passage],
    limits: Limits,
    progress: Callable[[float], None],
) -> list[list[list[int]]]:
    """Return, per plan and prompt, the new token ids, the ones that ended it included.

    The first plan decodes alone; what it wrote is the draft that the others verify.
    """
    meter = Meter(progress, len(plans) * len(prompts))
    if not plans:
        return []
    nothing: list[list[int]] = [[] for _ in prompts]
    first = _continued(model, plans[:1], prompts, nothing, limits, meter)
    return first + _continued(model, plans[1:], prompts, first[0], limits, meter)


def _continued(
    model: OpenedModel,
    plans: Sequence[Plan],
    prompts: Sequence[Passage],
    drafts: Sequence[list[int]],
    limits: Limits,
    meter: Meter,
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
    for indices in batches(reading) if plans else ():
        part = [reading[index] for index in indices]
        walker, donors = open_passages(model, part, tree.injects, records=True)
        counts = [len(passage.scored) for passage in part]
        for plan, state in walk(tree, walker, donors):
            likeliest = model.leave(walker.finish(state)).argmax(-1).split(counts)
            begun = [
                _agreed(drafts[index], tokens.tolist())
                for index, tokens in zip(indices, likeliest, strict=True)
            ]
            decoding = _begun(walker, plans[plan], state, [len(new) - 1 for new in begun])
            for index, new in zip(indices, _decode(decoding, begun, limits), strict=True):
                written[plan][index] = new
            meter.add(len(indices))
    return written


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
    walker, donors = open_passages(model, prompts, tree.injects, records=False)
    (_, state), *_ = walk(tree, walker, donors)
    return model.leave(walker.finish(state))


@dataclass(frozen=True, slots=True)
class Decoding:
    """One plan's unfinished sequences: all but the tokens that have not been read yet.

    Attributes:
        model: The model.
        plan: How it runs.
        kept: What earlier tokens left at each attention occurrence.
        past: The positions of those tokens.
        has_past: Where they are no padding.
        total: The noise sums over them.
    """

    model: OpenedModel
    plan: Plan
    kept: tuple[KeysValues, ...]
    past: Int[Tensor, "batch past"]
    has_past: Bool[Tensor, "batch past"]
    total: Int[Tensor, "batch"]

    def read(self, tokens: Int[Tensor, "batch"]) -> tuple[Int[Tensor, "batch"], "Decoding"]:
        """Read one more token of each sequence; return the likeliest next ones."""
        first = torch.zeros_like(tokens)[:, None]
        batch = Batch(
            ids=tokens[:, None],
            positions=self.has_past.sum(1, keepdim=True),
            is_real=torch.ones_like(first, dtype=torch.bool),
            scored=first,
            is_scored=torch.ones_like(first, dtype=torch.bool),
            past=self.past,
            has_past=self.has_past,
            total=self.total,
        )
        walker = Walker(self.model, batch, self.kept, records=True)
        state = walker.start()
        for step in self.plan.steps:
            if not isinstance(step, Inject):  # its target lies in the prompt
                state = walker.step(step, state)
        following = self.model.leave(walker.finish(state)).argmax(-1)
        return following, replace(
            self,
            kept=state.kept,
            past=torch.cat([self.past, batch.positions], 1),
            has_past=torch.cat([self.has_past, batch.is_real], 1),
            total=batch.hashed[1][:, -1],
        )

    def of(self, rows: Int[Tensor, "left"]) -> "Decoding":
        """Return what is left when only the given sequences go on."""
        return replace(
            self,
            kept=tuple(entry.of(rows.to(entry.keys.device)) for entry in self.kept),
            past=self.past[rows],
            has_past=self.has_past[rows],
            total=self.total[rows],
        )


def _begun(walker: Walker, plan: Plan, state: State, agreed: list[int]) -> Decoding:
    """Return where decoding stands: prompts read, and as much of each draft as was agreed."""
    batch = walker.batch
    count = batch.scored[:, :1] + 1 + torch.tensor(agreed, device=batch.ids.device)[:, None]
    is_read = torch.arange(batch.ids.shape[1], device=batch.ids.device) < count
    return Decoding(
        walker.model,
        plan,
        state.kept,
        past=torch.cat([batch.past, batch.positions], 1),
        has_past=torch.cat([batch.has_past, is_read], 1),
        total=batch.hashed[1].gather(1, count - 1)[:, 0],
    )


def _decode(decoding: Decoding, written: list[list[int]], limits: Limits) -> list[list[int]]:
    """Go on from what was written (its last token not yet read) until every sequence has ended."""
    rows = list(range(len(written)))  # which sequence each batch entry is
    while True:
        going = [
            entry
            for entry, row in enumerate(rows)
            if len(written[row]) < limits.max_new_tokens and not limits.is_finished(written[row])
        ]
        if not going:
            return written
        if len(going) < len(rows):
            rows = [rows[entry] for entry in going]
            decoding = decoding.of(torch.tensor(going, device=decoding.past.device))
        last = [written[row][-1] for row in rows]
        following, decoding = decoding.read(torch.tensor(last, device=decoding.past.device))
        for row, token in zip(rows, following.tolist(), strict=True):
            written[row].append(token)
