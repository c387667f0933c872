"""Greedy generation, for many plans at once.

Prompts are read once per trunk of the plan tree. Then each plan decodes with keys and values of
its own, one slot per attention occurrence. A step takes one new token: as the current one, and,
past a marker, at once also as the earlier token that it will be from the next step on. Rows that
have finished leave the batch.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from impasto.model.opened import OpenedModel
from impasto.plan import Inject, Plan
from impasto.run.batches import Meter, batches
from impasto.run.donors import Transplant, donor_run
from impasto.run.rows import Batch, first_batch
from impasto.run.slot import KeysValues
from impasto.run.tree import DonorRun, Node, plant, walk
from impasto.run.walk import State, Walker

IsFinished = Callable[[list[int]], bool]


@dataclass(frozen=True, slots=True)
class Start:
    """A prompt's tokens, and what is injected into it."""

    ids: list[int]
    transplants: Mapping[str, Transplant]


@dataclass(frozen=True, slots=True)
class Limits:
    """When to end: after so many new tokens, or when a sequence of new tokens is finished."""

    max_new_tokens: int
    is_finished: IsFinished


@torch.no_grad()
def generate(
    model: OpenedModel,
    plans: Sequence[Plan],
    starts: Sequence[Start],
    limits: Limits,
    progress: Callable[[float], None],
) -> list[list[list[int]]]:
    """Return, per plan and prompt, the new token ids, the ones that ended it included."""
    tree = plant(plans)
    written: list[list[list[int]]] = [[[] for _ in starts] for _ in plans]
    meter = Meter(progress, len(plans) * len(starts))
    for indices in batches([len(start.ids) for start in starts]):
        walker, donors = _prompts(model, tree, [starts[i] for i in indices], records=True)
        for plan, state in walk(tree, walker, donors):
            first = model.leave(walker.finish(state)).argmax(-1)
            new = _decode(_begun(walker, plans[plan], state), first, limits)
            for index, ids in zip(indices, new, strict=True):
                written[plan][index] = ids
            meter.add(len(indices))
    return written


@torch.no_grad()
def predict(
    model: OpenedModel, plan: Plan, starts: Sequence[Start]
) -> Float[Tensor, "prompts vocab"]:
    """Return the logits after each prompt."""
    tree = plant([plan])
    walker, donors = _prompts(model, tree, starts, records=False)
    (_, state), *_ = walk(tree, walker, donors)
    return model.leave(walker.finish(state))


def _prompts(
    model: OpenedModel, tree: Node, starts: Sequence[Start], records: bool
) -> tuple[Walker, dict[str, DonorRun]]:
    """Return the walker of some prompts, and the donors beside it."""
    lengths = [len(start.ids) for start in starts]
    batch = first_batch(
        [start.ids for start in starts], [range(n - 1, n) for n in lengths], model.device
    )
    donors = {
        name: donor_run(model, [start.transplants[name] for start in starts], lengths)
        for name in tree.injects
    }
    return Walker(model, batch, records=records), donors


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


def _begun(walker: Walker, plan: Plan, state: State) -> Decoding:
    """Return where decoding stands once the prompts have been read."""
    batch = walker.batch
    total = batch.hashed[1][:, -1]  # padding adds nothing
    return Decoding(walker.model, plan, state.kept, batch.positions, batch.is_real, total)


def _decode(decoding: Decoding, following: Int[Tensor, "batch"], limits: Limits) -> list[list[int]]:
    written: list[list[int]] = [[] for _ in range(len(following))]
    rows = list(range(len(written)))  # which sequence each batch entry is
    while rows:
        for row, token in zip(rows, following.tolist(), strict=True):
            written[row].append(token)
        going = [
            entry
            for entry, row in enumerate(rows)
            if len(written[row]) < limits.max_new_tokens and not limits.is_finished(written[row])
        ]
        if len(going) < len(rows):
            index = torch.tensor(going, dtype=torch.long, device=following.device)
            rows = [rows[entry] for entry in going]
            decoding, following = decoding.of(index), following[index]
        if rows:
            following, decoding = decoding.read(following)
    return written
