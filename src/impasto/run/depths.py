"""The state of every token at every depth of a plan, each token as the current one."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from impasto.model.opened import OpenedModel
from impasto.plan import Layer, Parallel, Plan
from impasto.run.bundle import bundles, open_bundle
from impasto.run.passage import Passage
from impasto.run.tree import plant, walk


@torch.no_grad()
def hidden_states(
    model: OpenedModel, plan: Plan, passages: Sequence[Passage]
) -> list[Float[Tensor, "depths tokens hidden"]]:
    """Return, per passage (every token scored), its states at depth 0 and after each layer step."""
    ends = [i for i, step in enumerate(plan.steps, 1) if isinstance(step, (Layer, Parallel))]
    tree = plant([plan.steps[:end] for end in (0, *ends)])
    found: list[Tensor] = [torch.empty(0)] * len(passages)
    for bundle in bundles(model, passages, merge=False):
        walker, donors = open_bundle(model, passages, bundle, tree.injects, records=False)
        depths = [state.latest.to(model.device) for _, state in walk(tree, walker, donors)]
        for index, states in zip(bundle.passages, torch.stack(depths, 1), strict=True):
            found[index] = states[:, : len(passages[index].ids)]
    return found
