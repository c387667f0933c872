"""Putting the front's plans to tasks, on questions that the search never saw.

What was chosen among thousands looks better than it is on the questions that chose it. So each plan
of the front is compared with the full model once more, item by item, on other questions; and since
there are several plans and tasks, the p values are corrected for all of these comparisons by Holm's
method (*Scandinavian Journal of Statistics* 6, 1979). It holds however the comparisons depend on
each other and needs no resampling; a maxT by resampling would gain little where a front's plans are
a dozen. Right and wrong answers are compared by McNemar's test with the mid p value (Fagerland,
Lydersen, Laake, *BMC Medical Research Methodology* 13, 2013), which is less cautious than the exact
test and keeps its level; other items by Student's t.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf
from typing import Any

import numpy as np
import yaml
from scipy import stats

from impasto.analysis.items import Key, item_scores
from impasto.analysis.paired import Differences
from impasto.plan import Plan
from impasto.searching.file import WrittenSearch
from impasto.searching.found import Confirmed
from impasto.study import Results, Study
from impasto.tasks.metrics import main_metric, metric_of

LEVEL = 0.05
MOST = 12  # plans of the front that are confirmed
HOLDS, COLLAPSES = 0.95, 0.5  # of what the full model scores above chance


def confirming_study(search: WrittenSearch, model: str, plans: Sequence[Plan]) -> Study:
    """Return the study that puts plans to the tasks that a search is confirmed by."""
    content: dict[str, Any] = {
        "name": f"{search.name}-confirm",
        "model": model,
        "tasks": [entry.written() for entry in search.confirm],
        "plans": list(dict.fromkeys(map(str, plans))),
    }
    if search.load:
        content["load"] = dict(search.load)
    return Study.from_text(yaml.safe_dump(content, sort_keys=False))


def some_of(front: Sequence[Plan], best: Plan, full: Plan, most: int = MOST) -> list[Plan]:
    """Return the best plan and so many of the front's, evenly from the cheapest to the dearest.

    The full model is none of them.
    """
    others = [plan for plan in front if plan not in (best, full)]
    places = np.unique(np.linspace(0, len(others) - 1, min(most - 1, len(others))).round())
    return [best, *(others[int(at)] for at in places)]


def compared(
    results: Results,
    plans: Sequence[Plan],
    seen: Mapping[str, frozenset[str]],
) -> list[Confirmed]:
    """Return every plan on every task against the full model, corrected for all of them.

    Args:
        results: What the plans and the full model answered.
        plans: The plans; the full model is none of them.
        seen: By task, the items that chose the plans, which do not count.
    """
    found = [
        one
        for task, metric, records in _by_task(results, seen)
        for one in _on_task(results, task, metric, item_scores(records), plans, _kind_of(records))
    ]
    corrected = holm([one.p for one in found])
    return [replace(one, corrected=p) for one, p in zip(found, corrected, strict=True)]


def mid_p(lost: int, gained: int) -> float:
    """Return the two-sided mid p value of McNemar's test for so many lost and gained items.

    It is the exact test's, less half of the probability of what was seen (Fagerland and others,
    2013, equation 5); 1 where nothing tells the two apart.
    """
    fewer, apart = min(lost, gained), lost + gained
    if lost == gained:
        return 1.0 if not apart else float(1 - stats.binom.pmf(fewer, apart, 0.5) / 2)
    tail = stats.binom.cdf(fewer, apart, 0.5)
    return float(min(1.0, 2 * tail - stats.binom.pmf(fewer, apart, 0.5)))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p values corrected for how many there are, by Holm's method."""
    count = len(p_values)
    corrected, least = [0.0] * count, 0.0
    for rank, at in enumerate(sorted(range(count), key=lambda at: p_values[at])):
        least = max(least, min(1.0, (count - rank) * p_values[at]))
        corrected[at] = least
    return corrected


def _by_task(
    results: Results, seen: Mapping[str, frozenset[str]]
) -> Iterator[tuple[str, str, list[Mapping[str, Any]]]]:
    """Yield each task with its main metric and the records that count."""
    records: dict[str, list[Mapping[str, Any]]] = {}
    for record in results.answers:
        if record["item"] not in seen.get(record["task"], ()):
            records.setdefault(record["task"], []).append(record)
    for task, some in records.items():
        metric = main_metric(dict.fromkeys(m for record in some[:1] for m in record["metrics"]))
        if metric is not None:
            yield task, metric, some


