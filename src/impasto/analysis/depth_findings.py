"""Sentences about manipulations that start at a depth: from where on they no longer matter.

Each says no more than the intervals carry: where they leave the critical depth open, the sentence
says between which depths it lies, and from how many questions that cannot be told.
"""

from dataclasses import dataclass
from math import isnan

from impasto.analysis.changes import Changes
from impasto.analysis.confidence import corrected
from impasto.analysis.critical import Critical, critical_of, members_of
from impasto.analysis.curves import DepthCurve
from impasto.analysis.depth import TOLERANCE, winning_depth
from impasto.analysis.words import percent, points_of, share_of, variant
from impasto.strategies import STRATEGIES
from impasto.tasks.metrics import metric_name, metric_of

OPEN = "open"
LACKS = "some scores are no finite numbers, so that there is no value"


def depth_finding(changes: Changes, curve: DepthCurve) -> str:
    """Say from which depth on a manipulation no longer matters: its critical depth."""
    strategy = STRATEGIES.get(curve.strategy)
    about = f"{curve.title}: {strategy.doing if strategy else curve.strategy}"
    if words := variant(curve.parameters):
        about += f" to {words}"
    found = critical_of(changes, curve)
    if found is None:
        return f"{about} cannot be judged: {LACKS}."
    kind, what = metric_of(curve.metric), metric_name(curve.metric)
    base, seeds = share_of(curve.baseline, kind), _seeds(curve)
    within = f"{what} is within {_tolerance(curve)} of the baseline's {base}"
    sure = f"(95 % intervals, {curve.n:,} {kind.items})"
    worked = [depth for depth in found.depths if depth not in found.idle]
    if kind.is_bounded and curve.baseline - TOLERANCE <= (
        0 if isnan(curve.chance) else curve.chance
    ):
        return (
            f"{about} cannot be judged by {_tolerance(curve)}: the baseline's {base} is no more "
            f"above chance than that."
        )
    if not worked:
        return f"{about} was run only where no layer is left: it is the baseline there."
    if found.within >= set(worked):
        return f"{about} never matters: at every depth that was run {within}{seeds} {sure}."
    if found.matters.keys() >= set(worked):
        least = points_of(min(found.matters.values()), kind)
        up_to = "at every depth that was run"
        if found.idle:
            up_to = f"up to the last layer, at every depth before {min(found.idle)}"
        lost = f"{least} or more of the baseline's {base} are lost"
        return f"{about} matters {up_to}: {lost}{seeds} {sure}."
    if found.low is None:
        last = found.depths[-1]
        least = points_of(found.matters[last], kind)
        return (
            f"{about} still matters at depth {last} of {curve.layers}, the last that was run: "
            f"{least} or more of the baseline's {base} are lost{seeds} {sure}."
        )
    if not found.is_told or found.critical is None:
        return f"{about}: from which depth on it no longer matters {_open(found, curve)}."
    before = max(depth for depth in curve.mean if depth < found.critical)
    return (
        f"{about} stops mattering at depth {found.critical} of {curve.layers} (95 % interval "
        f"{found.low} to {found.high}): from there {within}; at depth {before} it is "
        f"{share_of(curve.mean[before], kind)}{seeds}."
    )


@dataclass(frozen=True, slots=True)
class DepthSaid:
    """What is known of one critical depth, as a row of a table.

    Attributes:
        task, title: The task.
        doing: What is done from the depth on, or at it.
        depth: The critical depth in words: a number, `never matters`, `matters throughout`, `open`.
        interval: Its 95 % interval, or between which depths it lies; empty where nothing is known.
        layers: How many layers the model has.
        n: How many items were asked, and what they are.
        is_sure: Whether the critical depth is told, and not open.
        sentence: The whole of it in a sentence; empty for an injection, which has another one.
    """

    task: str
    title: str
    doing: str
    depth: str
    interval: str
    layers: int
    n: str
    is_sure: bool
    sentence: str


