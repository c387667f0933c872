"""What a search came to, in sentences that hold: each is carried by items that did not choose."""

from collections.abc import Iterator, Sequence

from impasto.searching.confirming import LEVEL
from impasto.searching.found import Confirmed, Found, FoundPlan
from impasto.tasks.metrics import metric_of

MANY = 3  # confirmed plans of which each gets its sentences


def sentences(found: Found) -> Iterator[str]:
    """Yield what a search came to, the most important first."""
    best = found.best
    yield (
        f"Of {len(found.tried):,} plans that {found.method} tried, {best.plan}, which costs "
        f"{_share(best, found)}, has the smallest objective within the budget ({found.budget})."
    )
    yield (
        f"Its {found.objective} is {_value(best)} {found.unit} on the {found.held_out:,} items "
        f"that did not choose it ({best.objective:.4g} on the {found.items:,} that did; full model "
        f"{_value(found.full)})."
    )
    yield from _timed(found)
    yield from _beside_references(found)
    if found.layer_rows and found.layer_rows_alone:
        yield (
            f"That took {_whole(found.layer_rows)} layer-rows (one token through one whole layer); "
            f"plan by plan and text by text it takes {_whole(found.layer_rows_alone)}, "
            f"{found.layer_rows_alone / found.layer_rows:.1f} times as many."
        )
    yield from confirmed_sentences(found)


def _timed(found: Found) -> Iterator[str]:
    """Yield what plans take by a clock, under a budget of seconds."""
    for one in found.timed:
        takes = (
            f"{100 * one.measured:.1f} % of the full model's seconds "
            f"({100 * one.estimated:.1f} % by what its parts take)"
        )
        if one.keeps:
            yield f"Timed itself, {one.plan} takes {takes}."
        elif one.plan != found.best.plan:
            yield f"{one.plan}, which loses less, was passed over: timed, it takes {takes}."
        else:
            yield (
                f"Timed itself, {one.plan} takes {takes}, more than the budget; so do all "
                f"{len(found.timed)} best plans: lower the bound of the seconds."
            )


def _whole(number: float) -> str:
    """Return a count with three digits that tell: 1,230,000."""
    return f"{float(f'{number:.3g}'):,.0f}"


def confirmed_sentences(found: Found) -> Iterator[str]:
    """Yield how the plans did on questions that the search never saw."""
    confirmed = found.confirmed
    if not confirmed:
        return
    count = len(confirmed)
    compared = f", all {count} comparisons corrected for (Holm)" if count > 1 else ""
    better = [one for one in confirmed if one.corrected < LEVEL and one.difference > 0]
    for one in better[:MANY]:
        yield f"{one.plan} is better than the full model on {_on(one)}{compared}."
    for one in (one for one in confirmed if one.plan == found.best.plan):
        if one not in better[:MANY]:
            yield f"{one.plan} {_verdict(one)} on {_on(one)}{compared}."


def _beside_references(found: Found) -> Iterator[str]:
    """Yield which other ways to choose, at no higher cost, the best plan beats for certain."""
    measure = found.measures[0]
    for name, plans in found.references.items():
        within = [one for one in plans if one.cost[measure] >= found.best.cost[measure] - 1e-9]
        if not within or found.best.held_out is None:
            continue
        nearest = min(within, key=lambda one: one.cost[measure])
        if nearest.held_out is None or nearest.plan == found.best.plan:
            continue
        clear = found.best.held_out.interval[1] < nearest.held_out.interval[0]
        if clear:
            yield (
                f"It beats {name}, which has {_value(nearest)} at "
                f"{100 * nearest.cost[measure]:.3g} % of the {measure.replace('_', ' ')}."
            )


def _verdict(one: Confirmed) -> str:
    if one.corrected < LEVEL:
        return "is worse than the full model"
    return "cannot be told from the full model"


def _on(one: Confirmed) -> str:
    kind = metric_of(one.metric)
    if kind.is_bounded:
        scores = f"{100 * one.value:.1f} % against {100 * one.baseline:.1f} %"
        ends = f"{100 * one.difference:+.1f} points, 95 % interval {100 * one.low:+.1f} to "
        ends += f"{100 * one.high:+.1f}"
    else:
        scores = f"{one.value:.4g} against {one.baseline:.4g}"
        ends = f"{one.difference:+.3g}, 95 % interval {one.low:+.3g} to {one.high:+.3g}"
    return f"{one.title} ({scores} of {one.n:,} questions; {ends}; p = {one.corrected:.2g})"


def _value(one: FoundPlan) -> str:
    """Return a plan's held-out objective with its interval."""
    if one.held_out is None:
        return f"{one.objective:.4g}"
    low, high = one.held_out.interval
    if low == high:
        return f"{one.held_out.value:.4g}"
    return f"{one.held_out.value:.4g} ({low:.4g} to {high:.4g})"


def _share(one: FoundPlan, found: Found) -> str:
    shares: Sequence[str] = [
        f"{100 * one.cost[m]:.3g} % of the {m.replace('_', ' ')}" for m in found.measures
    ]
    return ", ".join(shares)
