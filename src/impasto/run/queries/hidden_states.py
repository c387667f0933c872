"""The state of every token at every depth of a plan, each token as the current one."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from impasto.model.decoder import OpenedModel
from impasto.plan import Plan
from impasto.plan.program import lower
from impasto.run.batching.batches import bundles, open_group
from impasto.run.batching.request import TokenRequest
from impasto.run.execute.plan_tree import plant, walk


@torch.no_grad()
def hidden_states(
    model: OpenedModel, plan: Plan, passages: Sequence[TokenRequest]
) -> list[Float[Tensor, "depths tokens hidden"]]:
    """Return, per passage (every token scored), its states at depth 0 and after each layer step."""
    tree = plant(lower(plan).beginnings)
    found: list[Tensor] = [torch.empty(0)] * len(passages)
    for bundle in bundles(model, passages, merge=False):
        executors, donors = open_group(model, passages, bundle, tree.injects)
        depths = [states.each for _, states in walk(tree, executors, donors)]
        rows: list[Tensor] = []
        for batch in zip(*depths, strict=True):
            rows += torch.stack([state.latest.to(model.device) for state in batch], 1)
        for index, states in zip(bundle.passages, rows, strict=True):
            found[index] = states[:, : len(passages[index].ids)]
    return found
