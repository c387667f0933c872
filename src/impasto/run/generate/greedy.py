"""Greedy generation, for many plans at once.

Prompts are read once per trunk of the plan tree. What each plan read is gone on with by
:mod:`impasto.run.generate.scheduler`, together with what others have read; the tree is walked on as there is
room for more. Plans that are lowered to the same program are one.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from impasto.model.decoder import OpenedModel
from impasto.plan import Plan
from impasto.plan.program import Program, lower
from impasto.run.batching.batches import BatchGroup, batch_groups, group_executor
from impasto.run.batching.memory import Meter, allowed_bytes, fitting_groups
from impasto.run.batching.request import TokenRequest
from impasto.run.execute.logits import likeliest
from impasto.run.execute.plan_tree import Node, plant, trunk_first, walk
from impasto.run.generate.call_order import neighbourhood
from impasto.run.generate.decoding_plan import GeneratedText, unfinished
from impasto.run.generate.scheduler import Scheduler
from impasto.run.generate.stopping import Stopping


@torch.no_grad()
def generate(
    model: OpenedModel,
    plans: Sequence[Plan],
    prompts: Sequence[TokenRequest],
    limits: Stopping,
    progress: Callable[[float], None],
    memory: int | None = None,
) -> list[list[list[int]]]:
    """Return, per plan and prompt, the new token ids, the ones that ended it included.

    Batches, and the keys and values of plans that decode together, take no more than ``memory``
    bytes each.
    """
    memory = allowed_bytes(memory, model.device)
    meter = Meter(progress, len(plans) * len(prompts))
    lowered = [lower(plan) for plan in plans]
    programs = list(dict.fromkeys(lowered))
    tree = trunk_first(plant([program.instructions for program in programs]))
    job = _Job(model, programs, tree, prompts, limits, memory)
    written: list[list[list[int]]] = [[[] for _ in prompts] for _ in programs]
    queue = fitting_groups(model, job.tree, prompts, memory, merge=False)
    for bundle in queue:
        try:
            for place, texts in _continued(job, bundle).items():
                for index, text in zip(bundle.requests, texts, strict=True):
                    written[place][index] = text.written
        except (RuntimeError, MemoryError) as error:
            queue.failed(bundle, error)
        else:
            meter.add(len(bundle.requests) * len(plans))
    places = {program: place for place, program in enumerate(programs)}
    return [[list(new) for new in written[places[program]]] for program in lowered]


@dataclass(frozen=True, slots=True)
class _Job:
    """What is to be continued, under which programs, and within which bounds."""

    model: OpenedModel
    programs: Sequence[Program]
    tree: Node
    prompts: Sequence[TokenRequest]
    limits: Stopping
    memory: int


def _continued(job: _Job, bundle: BatchGroup) -> dict[int, list[GeneratedText]]:
    """Return, per program, what is written behind a bundle's prompts."""
    prompts = [job.prompts[index].ids for index in bundle.requests]
    executors, donors = group_executor(
        job.model, job.prompts, bundle, job.tree.injects, records=True
    )
    batches = [executor.batch for executor in executors.executors]
    total = torch.cat([batch.pick(batch.hashed[1])[:, 0] for batch in batches])
    scheduler = Scheduler(job.model, job.limits, job.memory // 2)
    found: dict[int, list[GeneratedText]] = {}
    kinds = [neighbourhood(program)[0] for program in job.programs]
    for place, states in walk(job.tree, executors, donors, kinds=kinds):
        tokens = likeliest(job.model, executors.finish(states)).tolist()
        texts = [GeneratedText(len(prompt)) for prompt in prompts]
        for text, token in zip(texts, tokens, strict=True):
            text.write(token, job.limits)
        found[place] = texts
        kept = dict(states.kept)
        del states  # lest what they kept stay when it has moved
        decoding = unfinished(job.programs[place], texts, total, kept)
        if decoding is not None:
            scheduler.add(decoding)
        scheduler.wait(len(prompts))  # before the next plan reads them
    scheduler.finish()
    return found


@torch.no_grad()
def predict(
    model: OpenedModel, plan: Plan, prompts: Sequence[TokenRequest]
) -> Float[Tensor, "prompts vocab"]:
    """Return the logits after each prompt."""
    tree = plant([lower(plan).instructions])
    found: list[Tensor] = [torch.empty(0)] * len(prompts)
    for bundle in batch_groups(model, prompts, merge=False):
        executors, donors = group_executor(model, prompts, bundle, tree.injects)
        ((_, states),) = walk(tree, executors, donors)
        logits = model.leave(executors.finish(states))
        for index, row in zip(bundle.requests, logits, strict=True):
            found[index] = row
    return torch.stack(found)
