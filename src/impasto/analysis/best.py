"""The cheapest plan that loses no more than so much: what an engineer asks of a study.

The best of many plans is flattered by chance: of a hundred that all lose 5 points some measure
less. So a plan is said to lose no more than x only where the interval of its loss does, at a level
that is corrected for all plans that were looked at.
"""

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from impasto.analysis.changes import Changes, Losses
from impasto.analysis.confidence import corrected
from impasto.analysis.costs import COUNTED, Priced, priced_plans
from impasto.analysis.curves import BASELINE
from impasto.analysis.items import Key
from impasto.analysis.scores import main_rows, mean_of, tasks_above_chance
from impasto.analysis.series import TaskSet, task_sets
from impasto.analysis.words import listed, loses, share_of
from impasto.error import UserError, shown
from impasto.plan import Plan
from impasto.tasks.metrics import Metric, metric_of

SPELLED = re.compile(r"(\d{1,3}(?:\.\d+)?) ?(%|pt)", re.ASCII)
ROUNDING = 1e-9
MOST = 1000  # times as many questions: more are as good as none


@dataclass(frozen=True, slots=True)
class Loss:
    """A loss that one can live with: 0.03 is 3 percent of the baseline's score, or 3 points."""

    amount: float
    unit: Literal["%", "pt"] = "%"

    @classmethod
    def parse(cls, text: str) -> "Loss":
        """Read `3%` (of the baseline's score) or `3pt` (points); raises UserError else."""
        found = SPELLED.fullmatch(text.strip())
        if found is None:
            raise UserError(
                f"a loss is a percentage of the baseline's score, as 3%, or points, as 2pt; not "
                f"{shown(text)}"
            )
        return cls(float(found[1]) / 100, "%" if found[2] == "%" else "pt")

    def __str__(self) -> str:
        return f"{100 * self.amount:g}{self.unit}"

    def within(self, baseline: float, kind: Metric) -> float:
        """Return the loss in the unit of `Losses`; raises UserError for points of a perplexity."""
        if kind.is_bounded:
            return self.amount if self.unit == "pt" else self.amount * abs(baseline)
        if self.unit == "pt":
            raise UserError(
                f"{kind.title} has no points: say a loss in percent, as {100 * self.amount:g}%"
            )
        return self.amount


LOSSES = (Loss(0.01), Loss(0.05), Loss(0.10))


@dataclass(frozen=True, slots=True)
class Best:
    """The plan to take where so much may be lost, and how sure that is.

    Attributes:
        loss: What may be lost.
        plan: The cheapest plan whose interval stays within it. Where there is none, the one with
            the least loss among those that were measured within it; None where there is none.
        holds: Whether the interval stays within it, so that it can be said to lose no more.
        lost, low, high: What it loses, as `Losses` says, and the ends of the 95 % interval,
            corrected for `plans` plans; not numbers without a plan.
        plans: How many plans cheaper than the baseline were looked at.
        times: About how many times as many questions it takes to say that the plan loses no more,
            should it lose what was measured; None where that is not to be had.
        metric, baseline: The tasks' metric, and what the baseline comes to on average.
        tasks, left_out: Titles of the tasks, and of those where the baseline is not above chance.
    """

    loss: Loss
    plan: Priced | None
    holds: bool
    lost: float
    low: float
    high: float
    plans: int
    times: float | None
    metric: Metric
    baseline: float
    tasks: tuple[str, ...]
    left_out: tuple[str, ...]


def best_plans(
    frame: pd.DataFrame,
    scores: Mapping[Key, np.ndarray],
    measured: "tuple[str, Mapping[str, float]] | None" = None,
    losses: Sequence[Loss] = LOSSES,
) -> list[Best]:
    """Return the plan to take for each loss and each set of tasks that can be summed up.

    `scores` are those of `item_scores`; `measured` is what plans cost, as in `priced_plans`. Plans
    that add noise or inject are none to take. A set whose tasks are all at chance has none.
    """
    if BASELINE not in set(frame["strategy"]):
        return []
    changes = Changes(frame, scores)
    return [b for tasks in task_sets(frame) for b in best_of(changes, tasks, measured, losses)]


