"""By how much plans change tasks and their average, as tables say it: more is a plus."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite, nan
from typing import Any

import pandas as pd

from impasto.analysis.changes import Changes, Losses
from impasto.analysis.items import item_scores
from impasto.analysis.scores import signed
from impasto.analysis.words import short
from impasto.tasks.metrics import Metric, metric_of

MOST_RECORDS = 300_000  # answers that are read for it; beyond that scores are compared


@dataclass(frozen=True, slots=True)
class Change:
    """A difference from the baseline with its 95 % interval; not numbers where they are not known.

    Of shares it is in shares; of a metric without a range it is by which share more it is, 0.1 for
    10 percent.
    """

    value: float
    low: float = nan
    high: float = nan


NO_CHANGE = Change(nan)


def average_changes(
    frame: pd.DataFrame,
    records: Sequence[Mapping[str, Any]],
    digests: Iterable[str],
    tasks: Mapping[str, str],
) -> dict[str, Change]:
    """Return how plans change the average over tasks, given with their metrics, by plan's digest.

    Plans are compared with the baseline item by item where answers are known and not too many.
    """
    wanted = list(dict.fromkeys(digests))
    scores = item_scores(records) if 0 < len(records) <= MOST_RECORDS else {}
    found = Changes(frame, scores).average(tasks, [(digest,) for digest in wanted])
    return _by_digest(wanted, found, metric_of(next(iter(tasks.values()))))


def task_changes(
    changes: Changes, task: str, metric: str, digests: Iterable[str], baseline: float
) -> dict[str, Change]:
    """Return how plans change a task's metric, by plan's digest; of 100 % none can gain.

    `baseline` is the baseline's value of the metric.
    """
    wanted, kind = list(dict.fromkeys(digests)), metric_of(metric)
    found = changes.on(task, metric, [(digest,) for digest in wanted])
    return _by_digest(wanted, found.within(kind, baseline), kind)


def _by_digest(wanted: Sequence[str], found: Losses, kind: Metric) -> dict[str, Change]:
    ends = (found.lost, found.low, found.high)
    if not kind.lower_is_better:
        ends = (-found.lost, -found.high, -found.low)
    changes = zip(wanted, *(each.tolist() for each in ends), strict=True)
    return {digest: Change(value, *_known(low, high)) for digest, value, low, high in changes}


def _known(low: float, high: float) -> tuple[float, float]:
    """Return an interval's ends, if both are known."""
    return (low, high) if isfinite(low) and isfinite(high) else (nan, nan)


def change_said(change: Change, by_ratio: bool) -> str:
    """Return a change with its interval, in points or by which share; nothing if not known."""
    if change.value != change.value:
        return ""
    say = by_share if by_ratio else lambda share: signed(100 * share)
    ends = f" ({say(change.low)} to {say(change.high)})" if change.low == change.low else ""
    return say(change.value) + ends


def by_share(change: float) -> str:
    """Return by which share a value grew: in percent, or from twice as much on how many times."""
    return f"{signed(100 * change)} %" if change < 1 else f"×{short(1 + change, 3)}"
