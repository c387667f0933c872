"""Plans of scaled layers as ordinary checkpoints: a scale is folded into the weights.

What a part adds is the output of its last matrix, where the family adds it as it is. So a part
scaled by s is the part with that matrix scaled; and an attention followed by the MLP of the same
layer is the layer, with two matrices scaled. In families whose MLP reads what its attention reads,
a scaled layer is both parts scaled; in others its MLP would read something else, and the two parts
have to be written.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from impasto.exporting.error import NotInFormError
from impasto.mending.outputs import find_output, parallel_layers
from impasto.model.decoder import OpenedModel
from impasto.plan import Layer, Plan
from impasto.plan.steps import Part

_IDS = (3, 1, 4, 1, 5)  # on which it is found which matrices add to the residual stream


class Folded(NamedTuple):
    """A whole layer of the source, with what its parts add scaled."""

    layer: int
    attention: float = 1.0
    mlp: float = 1.0

    @property
    def scales(self) -> Mapping[Part, float]:
        """The scales that say something, by part."""
        both: dict[Part, float] = {"attention": self.attention, "mlp": self.mlp}
        return {part: scale for part, scale in both.items() if scale != 1}


def may_fold(plan: Plan) -> bool:
    """Whether a plan consists of layers and parts that some family's weights may hold."""
    steps = [step for step in plan.steps if isinstance(step, Layer) and step.reach is None]
    return len(steps) == len(plan.steps)


def folded(model: OpenedModel, plan: Plan) -> list[Folded] | None:
    """Return the plan as whole layers, one after the other; None where it is no such plan."""
    if not may_fold(plan):
        return None
    steps = [step for step in plan.steps if isinstance(step, Layer)]
    parallel = parallel_layers(model, _ids(model)) if not all(s.is_whole for s in steps) else set()
    blocks, at = [], 0
    while at < len(steps):
        step = steps[at]
        behind = steps[at + 1] if at + 1 < len(steps) else None
        if step.is_whole:
            blocks.append(Folded(step.index))
        elif step.part == "block" and step.index in parallel:
            blocks.append(Folded(step.index, step.scale, step.scale))
        elif _are_one_layer(step, behind) and step.index not in parallel:
            assert behind is not None
            blocks.append(Folded(step.index, step.scale, behind.scale))
            at += 1
        else:
            return None
        at += 1
    return blocks


def scaled_weights(
    model: OpenedModel, blocks: Sequence[Folded], state: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Return a checkpoint's weights with those of scaled parts multiplied.

    Raises:
        NotInFormError: where a family norms what a part adds, or adds it in another way, so that no
            weight holds its scale.
    """
    scaled, path, known = dict(state), model.anatomy.path, dict[tuple[int, Part], str]()
    for place, block in enumerate(blocks):
        for part, scale in block.scales.items():
            key = (block.layer, part)
            if key not in known:
                known[key] = _output_of(model, *key)
            for kind in ("weight", "bias"):
                name = f"{path}.{place}.{known[key]}.{kind}"
                if name in scaled:
                    scaled[name] = (scale * scaled[name].double()).to(scaled[name].dtype)
    return scaled


def _are_one_layer(step: Layer, behind: Layer | None) -> bool:
    if behind is None or step.index != behind.index:
        return False
    return (step.part, behind.part) == ("attention", "mlp")


def _ids(model: OpenedModel) -> Tensor:
    return torch.tensor([_IDS], device=model.device) % model.vocabulary


@torch.no_grad()
def _output_of(model: OpenedModel, layer: int, part: Part) -> str:
    """Return the name, within its block, of the module whose output a part adds."""
    ids = _ids(model)
    entered = model.enter(ids, torch.arange(ids.shape[1], device=ids.device)[None])
    found = find_output(model.blocks[layer], entered.states, entered.arguments[layer], part)
    if found is None or not found.takes_map:
        raise NotInFormError(
            f"{type(model.hf).__name__} does not add the output of layer {layer}'s {part} as it "
            "is, so no weight holds a scale of it"
        )
    return found.name
