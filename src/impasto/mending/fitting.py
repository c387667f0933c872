"""Method ``linear``: a least-squares map in place of what a plan leaves out, merged into weights.

ReplaceMe (arXiv 2505.02819): the last layer before a gap adds s to the state r; a matrix makes
r + s + B·s (+ a) as near as it can to the state that the full model has behind the gap, and is
merged into the weight that makes s, or where a norm or a router makes it, put behind that. Gaps are
fitted from the first to the last, each on what the repaired layers before it give; then what every
later layer adds, its attention and its MLP, is fitted so that the state behind it is the full
model's there, where a weight takes that. Nothing is trained, and the texts go through the full
model once.

A state's error counts relative to the state's size, for the next norm divides by it. Otherwise a
few tokens with enormous states (the first one, in many models) would be all that is fitted.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

from impasto.error import UserError
from impasto.mending.copying import shared_copy
from impasto.mending.depths import Depths
from impasto.mending.gaps import Gap, gaps, with_steps_behind
from impasto.mending.least_squares import NormalEquations, chosen
from impasto.mending.outputs import Features, Noted, Output, find_output, parallel_layers
from impasto.mending.settings import Linear
from impasto.mending.sides import Sides, batches
from impasto.model.decoder import OpenedModel
from impasto.model.structure.added_maps import CHILD, add_map
from impasto.model.structure.block import Block
from impasto.plan import Layer, Plan
from impasto.run.opening import opening

Progress = Callable[[float], None]


class FittedGap(NamedTuple):
    """What was fitted in the place of a gap.

    Attributes:
        left_out: What the plan leaves out there.
        weight: The name of the weight that the map was merged into, or of the map's own.
        ridge: The ridge that held-out texts chose; None where no map was better than none.
        before, after: The held-out error behind the gap, as a share of the state's square.
        tokens: How many tokens it was fitted to.
    """

    left_out: str
    weight: str
    ridge: float | None
    before: float
    after: float
    tokens: int


def fitted(
    model: OpenedModel,
    plan: Plan,
    sides: Sides,
    settings: Linear,
    progress: Progress = lambda share: None,
) -> tuple[Any, list[FittedGap]]:
    """Return a model whose weights make up for what a plan leaves out, and what was fitted.

    The model shares all weights with the given one but those that maps were merged into.

    Args:
        model: The full model, which stays as it is.
        plan: The plan: some of its layers and parts, in their order.
        sides: The texts.
        settings: How.
        progress: Called with the share that is done, 0 to 1.

    Raises:
        UserError: when the plan or the family does not allow it, or texts are too few.
    """
    if not model.packs_rows:
        raise UserError(
            f"method linear is for layers of attention and MLP, and layers of "
            f"{type(model.hf).__name__} carry a state; method lora, last or full can heal it"
        )
    parallel = _parallel(model, sides)
    found = gaps(plan, model.num_layers, parallel)
    if settings.behind:
        found = with_steps_behind(plan, found, parallel | model.undivided.keys())
    copied = shared_copy(model.hf)
    repaired = opening(copied).model.blocks
    walk = _Walk(
        model,
        repaired,
        plan,
        settings,
        Depths(model, repaired, plan, sides.fitting),
        Depths(model, repaired, plan, sides.held_out),
    )
    done = []
    for number, gap in enumerate(found):
        part = _share(progress, number, len(found))
        done += _fill(walk, gap, copied, sides.fitting_tokens, part)
    return copied, done


def _share(progress: Progress, number: int, of: int) -> Progress:
    return lambda share: progress((number + share) / of)


@torch.no_grad()
def _fill(
    walk: "_Walk", gap: Gap, copied: Any, tokens: int, progress: Progress
) -> Iterator[FittedGap]:
    """Fit a gap, merge the map into the copy's weights, and yield what was fitted.

    A step behind a gap whose weight takes no map is left as it is.
    """
    output = walk.output(gap)
    if output is None:
        return
    of: Features = walk.settings.map if output.takes_map else "state"
    _check_tokens(output.features(of), tokens)
    sums = walk.sums(walk.fitting, gap, output, of, lambda share: progress(0.85 * share))
    held_out = walk.sums(
        walk.held_out, gap, output, of, lambda share: progress(0.85 + 0.15 * share)
    )
    fit = chosen(sums, held_out, output.has_bias, walk.settings.ridge)
    name = f"{walk.model.anatomy.path}.{walk.carrier(gap).index}.{output.name}"
    if output.takes_map:
        module = copied.get_submodule(name)
        for leaf, value in output.merged(fit.map, of).items():
            setattr(module, leaf, torch.nn.Parameter(value, requires_grad=False))
    elif fit.ridge is not None:
        add_map(copied, name, fit.map.weight)
        name = f"{name}.{CHILD}"
    left_out = "" if gap.left_out is None else str(gap.left_out)
    yield FittedGap(left_out, f"{name}.weight", fit.ridge, fit.before, fit.after, sums.rows)


def _check_tokens(features: int, tokens: int) -> None:
    """Raise UserError where texts are too few to fit a map to."""
    if tokens < 2 * features:
        times = 2 * features / max(tokens, 1)
        raise UserError(
            f"a map of {features} units takes {2 * features} tokens to be fitted to at the least, "
            f"and the texts have {tokens} for that (the others are held out, or measure): give "
            f"{times:.1f} times as many"
        )


@dataclass(frozen=True)
class _Walk:
    """Goes with texts through the full model and the plan, from gap to gap.

    Attributes:
        model: The full model.
        repaired: The layers that the plan runs, those before a gap repaired.
        plan: The plan.
        settings: How gaps are fitted.
        fitting, held_out: The texts, and how far they are.
    """

    model: OpenedModel
    repaired: Sequence[Block]
    plan: Plan
    settings: Linear
    fitting: Depths
    held_out: Depths

    def carrier(self, gap: Gap) -> Layer:
        """Return the layer whose contribution is to make up for a gap."""
        step = self.plan.steps[gap.carrier]
        assert isinstance(step, Layer), "gaps are of plans of layers"
        return step

    def output(self, gap: Gap) -> Output | None:
        """Return the module that makes the carrier's contribution, found on a batch.

        None where none does, its weight takes no map, or other layers have it too, and no gap
        stands behind it.

        Raises:
            UserError: when none does, or it is not the layer's alone, and a gap stands behind it.
        """
        entered, states = self.fitting.first(gap)
        index = self.carrier(gap).index
        output = find_output(self.repaired[index], states, entered.arguments[index], gap.part)
        where = f"layer {index}"
        if output is None or not (output.takes_map or gap.left_out):
            if gap.left_out is None:
                return None
            raise UserError(
                f"there is no place for a map in {where} of {type(self.model.hf).__name__}, before "
                f"{gap.left_out}: none of its modules gives what it adds to the state, or its "
                "weights are quantised; method lora, last or full can heal the plan"
            )
        shared = [
            layer
            for layer, block in enumerate(self.repaired)
            if layer != index and any(m is output.module for m in block.module.modules())
        ]
        if shared and gap.left_out is not None:
            raise UserError(
                f"layers {index} and {shared[0]} share their weights, so a map cannot be "
                f"merged into {where} alone; method lora, last or full can heal the plan"
            )
        return None if shared else output

    def sums(
        self, texts: Depths, gap: Gap, output: Output, of: Features, progress: Progress
    ) -> NormalEquations:
        """Return the sums that a map follows from: what is missing behind the carrier."""
        found, noted = NormalEquations(), Noted(output, of)
        index = self.carrier(gap).index
        for number, (entered, states, target) in enumerate(texts.at(gap)):
            with noted.calls():
                after = self.repaired[index](states, entered.arguments[index], gap.part)
            wanted = target.float()
            missing = (wanted - after.float()).flatten(0, 1)
            weights = 1 / wanted.square().sum(-1).clamp(min=1e-12)
            found.add(noted.features.float(), missing, weights.flatten())
            progress((number + 1) / len(texts))
        return found


def _parallel(model: OpenedModel, sides: Sides) -> frozenset[int]:
    """Return the layers whose MLP does not read what their attention adds."""
    [(_, piece)] = next(batches(sides.fitting, 1))
    return parallel_layers(model, torch.tensor([piece], device=model.device))
