"""Quality against cost: what each plan costs, and which plans no other beats at both.

Without measurements a plan costs what share of the baseline's attention parts and MLPs it runs.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import pandas as pd

from impasto.analysis.curves import frame_of
from impasto.analysis.scores import over_tasks
from impasto.plan import Plan

TRADE_OFF = ("family", "plan", "digest", "average", "change", "cost", "unit", "front")
COUNTED = "attention parts and MLPs run (% of the full model)"


@dataclass(frozen=True, slots=True)
class Timing:
    """The measured time of a plan from a sequence of so many tokens to its next one (paper C).

    Errors are halves of 95 % intervals; `improvement` is by what share of the full model's time the
    plan's is shorter.
    """

    digest: str
    tokens: int
    seconds: float
    seconds_error: float
    improvement: float
    improvement_error: float


def timings_of(costs: pd.DataFrame) -> list[Timing]:
    """Return the timings in a study's `costs`, as `Results` has them."""
    rows = zip(*(costs[name] for name in _TIMED), strict=True)
    return [Timing(*row) for row in rows]


def measured_costs(timings: Sequence[Timing]) -> "tuple[str, Mapping[str, float]] | None":
    """Return what plans cost by their digests, after the unit, at the greatest length measured."""
    if not timings:
        return None
    tokens = max(timing.tokens for timing in timings)
    costs = {t.digest: 1000 * t.seconds for t in timings if t.tokens == tokens}
    return f"time to one token after {tokens} (ms)", costs


_TIMED = tuple(Timing.__dataclass_fields__)


@dataclass(frozen=True, slots=True)
class Priced:
    """A plan with its average over tasks (a share) and its cost, in the `unit`.

    `family` is that of `family_of`.
    """

    family: str
    plan: str
    digest: str
    average: float
    cost: float
    unit: str


def family_of(strategy: str, parameters: str) -> str:
    """Return a plan's strategy and, where it drops a part, which: `drop_last mlp`."""
    return f"{strategy} {json.loads(parameters).get('part', '')}".strip()


def counted_cost(plan: str, layers: int) -> float:
    """Return which share of the baseline's attention parts and MLPs a plan runs, in percent."""
    runs = Plan.parse(plan).occurrences
    return 100 * (runs.attention + runs.mlp) / (2 * layers)


def priced_plans(
    frame: pd.DataFrame, measured: "tuple[str, Mapping[str, float]] | None" = None
) -> list[Priced]:
    """Return every plan that has an average, each plan once, with its cost.

    `measured` is a unit and costs by the plan's digest; plans without one are left out then.
    """
    found: dict[str, Priced] = {}
    for row in over_tasks(frame).to_dict(orient="records"):
        digest, average = str(row["digest"]), float(row["average"])
        if digest in found or average != average:
            continue
        if measured is None:
            unit, cost = COUNTED, counted_cost(str(row["plan"]), int(row["layers"]))
        elif digest in measured[1]:
            unit, cost = measured[0], measured[1][digest]
        else:
            continue
        family = family_of(str(row["strategy"]), str(row["parameters"]))
        found[digest] = Priced(family, str(row["plan"]), digest, average, cost, unit)
    return list(found.values())


def trade_off(frame: pd.DataFrame, costs: pd.DataFrame) -> pd.DataFrame:
    """Return one row per plan with its quality and what it costs, the cheapest first.

    `average` is the mean over tasks and `change` its difference from the baseline's, in shares;
    `cost` is in the `unit`, measured where `costs` has any. `front` says which plans no other
    beats. What was measured of a plan at the greatest length follows.
    """
    priced = priced_plans(frame, measured_costs(timings_of(costs)))
    front = pareto_front(priced)
    change = over_tasks(frame).set_index("digest")["change"].to_dict()
    rows = [
        asdict(plan) | {"change": change[plan.digest], "front": plan in front}
        for plan in sorted(priced, key=lambda plan: (plan.cost, -plan.average))
    ]
    table = frame_of(rows, TRADE_OFF, whole=())
    if costs.empty:
        return table
    longest = costs[costs["tokens"] == costs["tokens"].max()]
    return table.merge(longest.drop(columns="plan"), on="digest", how="left")


def pareto_front(priced: Sequence[Priced]) -> list[Priced]:
    """Return the plans that no other beats: none is as cheap and better, or cheaper and as good."""
    front: list[Priced] = []
    for plan in sorted(priced, key=lambda plan: (plan.cost, -plan.average)):
        if not front or plan.average > front[-1].average:
            front.append(plan)
    return front
