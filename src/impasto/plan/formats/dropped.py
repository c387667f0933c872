"""Plans that leave out layers, or one part of a layer: what most pruning tools write.

They say for each layer which of its two parts is dropped; the order is the model's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from impasto.plan.error import PlanError
from impasto.plan.plan import Plan
from impasto.plan.steps import Layer, Part, Step

Dropped: TypeAlias = frozenset[str]  # of "attention" and "mlp"

_LEFT: dict[Dropped, Part] = {
    frozenset(): "block",
    frozenset({"attention"}): "mlp",
    frozenset({"mlp"}): "attention",
}


def steps_without(dropped: Sequence[Dropped]) -> list[Step]:
    """Return what runs where each layer lacks these parts; a layer that lacks both is left out."""
    return [Layer(i, _LEFT[parts]) for i, parts in enumerate(dropped) if parts in _LEFT]


def dropped_by(plan: Plan, layers: int, form: str) -> list[Dropped]:
    """Return which parts each layer of a model lacks under a plan.

    Raises:
        PlanError: when the plan does more than drop: another order, repeats, brackets, markers.
    """
    plan.check(layers)
    both = frozenset({"attention", "mlp"})
    lacking = [both] * layers
    last = -1
    for step in plan.steps:
        if not (isinstance(step, Layer) and step.is_plain) or step.index <= last:
            raise PlanError(
                f"{form} says which layers, attentions and MLPs of a model are dropped, each at "
                f"most once and in the model's order; {Plan((step,))} of the plan {plan} cannot be "
                "written so"
            )
        last = step.index
        lacking[last] = next(parts for parts, left in _LEFT.items() if left == step.part)
    return lacking


def order_of(plan: Plan, form: str) -> list[int]:
    """Return the layers of a plan of whole layers, one after the other.

    Raises:
        PlanError: when the plan runs anything else.
    """
    for step in plan.steps:
        if not (isinstance(step, Layer) and step.is_whole):
            raise PlanError(
                f"{form} lists whole layers in any order; {Plan((step,))} of the plan {plan} "
                "cannot be written so"
            )
    return [step.index for step in plan.steps if isinstance(step, Layer)]
