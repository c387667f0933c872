"""Quality against cost: every plan that could be used, and the front that no plan is better than.

Plans with noise or injections study a model and are left out; so are tasks by which nothing can be
judged. Costs are measured times where a study has them, else the operations of a prefill.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import isfinite

from impasto.analysis.costs import (
    Priced,
    TradeOff,
    cost_errors,
    operations,
    pareto_front,
    relative,
    trade_offs,
)
from impasto.analysis.scores import main_rows
from impasto.analysis.series import TaskSet
from impasto.figures.chart import Reference, references
from impasto.figures.found import Found, MissingError
from impasto.figures.front import Cloud, Front, Fronts
from impasto.figures.middles import WANTED
from impasto.figures.models import alone, asked, common, named
from impasto.figures.picture import Picture
from impasto.figures.scale import Scale, scale_of
from impasto.strategies import STRATEGIES

FEWEST = 3  # plans: between fewer there is nothing to choose
OFTEN_SKIPPED = STRATEGIES["skip_one"].entry


@dataclass(frozen=True)
class _Costs:
    """How plans are priced, and what the picture's name then ends in."""

    measured: bool
    ending: str = ""

    def trade_offs(self, found: Found) -> list[TradeOff]:
        """Return quality against cost of a study, for each of its sets of tasks."""
        if self.measured and found.costs is not None:
            return trade_offs(found.frame, found.costs, cost_errors(found.timings))
        assert found.results is not None
        return trade_offs(found.frame, operations(found.frame, found.results.costs))


def pareto(founds: Sequence[Found]) -> Iterator[Picture]:
    """Draw the front by measured times, where there are any, and by operations."""
    having = [found for found in founds if found.tasks]
    if not having:
        raise MissingError(["capitals"], [OFTEN_SKIPPED])
    measured = all(found.costs is not None for found in having)
    ways = [_Costs(True), _Costs(False, "-operations")] if measured else [_Costs(False)]
    for costs in ways:
        fronts, notes = _fronts(having, costs)
        yield Picture(f"pareto{costs.ending}", Fronts(fronts), notes)


def _fronts(founds: Sequence[Found], costs: _Costs) -> tuple[list[Front], list[str]]:
    """Return a front for every set of tasks, and what is left out; raises MissingError if none."""
    groups: dict[str, list[tuple[Found, TradeOff]]] = {}
    for found in founds:
        for trade in costs.trade_offs(found):
            groups.setdefault(trade.tasks.title, []).append((found, trade))
    notes, fronts = [], []
    for group in groups.values():
        judged = [(f, trade) for f, trade in group if not trade.tasks.frame.empty]
        for found, trade in group:
            if judged and trade.tasks.frame.empty:
                titles = ", ".join(trade.left_out)
                notes.append(f"{found.model} is not above chance on {titles}: it has no front")
        group = judged or group
        if len(group) > 1 and judged:
            tasks, said = common({f.model: _names(trade) for f, trade in group})
            notes += said
            group = [(f, t) for f, t in group if set(_names(t)) >= set(tasks)]
        if front := _front(group):
            fronts.append(front)
            if len(group) == 1 < len(founds) and judged:
                notes += [alone(f.model, _names(trade)) for f, trade in group]
    if not fronts:
        every = [trade for group in groups.values() for _, trade in group]
        raise _lacking(every)
    return fronts, notes


def _names(trade: TradeOff) -> list[str]:
    return list(dict.fromkeys(trade.tasks.frame["task"]))


def _lacking(every: Sequence[TradeOff]) -> MissingError:
    """Say why there is no front: no task that shows anything, or too few plans."""
    titles = dict.fromkeys(title for trade in every for title in trade.left_out)
    if titles and all(trade.tasks.frame.empty for trade in every):
        reason = (
            f"the full model is not above chance on {', '.join(titles)}: no plan can lose what is "
            "not there, so there is no front"
        )
        return MissingError(WANTED, reason=reason)
    studied = dict.fromkeys(name for trade in every for name in trade.studied)
    reason = f"plans of {', '.join(studied)} only study a model" if studied else ""
    return MissingError([], [OFTEN_SKIPPED], reason=reason)


def _front(group: Sequence[tuple[Found, TradeOff]]) -> Front | None:
    """Return the front of one set of tasks; None where no model has enough plans."""
    several = len(group) > 1
    clouds = []
    for found, trade in group:
        priced = relative(trade.priced) if several else trade.priced
        if len(priced) >= FEWEST:
            clouds.append((found, trade, priced))
    if not clouds:
        return None
    founds, tasks = [found for found, *_ in clouds], clouds[0][1].tasks
    rows = {row.task: row for row in main_rows(tasks.frame, {})}
    scale = _scale(tasks, len(rows))
    unit = clouds[0][2][0].unit
    if several and "%" not in unit:
        unit = f"{unit.removesuffix(' (ms)')} (% of the full model's)"
    titles = ", ".join(row.title for row in rows.values())
    kind = {"geometric mean": "geometric mean"}.get(tasks.summary, "average")
    told = [
        named(founds),
        asked([(found, len(priced)) for found, _, priced in clouds], "plans"),
        f"{kind} of {len(rows)} tasks" if len(rows) > 2 else titles,
        *_intervals([plan for *_, priced in clouds for plan in priced]),
        *_left_out([trade for _, trade, _ in clouds]),
    ]
    return Front(
        title="Quality against cost" + (f": {tasks.title}" if tasks.title else ""),
        told=told,
        x_label=unit,
        y=scale,
        clouds=[
            Cloud(
                found.named if several else "",
                priced,
                pareto_front(priced),
                _levels(trade.tasks, scale, found.model if several else ""),
            )
            for found, trade, priced in clouds
        ],
    )


def _intervals(priced: Sequence[Priced]) -> Iterator[str]:
    """Say what error bars are, where there are any."""
    if any(isfinite(plan.low) for plan in priced):
        yield "95 % intervals"


def _left_out(trades: Sequence[TradeOff]) -> Iterator[str]:
    """Say which tasks and which plans do not enter."""
    if tasks := dict.fromkeys(title for trade in trades for title in trade.left_out):
        yield f"not above chance, left out: {', '.join(tasks)}"
    if studied := dict.fromkeys(name for trade in trades for name in trade.studied):
        titles = (STRATEGIES[name].title if name in STRATEGIES else name for name in studied)
        yield f"without {', '.join(titles).lower()}, which only study a model"


def _scale(tasks: TaskSet, count: int) -> Scale:
    row = next(iter(main_rows(tasks.frame, {})))
    scale = scale_of(row.metric)
    shares = tasks.summary != "geometric mean" and count > 1
    return replace(scale, label="average score (%)") if shares else scale


def _levels(tasks: TaskSet, scale: Scale, model: str) -> list[Reference]:
    """Return where the full model and guessing lie; the model is named where there are several."""
    average = replace(tasks, summary="average").reference
    full, chance = (f"Full {model or 'model'}", f"Chance {model}".strip())
    return references([(full, average("baseline")), (chance, average("chance"))], scale)