def best_of(
    changes: Changes,
    tasks_together: TaskSet,
    measured: "tuple[str, Mapping[str, float]] | None" = None,
    losses: Sequence[Loss] = LOSSES,
) -> Iterator[Best]:
    """Yield the plan to take for each loss, by the average over one set of tasks."""
    frame = tasks_together.frame
    rows = [row for row in main_rows(frame, {}) if row.strategy == BASELINE]
    above = tasks_above_chance(rows)
    judged = [row for row in rows if above[row.task]]
    if not judged:
        return
    kind, tasks = metric_of(judged[0].metric), {row.task: row.metric for row in judged}
    baseline = mean_of(judged[0].metric, (row.value for row in judged))
    here = pd.DataFrame(frame[frame["task"].isin(list(tasks))])
    candidates = _candidates(here, measured)
    if not candidates or not baseline > 0:
        return
    members, level = [(plan.digest,) for plan in candidates], corrected(len(candidates))
    found = changes.average(tasks, members, level).within(kind, baseline)
    for loss in losses:
        within = loss.within(baseline, kind)
        at, holds = _chosen(candidates, found, within)
        times = None
        if at is not None and not holds:
            times = _times(changes, tasks, members[at], level, within)
        yield Best(
            loss,
            None if at is None else candidates[at],
            holds,
            *(float(ends[at]) if at is not None else float("nan") for ends in _columns(found)),
            plans=len(candidates),
            times=times,
            metric=kind,
            baseline=baseline,
            tasks=tuple(row.title for row in judged),
            left_out=tuple(row.title for row in rows if not above[row.task]),
        )


def _columns(found: Losses) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return found.lost, found.low, found.high


def _candidates(
    frame: pd.DataFrame, measured: "tuple[str, Mapping[str, float]] | None"
) -> list[Priced]:
    """Return the plans that are cheaper than the baseline, the cheapest first."""
    priced = priced_plans(frame, measured)
    baseline = next((plan for plan in priced if plan.family == BASELINE), None)
    if baseline is None:
        return []
    cheaper = [plan for plan in priced if plan.cost < baseline.cost - ROUNDING]
    return sorted(filter(_can_be_used, cheaper), key=lambda plan: plan.cost)


def _can_be_used(plan: Priced) -> bool:
    """Say whether a plan is one to run a model by: noise and donors only find out things."""
    parsed = Plan.parse(plan.plan)
    return not parsed.injections and "noise(" not in plan.plan


def _chosen(candidates: Sequence[Priced], found: Losses, within: float) -> tuple[int | None, bool]:
    """Return which plan to take for a loss, and whether it is sure to lose no more."""
    sure = np.flatnonzero(found.high <= within + ROUNDING).tolist()
    if sure:
        least = candidates[sure[0]].cost + ROUNDING
        return min(
            (i for i in sure if candidates[i].cost <= least), key=lambda i: found.lost[i]
        ), True
    as_measured = np.flatnonzero(found.lost <= within + ROUNDING).tolist()
    if not as_measured:
        return None, False
    return min(as_measured, key=lambda i: (round(found.lost[i], 9), candidates[i].cost)), False


def _times(
    changes: Changes, tasks: Mapping[str, str], member: tuple[str, ...], level: float, within: float
) -> float | None:
    """Return how many times as many questions it takes for an interval to stay within a loss."""
    low, high = 1.0, float(MOST)
    if not _is_within(changes, tasks, member, level, high, within):
        return None
    while high / low > 1.05:
        middle = (low * high) ** 0.5
        if _is_within(changes, tasks, member, level, middle, within):
            high = middle
        else:
            low = middle
    return high


def _is_within(
    changes: Changes,
    tasks: Mapping[str, str],
    member: tuple[str, ...],
    level: float,
    times: float,
    within: float,
) -> bool:
    return bool(changes.average(tasks, [member], level, times).high[0] <= within + ROUNDING)


