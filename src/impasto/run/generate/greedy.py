"""Greedy generation, for many plans at once.

Prefill reads the prompts along the plan tree: once for all plans as long as they run alike. A plan
that has read them goes to the :mod:`impasto.run.generate.scheduler`, which decodes many plans
together; the walk of the tree continues as soon as the scheduler has capacity for another plan.
Plans that are lowered to the same program run once.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from impasto.model.decoder import OpenedModel
from impasto.plan import Plan
from impasto.plan.lowering import lower
from impasto.plan.program import Program
from impasto.plan.tree import DonorRun, Node, plant, walk
from impasto.run.batching.batches import BatchGroup, batch_groups, in_common
from impasto.run.batching.memory import Meter, allowed_bytes
from impasto.run.batching.request import TokenRequest
from impasto.run.execute.groups import GroupExecutor, group_executor
from impasto.run.execute.logits import likeliest
from impasto.run.execute.sequential import SequentialExecutor
from impasto.run.generate.call_order import neighbour_key
from impasto.run.generate.decoding_plan import DecodingPlan, GeneratedText, Stopping
from impasto.run.generate.one_by_one import Writer
from impasto.run.generate.scheduler import Scheduler
from impasto.run.generate.sets import PlanSet, plan_sets


@torch.no_grad()
def generate(
    model: OpenedModel,
    plans: Sequence[Plan],
    prompts: Sequence[TokenRequest],
    stopping: Stopping,
    progress: Callable[[float], None],
    memory: int | None = None,
) -> list[list[list[int]]]:
    """Return, per plan and prompt, the new token ids, those that ended the text included.

    ``progress`` is called with the share that is done. Batches, and the keys and values of plans
    that decode together, take at most ``memory`` bytes.
    """
    lowered = [lower(plan) for plan in plans]
    programs = list(dict.fromkeys(lowered))
    meter = Meter(progress, len(programs) * len(prompts))
    written: dict[Program, list[list[int]]] = {each: [[] for _ in prompts] for each in programs}
    new_tokens, memory = stopping.max_new_tokens, allowed_bytes(memory, model)
    for plan_set in plan_sets(model, programs, prompts, new_tokens, memory):
        job = _Job(model, plan_set, prompts, stopping)
        for group in plan_set.queue:
            try:
                for number, texts in _generate_group(job, group).items():
                    for index, text in zip(group.requests, texts, strict=True):
                        written[plan_set.programs[number]][index] = text.written
            except (RuntimeError, MemoryError) as error:
                plan_set.queue.failed(group, error)
            else:
                meter.add(len(group.requests) * len(plan_set.programs))
    return [[list(new) for new in written[program]] for program in lowered]


@dataclass(frozen=True, slots=True)
class _Job:
    """What is asked of the groups of one set of plans."""

    model: OpenedModel
    plan_set: PlanSet
    prompts: Sequence[TokenRequest]
    stopping: Stopping

    @property
    def tree(self) -> Node:
        """The plan tree."""
        return self.plan_set.tree

    def behind_prompt(self, number: int) -> Program:
        """Return what a plan runs behind the prompt."""
        return self.plan_set.programs[number].behind_prompt


def _generate_group(job: _Job, group: BatchGroup) -> dict[int, list[GeneratedText]]:
    """Return, per program by number, the texts written behind a group's prompts."""
    prompts = [job.prompts[index].ids for index in group.requests]
    given = job.model, job.prompts, group, job.tree.injects
    common = in_common(job.model, len(group.prefix))
    executors, donors = group_executor(*given, records=True, in_common=common)
    if isinstance(executors, SequentialExecutor):
        return _write_one_by_one(job, prompts, executors, donors)
    assert isinstance(executors, GroupExecutor), "rows are packed"
    batches = [executor.batch for executor in executors.executors]
    total = torch.cat([batch.pick(batch.hashed[1])[:, 0] for batch in batches])
    asked = job.plan_set.asked
    scheduler = Scheduler(job.model, job.stopping, asked.most_held)
    texts_by_program: dict[int, list[GeneratedText]] = {}
    kinds = [neighbour_key(program)[0] for program in job.plan_set.programs]
    for number, states in walk(job.tree, executors, donors, kinds=kinds):
        tokens = likeliest(job.model, executors.finish(states)).tolist()
        texts = [GeneratedText(len(prompt)) for prompt in prompts]
        for text, token in zip(texts, tokens, strict=True):
            text.write(token, job.stopping)
        texts_by_program[number] = texts
        keys_values, common = dict(states.keys_values), states.common
        del states  # lest they hold keys and values that the plan has released
        program = job.behind_prompt(number)
        plan = DecodingPlan.of_unfinished(program, texts, total, keys_values, common)
        if plan is not None:
            scheduler.add(plan)
        # before the next plan reads them
        scheduler.decode_until_free(len(prompts), asked.keys_of_plan(group))
    scheduler.finish()
    return texts_by_program


def _write_one_by_one(
    job: _Job,
    prompts: Sequence[list[int]],
    executor: SequentialExecutor,
    donors: dict[str, DonorRun],
) -> dict[int, list[GeneratedText]]:
    """Return the same where rows are not packed: one plan writes its texts after the other."""
    texts_by_program: dict[int, list[GeneratedText]] = {}
    for number, state in walk(job.tree, executor, donors):
        texts = texts_by_program[number] = [GeneratedText(len(prompt)) for prompt in prompts]
        program = job.behind_prompt(number)
        Writer(job.model, program, job.stopping).write(executor, state, texts)
    return texts_by_program


@torch.no_grad()
def predict(
    model: OpenedModel, plan: Plan, prompts: Sequence[TokenRequest]
) -> Float[Tensor, "prompts vocab"]:
    """Return the logits after each prompt under a plan."""
    tree = plant([lower(plan).instructions], releases=model.packs_rows)
    logits_by_prompt: list[Tensor] = [torch.empty(0)] * len(prompts)
    for group in batch_groups(model, prompts, merge=False):
        executors, donors = group_executor(model, prompts, group, tree.injects)
        ((_, states),) = walk(tree, executors, donors)
        logits = model.leave(executors.finish(states))
        for index, row in zip(group.requests, logits, strict=True):
            logits_by_prompt[index] = row
    return torch.stack(logits_by_prompt)