def depth_said(changes: Changes, curve: DepthCurve, is_injection: bool) -> DepthSaid | None:
    """Return what is known of a curve's critical depth; None where it cannot be judged."""
    found = critical_of(changes, curve)
    if found is None or not set(found.depths) - found.idle:
        return None
    strategy, kind = STRATEGIES.get(curve.strategy), metric_of(curve.metric)
    doing = strategy.doing if strategy else curve.strategy
    words = "" if is_injection else variant(curve.parameters)
    depth, interval = _depth_cells(found)
    return DepthSaid(
        curve.task,
        curve.title,
        f"{doing} to {words}" if words else doing,
        depth,
        interval,
        curve.layers,
        f"{curve.n:,} {kind.items}",
        depth != OPEN,
        "" if is_injection else depth_finding(changes, curve),
    )


def _depth_cells(found: Critical) -> tuple[str, str]:
    """Return a critical depth and its interval, as cells of a table."""
    worked = set(found.depths) - found.idle
    if found.within >= worked:
        return "never matters", ""
    if found.matters.keys() >= worked:
        return "matters throughout", ""
    if found.low is None:
        return "behind the last that was run", f"{found.depths[-1]} still matters"
    if found.is_told and found.critical is not None:
        return str(found.critical), f"{found.low} to {found.high}"
    if found.sure_high is None:
        return OPEN, "" if found.low == found.depths[0] else f"{found.low} or later"
    return OPEN, f"{found.low} to {found.sure_high}"


def injection_finding(changes: Changes, injected: DepthCurve, original: DepthCurve) -> str:
    """Say up to which depth the injected answer wins and from which the original is untouched."""
    about = f"{injected.title}: {STRATEGIES['inject'].doing}"
    found = critical_of(changes, original)
    if found is None or any(map(isnan, injected.mean.values())):
        return f"{about} cannot be judged: {LACKS}."
    return f"{about} {_wins(changes, injected, original)}; {_untouched(found, original)}."


def _wins(changes: Changes, injected: DepthCurve, original: DepthCurve) -> str:
    """Say at which depths the injected answer comes more often than the original."""
    depths = sorted(injected.mean)
    members = members_of(injected, depths)
    below = changes.beside(
        injected.task, (injected.metric, original.metric), members, corrected(len(members))
    )
    wins, may_win = (
        [d for d, on in zip(depths, to, strict=True) if on]
        for to in (below.high < 0, below.low <= 0)
    )
    more = "the injected answer more often than the original"
    if not may_win:
        return f"never brings out {more} (95 % intervals)"
    measured = winning_depth(injected.mean, original.mean)
    if not wins or measured is None:
        return f"cannot be said, from {injected.n:,} questions, to bring out {more} at any depth"
    where = "only at" if measured == depths[0] else "up to"
    return (
        f"brings out {more} {where} depth {measured} of {injected.layers} (95 % interval "
        f"{max(wins)} to {max(may_win)}; at most {percent(max(injected.mean.values()))})"
    )


def _untouched(found: Critical, original: DepthCurve) -> str:
    """Say from which depth on the original answer comes as often as without injection."""
    base = share_of(original.baseline, metric_of(original.metric))
    within = f"within {_tolerance(original)} of the baseline's {base}"
    worked = set(found.depths) - found.idle
    if found.within >= worked:
        return f"the original answer is untouched at every depth that was run ({within})"
    if found.matters.keys() >= worked:
        return "the original answer is disturbed at every depth that was run"
    if found.low is None:
        return (
            f"at depth {found.depths[-1]}, the last that was run, the original is still disturbed"
        )
    if not found.is_told or found.critical is None:
        return f"from which depth on the original answer is untouched {_open(found, original)}"
    return (
        f"from depth {found.critical} on (95 % interval {found.low} to {found.high}) the original "
        f"answer is untouched ({within})"
    )


def _open(found: Critical, curve: DepthCurve) -> str:
    """Say between which depths it lies, where the questions leave much open."""
    cannot = f"cannot be told from {curve.n:,} {metric_of(curve.metric).items}"
    if found.low == found.depths[0] and found.sure_high is None:
        return cannot
    if found.sure_high is None:
        return f"{cannot}: not before depth {found.low} of {curve.layers}"
    return f"{cannot}: between depth {found.low} and depth {found.sure_high} of {curve.layers}"


def _tolerance(curve: DepthCurve) -> str:
    return points_of(TOLERANCE, metric_of(curve.metric))


def _seeds(curve: DepthCurve) -> str:
    return f" (mean of {curve.seeds} seeds)" if curve.seeds > 1 else ""
