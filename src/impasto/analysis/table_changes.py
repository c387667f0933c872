"""By how much plans change tasks and their average, as tables say it: more is a plus."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite, nan
from typing import Any

import pandas as pd

from impasto.analysis.changes import Changes
from impasto.analysis.items import item_scores
from impasto.tasks.metrics import metric_of

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
    kind = metric_of(next(iter(tasks.values())))
    ends = (found.lost, found.low, found.high)
    if not kind.lower_is_better:
        ends = (-found.lost, -found.high, -found.low)
    changes = zip(wanted, *(each.tolist() for each in ends), strict=True)
    return {digest: Change(value, *_known(low, high)) for digest, value, low, high in changes}


def _known(low: float, high: float) -> tuple[float, float]:
    """Return an interval's ends, if both are known."""
    return (low, high) if isfinite(low) and isfinite(high) else (nan, nan)
