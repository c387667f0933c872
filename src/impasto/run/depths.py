"""The state of every token at every depth of a plan, each token as the current one."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from impasto.model.opened import OpenedModel
from impasto.plan import Plan
from impasto.plan.program import lower
from impasto.run.bundle import bundles, open_flock
from impasto.run.passage import Passage
from impasto.run.tree import plant, walk


@torch.no_grad()
def hidden_states(
    model: OpenedModel, plan: Plan, passages: Sequence[Passage]
) -> list[Float[Tensor, "depths tokens hidden"]]:
    """Return, per passage (every token scored), its states at depth 0 and after each layer step."""
    tree = plant(lower(plan).beginnings)
    found: list[Tensor] = [torch.empty(0)] * len(passages)
    for bundle in bundles(model, passages, merge=False):
        flock, donors = open_flock(model, passages, bundle, tree.injects)
        depths = [states.each for _, states in walk(tree, flock, donors)]
        rows: list[Tensor] = []
        for batch in zip(*depths, strict=True):
            rows += torch.stack([state.latest.to(model.device) for state in batch], 1)
        for index, states in zip(bundle.passages, rows, strict=True):
            found[index] = states[:, : len(passages[index].ids)]
    return found
