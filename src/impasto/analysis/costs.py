"""Quality against cost: what each plan costs, and which plans no other beats at both.

Without measurements a plan costs what share of the baseline's attention parts and MLPs it runs.
That says nothing of rows: a frozen token's row need not run on. The operations of a prefill do
(`operations`).
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from math import isnan, nan
from typing import Any

import numpy as np
import pandas as pd

from impasto.analysis.curves import BASELINE, Row, frame_of
from impasto.analysis.scores import main_rows, over_tasks, tasks_above_chance
from impasto.analysis.series import TaskSet, task_sets
from impasto.plan import Plan
from impasto.plan.lowering import lower
from impasto.plan.program import RunLayer, layers
from impasto.plan.steps import Inject, Noise
from impasto.tasks.metrics import metric_of

TRADE_OFF = (
    "family",
    "plan",
    "digest",
    "average",
    "low",
    "high",
    "change",
    "cost",
    "unit",
    "front",
)
COUNTED = "attention parts and MLPs run (% of the full model)"
ROWS = "rows through attention parts and MLPs in a prefill (% of the full model's)"
OPERATIONS = "operations of a prefill of {tokens} tokens (% of the full model's)"
KEYS_VALUES = 0.5  # of an attention part: the projections of keys and values, two of its four


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


def cost_errors(timings: Sequence[Timing]) -> Mapping[str, float]:
    """Return halves of the 95 % intervals of `measured_costs`, by digest."""
    tokens = max((timing.tokens for timing in timings), default=0)
    return {t.digest: 1000 * t.seconds_error for t in timings if t.tokens == tokens}


_TIMED = tuple(Timing.__dataclass_fields__)


HEALED = "healed"  # the strategy's name of plans that are healed


@dataclass(frozen=True, slots=True)
class Priced:
    """A plan with its average over tasks (a share, or a perplexity) and its cost, in the `unit`.

    Attributes:
        family: That of `family_of`.
        low, high: The average's 95 % interval over questions, the tasks' errors taken together.
        cost_error: Half of the cost's 95 % interval; not a number where it is counted.
        lower_is_better: Whether less of the average is better.
    """

    family: str
    plan: str
    digest: str
    average: float
    cost: float
    unit: str
    low: float = nan
    high: float = nan
    cost_error: float = nan
    lower_is_better: bool = False

    @property
    def healed(self) -> str:
        """The method by which the plan is healed; empty where it runs as it is."""
        strategy, _, method = self.family.partition(" ")
        return method if strategy == HEALED else ""

    @property
    def told(self) -> str:
        """The plan as sentences have it: its line, and whether it is healed."""
        return f"{self.plan} (healed: {self.healed})" if self.healed else self.plan

    @property
    def quality(self) -> float:
        """The average, negative where less of it is better: more is always better."""
        return -self.average if self.lower_is_better else self.average


@dataclass(frozen=True)
class TradeOff:
    """Quality against cost over one set of tasks.

    Attributes:
        tasks: The tasks that enter, those above chance.
        priced: Every plan that could stand for the model in use.
        left_out: The titles of the tasks whose baseline is not above chance.
        studied: The families of plans that only study a model, by noise or injection.
    """

    tasks: TaskSet
    priced: list[Priced]
    left_out: tuple[str, ...]
    studied: tuple[str, ...]


def family_of(strategy: str, parameters: str) -> str:
    """Return a plan's strategy and, where it drops a part or is healed, which or how."""
    told = json.loads(parameters)
    return f"{strategy} {told.get('heal') or told.get('part', '')}".strip()


def counted_cost(plan: str, layers: int) -> float:
    """Return which share of the baseline's attention parts and MLPs a plan runs, in percent."""
    runs = Plan.parse(plan).occurrences
    return 100 * (runs.attention + runs.mlp) / (2 * layers)


def rows_cost(plan: str, total: int) -> float:
    """Return what a plan runs of a long prompt's rows, in percent of the full model's.

    A row counts one for an attention part and one for an MLP. Rows behind a freeze give attention
    their keys and values alone, which counts half of it, and run no MLP. What the current token
    adds is one row of many, and not counted.
    """
    runs = (run for each in lower(Plan.parse(plan)).instructions for run in layers(each))
    return 100 * sum(map(_rows_of, runs)) / (2 * total)


def _rows_of(run: RunLayer) -> float:
    attention, mlp = run.part != "mlp", run.part != "attention"
    is_held = run.rows == "kv-only" or run.holds_prompt
    return attention * KEYS_VALUES if is_held else float(attention + mlp)


def operations(frame: pd.DataFrame, costs: pd.DataFrame) -> tuple[str, Mapping[str, float]]:
    """Return the operations of a prefill by the plan's digest, after their unit, in percent.

    Where a study's `costs` were taken they know the model's shape, and the operations of its matrix
    products are counted; else rows are (`rows_cost`).
    """
    baseline = {row.digest for row in main_rows(frame, {}) if row.strategy == BASELINE}
    if not costs.empty:
        lengths: Any = costs["tokens"]
        tokens = int(lengths.max())
        longest = costs[costs["tokens"] == tokens]
        flops = dict(zip(longest["digest"], longest["flops"], strict=True))
        full = next((flops[digest] for digest in baseline if digest in flops), nan)
        if full > 0:
            shares = {digest: 100 * count / full for digest, count in flops.items()}
            return OPERATIONS.format(tokens=tokens), shares
    plans = {row.digest: (row.plan, row.layers) for row in main_rows(frame, {})}
    return ROWS, {digest: rows_cost(*plan) for digest, plan in plans.items()}