def _kind_of(records: Sequence[Mapping[str, Any]]) -> str:
    """Return whether a task's answers are written or given."""
    written = all(isinstance(said, str) for record in records for said in record["responses"])
    return "generation" if written else "choice"


def _on_task(
    results: Results,
    task: str,
    metric: str,
    scores: Mapping[Key, np.ndarray],
    plans: Sequence[Plan],
    kind: str,
) -> Iterator[Confirmed]:
    """Yield what each plan scores on one task beside the full model."""
    layers = int(results.table["layers"].iloc[0])
    baseline = scores.get((task, Plan.identity(layers).digest, metric))
    there = [plan for plan in plans if (task, plan.digest, metric) in scores]
    if baseline is None or not there:
        return
    title = str(results.table.loc[results.table["task"] == task, "title"].iloc[0])
    meaning = metric_of(metric)
    items = [_more_is_better(metric, scores[task, plan.digest, metric]) for plan in there]
    theirs, weights = _more_is_better(metric, baseline)
    reach = meaning.high - meaning.low if meaning.is_bounded else inf
    differences = Differences.of(theirs, [each for each, _ in items], reach, weights)
    low, high = differences.interval()
    p_values = differences.p_values()
    for at, plan in enumerate(there):
        p = float(p_values[at])
        if differences.is_binary[at]:
            p = mid_p(int(differences.lost[at]), int(differences.gained[at]))
        difference, ends = float(differences.mean[at]), (float(low[at]), float(high[at]))
        yield Confirmed(
            plan=plan,
            task=task,
            title=title,
            metric=metric,
            value=_as_metric(metric, float(np.average(items[at][0], weights=weights))),
            baseline=_as_metric(metric, float(np.average(theirs, weights=weights))),
            n=len(theirs),
            difference=difference,
            low=ends[0],
            high=ends[1],
            p=p if p == p else 1.0,
            corrected=1.0,
            kind=kind,
        )


def _more_is_better(metric: str, items: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """Return items of which more is better, and their weights where they have any."""
    if items.ndim == 2:  # log p of how many tokens
        sign = -1.0 if metric == "kl" else 1.0
        return sign * items[:, 0] / items[:, 1], items[:, 1]
    lower = metric_of(metric).lower_is_better
    return (-items if lower else items), None


def _as_metric(metric: str, mean: float) -> float:
    """Return the metric's value of a mean of which more is better: of log p the perplexity."""
    if not metric_of(metric).lower_is_better:
        return mean
    return float(np.exp(-mean)) if metric.split(",")[0].endswith("perplexity") else -mean


@dataclass(frozen=True)
class _Side:
    """How much of what the full model scores above chance a plan keeps, on tasks of one kind."""

    kept: float
    titles: tuple[str, ...]
    is_clear: bool


def collapsed(confirmed: Sequence[Confirmed], chances: Mapping[str, float]) -> Iterator[str]:
    """Yield a sentence on each plan whose choices hold while what it writes collapses.

    `chances` says by task what guessing scores.
    """
    for plan in dict.fromkeys(one.plan for one in confirmed):
        mine = [one for one in confirmed if one.plan == plan]
        choice, written = (_side(mine, kind, chances) for kind in ("choice", "generation"))
        if choice is None or written is None:
            continue
        if choice.kept >= HOLDS and written.kept < COLLAPSES and written.is_clear:
            yield (
                f"{plan} keeps {_percent(choice.kept)} of what the full model scores above chance "
                f"where it chooses among given answers ({', '.join(choice.titles)}), but only "
                f"{_percent(written.kept)} where it writes them ({', '.join(written.titles)}): "
                "its generation has collapsed"
            )


def _side(mine: Sequence[Confirmed], kind: str, chances: Mapping[str, float]) -> _Side | None:
    some = [one for one in mine if one.kind == kind and metric_of(one.metric).is_bounded]
    above = [(one, one.baseline - _chance(chances, one.task)) for one in some]
    above = [(one, room) for one, room in above if room > 0]
    if not above:
        return None
    kept = float(np.mean([1 + one.difference / room for one, room in above]))
    clear = any(one.corrected < LEVEL and one.difference < 0 for one, _ in above)
    return _Side(kept, tuple(one.title for one, _ in above), clear)


def _chance(chances: Mapping[str, float], task: str) -> float:
    chance = chances.get(task, 0.0)
    return chance if chance == chance else 0.0


def _percent(share: float) -> str:
    return f"{100 * max(share, 0.0):.0f} %"
