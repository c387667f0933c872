"""Method ``linear``: a least-squares map in place of what a plan leaves out, merged into weights.

ReplaceMe (arXiv 2505.02819): the last layer before a gap adds s to the state r; a matrix makes
r + s + B·s (+ a) as near as it can to the state that the full model has behind the gap, and is
merged into the weight that makes s. Gaps are fitted from the first to the last, each on what the
repaired layers before it give, with one pass over the texts each; nothing is trained.

A state's error counts relative to the state's size, for the next norm divides by it. Otherwise a
few tokens with enormous states (the first one, in many models) would be all that is fitted.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from impasto.error import UserError
from impasto.mending.copying import shared_copy
from impasto.mending.gaps import Gap, Place, gaps, with_steps_behind
from impasto.mending.least_squares import Fit, NormalEquations, chosen
from impasto.mending.outputs import Noted, Output, find_output, parallel_layers
from impasto.mending.settings import Linear
from impasto.mending.sides import Ids, Item, Sides, batches
from impasto.model.decoder import OpenedModel
from impasto.model.structure.block import Block, Entered
from impasto.plan import Layer, Plan
from impasto.run.opening import opening

ROWS_PER_BATCH = 4096
"""Tokens that are read at once: enough for fast products, and a few layers' states in memory."""

Progress = Callable[[float], None]


