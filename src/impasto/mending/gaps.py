"""What a plan leaves out of the full model, and which step in front of it can make up for that.

The full model is a row of contributions, two a layer. A plan that runs some of them in their order
has gaps: runs of contributions that it leaves out. Before each gap stands a step whose contribution
can be changed so that the state behind the gap is near to the full model's there. No torch here.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from impasto.error import UserError
from impasto.plan import Layer, Plan
from impasto.plan.steps import Part, Step

Half = Literal["attention", "mlp"]


HALVES: tuple[Half, ...] = ("attention", "mlp")


class Place(NamedTuple):
    """A depth of the full model: behind a layer, or behind its attention alone."""

    layer: int
    attention_only: bool


@dataclass(frozen=True, slots=True)
class Gap:
    """A run of contributions that a plan leaves out, and the step that is to make up for it.

    Attributes:
        left_out: What is left out, in the full model's order, whole layers where both parts are;
            None for a step behind a gap that mends what the step before the gap left.
        carrier: The place in the plan of the step that is to make up for it.
        part: What of that step runs up to there: all that the plan runs of it, or its attention.
        target: Up to where the full model has run when the carrier and the gap are behind.
    """

    left_out: Plan | None
    carrier: int
    part: Part
    target: Place


def gaps(plan: Plan, layers: int, parallel: frozenset[int] = frozenset()) -> list[Gap]:
    """Return what a plan leaves out of a model of so many layers, from the first to the last.

    What is missing before the first step is made up for by that step itself, and so is what is
    missing right behind it.

    Args:
        plan: The plan.
        layers: How many layers the model has.
        parallel: The layers whose MLP does not read what their attention adds.

    Raises:
        UserError: when the plan is not some of the model's layers and parts in their own order, or
            leaves nothing out.
    """
    _check_ascending(plan)
    owner = {half: place for place, step in enumerate(plan.steps) for half in _halves(step)}
    found: list[Gap] = []
    missing: list[_Half] = []
    carrier: int | None = None  # the last step that ran; None where none has
    last: _Half = _Half(0, "attention")  # up to where carrier and gap are the full model
    for half in _in_order(layers, owner, parallel):
        place = owner.get(half)
        if place is None:
            missing.append(half)
        elif place != carrier:
            if missing and carrier is not None:
                found.append(_gap(missing, plan, carrier, _place(last, parallel)))
                missing = []
            carrier = place
        last = half
    if missing and carrier is not None:
        found.append(_gap(missing, plan, carrier, _place(last, parallel)))
    if not found:
        raise UserError(
            f"the plan {plan} leaves nothing out of the model's {layers} layers, so there is "
            "nothing to make up for"
        )
    return found


def with_steps_behind(plan: Plan, found: Sequence[Gap], whole: Collection[int] = ()) -> list[Gap]:
    """Return gaps with every step behind the first one, each to mend what those before it left.

    Of a layer that mends, the attention does first and the MLP then.

    Args:
        plan: The plan.
        found: Its gaps.
        whole: The layers whose attention cannot be looked at alone.
    """
    by_carrier = {gap.carrier: gap for gap in found}
    every: list[Gap] = []
    for place, step in enumerate(plan.steps):
        assert isinstance(step, Layer), "gaps are of plans of layers"
        if every and step.part == "block" and step.index not in whole:
            every.append(Gap(None, place, "attention", Place(step.index, True)))
        if place in by_carrier:
            every.append(by_carrier[place])
        elif every:
            target = Place(step.index, step.part == "attention" and step.index not in whole)
            every.append(Gap(None, place, step.part, target))
    return every


class _Half(NamedTuple):
    layer: int
    part: Half


def _check_ascending(plan: Plan) -> None:
    """Raise UserError unless a plan runs some layers and parts, each once, in their order."""
    before: tuple[int, int] = (-1, 1)
    for step in plan.steps:
        if not (isinstance(step, Layer) and step.is_plain):
            raise UserError(
                f"method linear makes up for layers and parts that are left out, and the plan "
                f"{plan} has {Plan((step,))}; method lora, last or full can heal it"
            )
        halves = _halves(step)
        if (halves[0].layer, int(halves[0].part == "mlp")) <= before:
            raise UserError(
                "method linear makes up for layers and parts that are left out of the model's own "
                f"order, and the plan {plan} runs {Plan((step,))} out of it or again; method lora, "
                "last or full can heal it"
            )
        before = (halves[-1].layer, int(halves[-1].part == "mlp"))


def _halves(step: Step) -> list[_Half]:
    """Return the contributions of a layer, or of its part."""
    assert isinstance(step, Layer), "the plan was checked"
    return [_Half(step.index, part) for part in HALVES if step.part in ("block", part)]


def _in_order(layers: int, owner: Mapping[_Half, int], parallel: frozenset[int]) -> Iterator[_Half]:
    """Yield the full model's contributions in an order in which they can be added up.

    Of a layer whose parts read the same state that is any; there what is left out comes last.
    """
    for layer in range(layers):
        halves = [_Half(layer, part) for part in HALVES]
        if layer in parallel:
            halves.sort(key=lambda half: half not in owner)
        yield from halves


def _place(last: _Half, parallel: frozenset[int]) -> Place:
    return Place(last.layer, last.part == "attention" and last.layer not in parallel)


def _gap(missing: Sequence[_Half], plan: Plan, carrier: int, target: Place) -> Gap:
    whole = {half.layer for half in missing if half.part == "attention"} & {
        half.layer for half in missing if half.part == "mlp"
    }
    steps: list[Step] = []
    for layer, part in missing:
        step = Layer(layer) if layer in whole else Layer(layer, part)
        if step not in steps:
            steps.append(step)
    step = plan.steps[carrier]
    assert isinstance(step, Layer), "the plan was checked"
    return Gap(Plan(tuple(steps)), carrier, step.part, target)