def best_findings(found: Sequence[Best]) -> Iterator[str]:
    """Yield a sentence for each plan to take, with all losses that it is taken for."""
    groups: dict[tuple[object, ...], list[Best]] = {}
    for best in found:
        digest = best.plan.digest if best.plan else ""
        groups.setdefault((best.tasks, digest, best.holds), []).append(best)
    for same in groups.values():
        yield _sentence(same)


def _sentence(same: Sequence[Best]) -> str:
    """Say which plan to take for some losses, and how sure it is to keep them."""
    best, plan = same[0], same[0].plan
    allowed = listed([_told(one.loss) for one in same], "or")
    over = _over(best)
    if plan is None:
        return (
            f"No plan cheaper than the baseline was measured to lose {_told(same[-1].loss)} "
            f"or less {over}."
        )
    if best.holds:
        return (
            f"The cheapest plan that loses no more than {allowed} {over} is {plan.told}: it "
            f"{cost_of(plan)} and {_loses(best)}."
        )
    return (
        f"No plan can be said to lose no more than {allowed} {over}: {plan.told}, which "
        f"{cost_of(plan)}, {_loses(best)}, so that a greater loss is not "
        f"excluded{_more(best)}."
    )


def best_lines(found: Sequence[Best], model: str) -> Iterator[str]:
    """Yield for each loss the plan to take, with the command that makes a model of it, in lines."""
    for place, best in enumerate(found):
        plan = best.plan
        if place:
            yield ""
        yield f"within   {_told(best.loss)} {_over(best)}"
        if plan is None:
            yield "plan     none cheaper than the baseline was measured to lose that little"
            continue
        yield f"plan     {plan.told}"
        yield f"cost     {cost_of(plan)}"
        yield f"loss     {_loses(best).removeprefix('loses ')}"
        if not best.holds:
            yield f"         a greater loss is not excluded{_more(best)}"
        command, is_made = command_for(plan, model)
        yield f"{'make it' if is_made else 'run it':9}{command}"


def command_for(plan: Priced, model: str) -> tuple[str, bool]:
    """Return the command that makes a model of a plan, or runs it; and whether it makes one."""
    command = ["impasto", "export", "--model", model, "--plan", plan.plan, "FOLDER"]
    if plan.healed:
        command = ["impasto", "heal", "--model", model, "--plan", plan.plan]
        command += ["--method", plan.healed, "--texts", "FILE", "--export", "FOLDER", "HEALED"]
    is_made = not Plan.parse(plan.plan).tells_prompt  # no folder's code is told where a prompt ends
    if not is_made:
        command = ["impasto", "generate", "--model", model, "--plan", plan.plan, "PROMPT"]
    return shlex.join(command), is_made


def _loses(best: Best) -> str:
    """Return what a plan loses, or gains, with its interval."""
    correction = f", corrected for {best.plans:,} plans" if best.plans > 1 else ""
    return loses(best.lost, best.low, best.high, best.metric, correction)


def _more(best: Best) -> str:
    """Say how many questions it takes to tell, where that can be said."""
    if best.times is None:
        return ""
    return f"; to tell, about {best.times:.2g} times as many {best.metric.items} are needed"


def _over(best: Best) -> str:
    """Say of what score a loss is, and of which tasks."""
    of = share_of(best.baseline, best.metric)
    where = best.tasks[0] if len(best.tasks) == 1 else f"average over {len(best.tasks)} tasks"
    without = f"; left out, at chance: {listed(best.left_out)}" if best.left_out else ""
    return f"of the baseline's {best.metric.title}, {of} ({where}{without})"


def _told(loss: Loss) -> str:
    """Return a loss that is allowed as a sentence has it."""
    if loss.unit == "pt":
        return f"{100 * loss.amount:g} point{'s' if loss.amount != 0.01 else ''}"
    return f"{100 * loss.amount:g} %"


def cost_of(plan: Priced) -> str:
    """Say what a plan costs, as the predicate of a sentence."""
    if plan.unit == COUNTED:
        return f"runs {plan.cost:.1f} % of the full model's attention parts and MLPs"
    return f"costs {plan.cost:.3g} ({plan.unit})"