class FittedGap(NamedTuple):
    """What was fitted in the place of a gap.

    Attributes:
        left_out: What the plan leaves out there.
        weight: The name of the weight that the map was merged into.
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
    found = gaps(plan, model.num_layers, _parallel(model, sides))
    if settings.behind:
        found = with_steps_behind(plan, found)
    copied = shared_copy(model.hf)
    repaired = opening(copied).model
    done = []
    for number, gap in enumerate(found):
        part = _share(progress, number, len(found))
        walk = _Walk(model, repaired.blocks, plan, gap, settings)
        done += _fill(walk, copied, model.anatomy.path, sides, part)
    return copied, done


def _share(progress: Progress, number: int, of: int) -> Progress:
    return lambda share: progress((number + share) / of)


@torch.no_grad()
def _fill(
    walk: "_Walk", copied: Any, path: str, sides: Sides, progress: Progress
) -> Iterator[FittedGap]:
    """Fit a gap, merge the map into the copy's weights, and yield what was fitted.

    A step behind a gap whose weight takes no map is left as it is.
    """
    output = walk.output(next(batches(sides.fitting, 1)))
    if output is None:
        return
    _check_tokens(walk, output, sides)
    fit, tokens = _fit(walk, output, sides, progress)
    name = f"{path}.{walk.carrier.index}.{output.name}"
    module = copied.get_submodule(name)
    for leaf, value in output.merged(fit.map, walk.settings.map).items():
        setattr(module, leaf, torch.nn.Parameter(value, requires_grad=False))
    left_out = "" if walk.gap.left_out is None else str(walk.gap.left_out)
    yield FittedGap(left_out, f"{name}.weight", fit.ridge, fit.before, fit.after, tokens)


def _check_tokens(walk: "_Walk", output: Output, sides: Sides) -> None:
    """Raise UserError where texts are too few to fit a map to."""
    features = walk.model.hidden if walk.settings.map == "state" else output.units
    if sides.fitting_tokens < 2 * features:
        times = 2 * features / max(sides.fitting_tokens, 1)
        raise UserError(
            f"a map of {features} units takes {2 * features} tokens to be fitted to at the least, "
            f"and the texts have {sides.fitting_tokens} for that (the others are held out, or "
            f"measure): give {times:.1f} times as many"
        )


def _fit(walk: "_Walk", output: Output, sides: Sides, progress: Progress) -> tuple[Fit, int]:
    """Return the map in the place of a gap, by one pass over the texts."""
    sums, held_out = NormalEquations(), NormalEquations()
    total = sum(item.tokens for item in (*sides.fitting, *sides.held_out))
    read = 0
    for side, into in ((sides.fitting, sums), (sides.held_out, held_out)):
        for features, targets, weights in walk.rows(output, side):
            into.add(features, targets, weights)
            read += len(features)
            progress(read / total)
    return chosen(sums, held_out, output.has_bias, walk.settings.ridge), sums.rows


@dataclass(frozen=True)
class _Walk:
    """Runs texts through the full model up to behind a gap, and through the plan up to before it.

    Attributes:
        model: The full model.
        repaired: The layers that the plan runs, those before this gap repaired.
        plan: The plan.
        gap: The gap.
        settings: How it is fitted.
    """

    model: OpenedModel
    repaired: Sequence[Block]
    plan: Plan
    gap: Gap
    settings: Linear

    @property
    def carrier(self) -> Layer:
        """The layer whose contribution is to make up for the gap."""
        step = self.plan.steps[self.gap.carrier]
        assert isinstance(step, Layer), "gaps are of plans of layers"
        return step

    def output(self, batch: Sequence[tuple[int, Ids]]) -> Output | None:
        """Return the module that makes the carrier's contribution, found on a batch.

        None where none does, and no gap stands behind it.

        Raises:
            UserError: when none does, so that no map can be merged, and a gap stands behind it.
        """
        entered, step = self._entered(batch), self.carrier
        states, arguments = self._before(entered), entered.arguments[step.index]
        output = find_output(self.repaired[step.index], states, arguments, step.part)
        where = f"layer {step.index}"
        if output is None and self.gap.left_out is None:
            return None
        if output is None:
            raise UserError(
                f"the map in the place of {self.gap.left_out} cannot be merged into {where} of "
                f"{type(self.model.hf).__name__}: no weight of it makes what it adds to the state "
                "(a norm or a router stands behind it, or its weights are quantised); method "
                "lora, last or full can heal the plan"
            )
        shared = [
            layer
            for layer, block in enumerate(self.repaired)
            if layer != step.index and any(m is output.module for m in block.module.modules())
        ]
        if shared:
            raise UserError(
                f"layers {step.index} and {shared[0]} share their weights, so a map cannot be "
                f"merged into {where} alone; method lora, last or full can heal the plan"
            )
        return output

    def rows(
        self, output: Output, items: Sequence[Item]
    ) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Yield contributions, what is missing behind them, and the weight of each token."""
        longest = max(len(piece) for item in items for piece in item.pieces)
        step, noted = self.carrier, Noted(output, self.settings.map)
        for batch in batches(items, max(1, ROWS_PER_BATCH // longest)):
            entered = self._entered(batch)
            states = self._before(entered)
            with noted.calls():
                after = self.repaired[step.index](states, entered.arguments[step.index], step.part)
            wanted = self._target(entered).float()
            missing = wanted - after.float()
            weights = 1 / wanted.square().sum(-1).clamp(min=1e-12)
            yield noted.features.float(), missing.flatten(0, 1), weights.flatten()

    def _entered(self, batch: Sequence[tuple[int, Ids]]) -> Entered:
        ids: Int[Tensor, "batch rows"]
        ids = torch.tensor([piece for _, piece in batch], device=self.model.device)
        return self.model.enter(ids, torch.arange(ids.shape[1], device=ids.device).expand_as(ids))

    def _before(self, entered: Entered) -> Float[Tensor, "batch rows hidden"]:
        """Return the states that the carrier reads."""
        states = entered.states
        for step in self.plan.steps[: self.gap.carrier]:
            assert isinstance(step, Layer), "gaps are of plans of layers"
            states = self.repaired[step.index](states, entered.arguments[step.index], step.part)
        return states

    def _target(self, entered: Entered) -> Float[Tensor, "batch rows hidden"]:
        """Return the full model's states behind the gap."""
        return run_until(self.model, entered, self.gap.target)


def run_until(
    model: OpenedModel, entered: Entered, place: Place
) -> Float[Tensor, "batch rows hidden"]:
    """Return the full model's states at a depth."""
    states = entered.states
    for layer in range(place.layer + 1):
        part = "attention" if layer == place.layer and place.attention_only else "block"
        states = model.blocks[layer](states, entered.arguments[layer], part)
    return states


def _parallel(model: OpenedModel, sides: Sides) -> frozenset[int]:
    """Return the layers whose MLP does not read what their attention adds."""
    [(_, piece)] = next(batches(sides.fitting, 1))
    return parallel_layers(model, torch.tensor([piece], device=model.device))
