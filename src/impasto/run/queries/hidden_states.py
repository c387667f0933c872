"""The hidden state of every token at every depth of a plan, each token as the current one."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from impasto.error import UserError
from impasto.model.decoder import OpenedModel
from impasto.plan import Plan
from impasto.plan.lowering import lower
from impasto.plan.tree import plant, walk
from impasto.run.batching.batches import batch_groups
from impasto.run.batching.request import TokenRequest
from impasto.run.execute.groups import group_executor


@torch.no_grad()
def hidden_states(
    model: OpenedModel, plan: Plan, requests: Sequence[TokenRequest]
) -> list[Float[Tensor, "depths tokens hidden"]]:
    """Return, per request, the states of its tokens at depth 0 and after each layer step.

    Args:
        model: The model.
        plan: The plan.
        requests: The requests; every token of them is scored.

    Raises:
        UserError: when the plan is about the prompt alone.
    """
    if plan.tells_prompt:
        raise UserError(
            f"hidden_states takes every token as the current one, and the plan {plan} does "
            "something to the prompt alone; impasto.apply(model.hf, plan, prompt=n) with "
            "output_hidden_states gives the states of one prompt"
        )
    tree = plant(lower(plan).beginnings, releases=model.packs_rows)
    by_request: list[Tensor] = [torch.empty(0)] * len(requests)
    for group in batch_groups(model, requests, merge=False):
        executor, donors = group_executor(model, requests, group, tree.injects)
        depths = [
            executor.finish(states).to(model.device) for _, states in walk(tree, executor, donors)
        ]
        lengths = [len(requests[index].ids) for index in group.requests]
        sequences = torch.stack(depths).split(lengths, 1)
        for index, states in zip(group.requests, sequences, strict=True):
            by_request[index] = states
    return by_request
