"""What a plan may cost: shares of the full model's parts, parameters, operations, bytes, time."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from impasto.error import UserError, shown
from impasto.plan import Plan
from impasto.plan.cost import Shape, predict

TOKENS = 512  # of a prompt whose operations are counted
SECONDS = "seconds"
MEASURES = {
    "parts": "attention parts and MLPs run",
    "parameters": "parameters in memory",
    "operations": f"operations of reading a prompt of {TOKENS} tokens",
    "kept_bytes": "bytes of keys and values that a token leaves",
    SECONDS: "measured seconds of reading a prompt and writing a token",
}
_SHARE = re.compile(r"(\d+(?:\.\d+)?) ?%", re.ASCII)
ROUNDING = 1e-9

Measure = Callable[[Plan], float]


@dataclass(frozen=True)
class Bound:
    """One bound on what a plan may cost.

    Attributes:
        measure: Its name, one of ``MEASURES``.
        most: The most that a plan may cost, in the measure's own unit.
        full: What the full model costs.
        of: What a plan costs.
    """

    measure: str
    most: float
    full: float
    of: Measure

    def __str__(self) -> str:
        return f"{self.measure}: {100 * self.most / self.full:.4g}%"


@dataclass(frozen=True)
class Budget:
    """Bounds that a plan keeps, all of them."""

    bounds: tuple[Bound, ...]

    def over(self, plan: Plan) -> float:
        """Return by which share of the full model's cost a plan is above the bound it misses most.

        0 where it keeps them all.
        """
        return max(
            0.0, *((bound.of(plan) - bound.most) / bound.full - ROUNDING for bound in self.bounds)
        )

    def keeps(self, plan: Plan) -> bool:
        """Say whether a plan costs no more than it may."""
        return self.over(plan) == 0

    def cost(self, plan: Plan) -> float:
        """Return what share of the full model's cost a plan costs, by the first bound."""
        first = self.bounds[0]
        return first.of(plan) / first.full

    def costs(self, plan: Plan) -> dict[str, float]:
        """Return a plan's cost by each bound's measure, as a share of the full model's."""
        return {bound.measure: bound.of(plan) / bound.full for bound in self.bounds}

    def __str__(self) -> str:
        return ", ".join(map(str, self.bounds))


def counted(measure: str, shape: Shape | None) -> Measure:
    """Return how a cost that can be counted is counted on a model; parts need no shape."""
    if measure == "parts":
        return lambda plan: plan.occurrences.attention + plan.occurrences.mlp
    assert shape is not None, measure
    if measure == "parameters":
        return shape.parameters
    if measure == "kept_bytes":
        return shape.kept_bytes
    assert measure == "operations", measure
    return lambda plan: predict(plan, shape, TOKENS).prefill.flops


def read_budget(
    written: Mapping[str, object], layers: int, measures: Callable[[str], Measure]
) -> Budget:
    """Return a budget as a search file or a caller has it: ``{"parts": "75%"}`` or ``0.75``.

    A number above 1 is in the measure's own unit. ``measures`` tells how each is measured. Raises
    UserError for what is no budget.
    """
    known = ", ".join(MEASURES)
    if not isinstance(written, Mapping) or not written:
        raise UserError(f"a budget bounds one or several of {known}; for example {{parts: 75%}}")
    identity = Plan.identity(layers)
    bounds = []
    for measure, value in written.items():
        if measure not in MEASURES:
            raise UserError(f"there is no budget {shown(measure)}; there are {known}")
        of = measures(measure)
        full = float(of(identity))
        number, is_share = _number(measure, value)
        most = number * full if is_share else number
        if most >= full:
            raise UserError(
                f"a budget of {measure}: {value} is no bound: the full model has {full:.6g}"
            )
        bounds.append(Bound(measure, most, full, of))
    return Budget(tuple(bounds))


def _number(measure: str, value: object) -> tuple[float, bool]:
    """Return a number, and whether it is a share of the full model's."""
    if isinstance(value, str) and (match := _SHARE.fullmatch(value.strip())):
        return float(match[1]) / 100, True
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < float("inf"):
        return float(value), value <= 1
    raise UserError(
        f"{measure} is a share of the full model's (75%, 0.75) or a number above 1; "
        f"not {shown(value)}"
    )