def priced_plans(
    frame: pd.DataFrame,
    measured: "tuple[str, Mapping[str, float]] | None" = None,
    errors: Mapping[str, float] | None = None,
) -> list[Priced]:
    """Return every plan that has an average, each plan once, with its cost.

    `measured` is a unit and costs by the plan's digest; plans without one are left out then.
    `errors` are halves of the costs' 95 % intervals.
    """
    found: dict[str, Priced] = {}
    intervals, lower_is_better = _intervals(frame)
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
        error = (errors or {}).get(digest, nan)
        ends = intervals.get(digest, (nan, nan))
        found[digest] = Priced(
            family, str(row["plan"]), digest, average, cost, unit, *ends, error, lower_is_better
        )
    return list(found.values())


def _intervals(frame: pd.DataFrame) -> tuple[dict[str, tuple[float, float]], bool]:
    """Return the averages' intervals by digest, and whether less is better."""
    rows = main_rows(frame, {})
    rows = [row for row in rows if metric_of(row.metric).is_bounded] or rows
    plans: dict[str, dict[str, Row]] = {}
    for row in rows:
        plans.setdefault(row.digest, {})[row.task] = row
    ends = {digest: average_interval(list(tasks.values())) for digest, tasks in plans.items()}
    return ends, bool(rows) and metric_of(rows[0].metric).lower_is_better


def average_interval(rows: Sequence[Row]) -> tuple[float, float]:
    """Return the 95 % interval of a plan's average over tasks: they vary apart from each other.

    The average is the tasks' mean, or the geometric one where their metric has no range. Not a
    number where one of them is none.
    """
    ends = np.array([(row.value, *row.interval) for row in rows])
    by_ratio = not metric_of(rows[0].metric).is_bounded
    if by_ratio:
        with np.errstate(divide="ignore", invalid="ignore"):
            ends = np.log(ends)
    with np.errstate(invalid="ignore"):
        value, low, high = ends.T
        below, above = (
            np.sqrt(np.square(side).sum()) / len(rows) for side in (value - low, high - value)
        )
        found = value.mean() - below, value.mean() + above
    low_end, high_end = (float(np.exp(end)) if by_ratio else float(end) for end in found)
    return low_end, high_end


def trade_offs(
    frame: pd.DataFrame,
    measured: tuple[str, Mapping[str, float]],
    errors: Mapping[str, float] | None = None,
) -> list[TradeOff]:
    """Return quality against cost for every set of a study's tasks (`task_sets`).

    Tasks whose baseline is not above chance say nothing of a plan and are left out; so are plans
    with noise or injections, which study a model and are none to use.
    """
    found = []
    for tasks in task_sets(frame):
        rows = main_rows(tasks.frame, {})
        above, titles = tasks_above_chance(rows), {row.task: row.title for row in rows}
        left_out = tuple(title for task, title in titles.items() if not above.get(task))
        of_task: Any = tasks.frame["task"]
        judged: Any = tasks.frame[of_task.isin([task for task in titles if above.get(task)])]
        studying = {row.plan for row in rows if _only_studies(row.plan)}
        priced = []
        if not judged.empty:
            in_use = judged[~judged["plan"].isin(list(studying))]
            priced = priced_plans(in_use, measured, errors)
        studied = dict.fromkeys(row.strategy for row in rows if row.plan in studying)
        entered = TaskSet(tasks.title, judged, tasks.summary)
        found.append(TradeOff(entered, priced, left_out, tuple(studied)))
    return found


def _only_studies(plan: str) -> bool:
    return any(isinstance(step, Noise | Inject) for step in Plan.parse(plan).steps)


def relative(priced: Sequence[Priced]) -> list[Priced]:
    """Return the plans with costs in percent of the baseline's; none where it has no cost."""
    full = next((plan.cost for plan in priced if plan.family == BASELINE), nan)
    if isnan(full) or not full:
        return []
    return [
        replace(plan, cost=100 * plan.cost / full, cost_error=100 * plan.cost_error / full)
        for plan in priced
    ]


def trade_off(frame: pd.DataFrame, costs: pd.DataFrame) -> pd.DataFrame:
    """Return one row per plan with its quality and what it costs, the cheapest first.

    `average` is the mean over tasks and `change` its difference from the baseline's, in shares;
    `cost` is in the `unit`, measured where `costs` has any. `front` says which plans no other beats
    by the tasks above chance; there is none where no task is. What was measured of a plan at the
    greatest length follows.
    """
    measured = measured_costs(timings_of(costs))
    priced = priced_plans(frame, measured)
    above = [
        task for task, is_above in tasks_above_chance(main_rows(frame, {})).items() if is_above
    ]
    judged = priced_plans(pd.DataFrame(frame[frame["task"].isin(above)]), measured) if above else []
    front = {plan.digest for plan in pareto_front(judged)}
    change = over_tasks(frame).set_index("digest")["change"].to_dict()
    rows = [
        asdict(plan) | {"change": change[plan.digest], "front": plan.digest in front}
        for plan in sorted(priced, key=lambda plan: (plan.cost, -plan.quality))
    ]
    table = frame_of(rows, TRADE_OFF, whole=())
    if costs.empty:
        return table
    longest = costs[costs["tokens"] == costs["tokens"].max()]
    return table.merge(longest.drop(columns="plan"), on="digest", how="left")


def pareto_front(priced: Sequence[Priced]) -> list[Priced]:
    """Return the plans that no other beats: none is as cheap and better, or cheaper and as good."""
    front: list[Priced] = []
    for plan in sorted(priced, key=lambda plan: (plan.cost, -plan.quality)):
        if not front or plan.quality > front[-1].quality:
            front.append(plan)
    return front
