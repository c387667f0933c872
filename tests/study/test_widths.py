"""How wide the interval of a change is, and that stopping at a width leaves intervals honest."""

from math import inf, sqrt
from typing import Any

import numpy as np
import pytest
from scipy import stats

from impasto.study.work.precision import (
    FIRST,
    GROWTH,
    PERCENT,
    POINTS,
    Measured,
    half_width,
    jackknife_half_width,
    measured,
    most_asked,
)
from impasto.tasks import Estimate, Precision, Suite, capitals
from impasto.tasks.masked_text import MaskedTexts, TextItem
from impasto.tasks.task import mean


class Asked:
    """A task whose items need no model."""

    part_of, digest = "", "d"

    def __init__(self, name, items, part_of=""):
        self.name = self.title = name
        self.items, self.part_of = range(items), part_of

    def aggregate(self, metric, values):
        return mean(values)


class Summed:
    """A group that weights its tasks by their sizes, or not."""

    title, part_of = "Both", ""

    def __init__(self, name="both", by_size=True):
        self.name, self.by_size = name, by_size

    def aggregate(self, estimates):
        sizes = {task: found["acc"].n if self.by_size else 1 for task, found in estimates.items()}
        total = sum(sizes.values())
        value = sum(sizes[task] * found["acc"].value for task, found in estimates.items()) / total
        return {"acc": Estimate(value, 0.0, sum(found["acc"].n for found in estimates.values()))}


def alone(items=1000, within=0.02, at_most=None):
    tasks: Any = [Asked("t", items)]
    return Measured("t", Precision(within, at_most), tasks, None)


def test_the_interval_is_bonett_and_prices_for_shares():
    differences = [-1.0] * 12 + [1.0] * 5 + [0.0] * 83
    lost, gained, n = 13, 6, 102
    change = (gained - lost) / n
    expected = 1.959964 * sqrt(((lost + gained) / n - change**2) / n)
    assert half_width(differences, 1.0) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("within", [0.01, 0.02, 0.05, 0.5])
def test_no_first_round_could_be_too_small_where_nothing_changes(within):
    measure = alone(10**6, within)
    first = measure.first()
    assert first >= FIRST
    assert half_width([0.0] * first, 1.0) <= within
    assert first == FIRST or half_width([0.0] * (first - 1), 1.0) > within


def test_a_round_is_sized_by_the_widest_interval_and_grows_only_so_far():
    measure = alone(10_000)
    assert measure.next(200, 0.024) == pytest.approx(200 * 1.2**2 * 1.05, abs=5)
    assert measure.next(200, 0.5) == measure.next(200, inf) == 200 * GROWTH
    assert measure.next(200, 0.02000001) == 211
    assert measure.next(9_990, 0.5) == 10_000
    assert alone(10_000, at_most=300).next(200, 0.5) == 300
    assert measure.next(20, 0.0201) == 28  # as few as a shard has


def test_shares_are_in_points_and_other_numbers_in_percent_of_the_baselines_value():
    old = {"t": [1.0] * 50 + [0.0] * 50}
    new = {"t": [1.0] * 40 + [0.0] * 60}
    points = alone().width("acc", old, new)
    assert points.unit == POINTS
    assert points.half == pytest.approx(half_width([-1.0] * 10 + [0.0] * 90, 1.0))
    nats = alone().width("nats", *({"t": [40 * v + 10 for v in told["t"]]} for told in (old, new)))
    assert nats.unit == PERCENT
    assert nats.half == pytest.approx(40 * points.half / 30)


def test_an_unbounded_metric_that_did_not_change_is_not_known_at_once():
    same = {"t": [3.0] * 30}
    assert alone().width("nats", same, same).half == pytest.approx(1.96 * sqrt(2) / 32, rel=1e-3)
    assert alone().width("nats", {"t": []}, {"t": []}).half == inf


def test_a_perplexitys_interval_is_near_the_delta_methods():
    rng = np.random.default_rng(0)
    texts = tuple(TextItem(str(i), "a") for i in range(800))
    measure = Measured("masked_text", Precision(0.02), [MaskedTexts(texts)], None)
    tokens = rng.integers(5, 60, 800)
    log_p = -tokens * rng.gamma(20, 0.1, 800)
    worse = log_p - tokens * rng.gamma(2, 0.05, 800)
    old, new = (
        {"masked_text": list(zip(told.tolist(), tokens.tolist(), strict=True))}
        for told in (log_p, worse)
    )
    found = measure.width("pseudo_perplexity", old, new)
    assert found.unit == PERCENT
    values = [np.exp(-told.sum() / tokens.sum()) for told in (log_p, worse)]
    slopes = [
        -value * (told - tokens * told.sum() / tokens.sum()) / tokens.mean()
        for value, told in zip(values, (log_p, worse), strict=True)
    ]
    error = (slopes[1] - slopes[0]).std(ddof=1) / sqrt(800)
    assert found.half == pytest.approx(1.96 * error / values[0], rel=0.4)
    assert measure.width("pseudo_perplexity", old, old).half > 0


def test_the_jackknife_of_a_mean_is_the_means_interval():
    values = np.random.default_rng(1).normal(size=20)
    without = [float(np.delete(values, i).mean()) for i in range(20)]
    expected = stats.t.ppf(0.975, 19) * stats.sem(values)
    assert jackknife_half_width(without) == pytest.approx(expected)
    assert jackknife_half_width([1.0, inf]) == inf


@pytest.mark.parametrize("by_size", [True, False])
def test_a_groups_interval_is_of_its_own_score(by_size):
    group: Any = Summed(by_size=by_size)
    tasks: Any = [Asked("a", 300, "both"), Asked("b", 100, "both")]
    suite = Suite(tuple(tasks), (group,), {"both": Precision(0.02)})
    [measure] = measured(suite)
    assert measure.shared_out(200) == {"a": 150, "b": 50}
    rng = np.random.default_rng(2)
    old = {name: rng.integers(0, 2, n).tolist() for name, n in (("a", 300), ("b", 100))}
    new = {name: rng.integers(0, 2, len(values)).tolist() for name, values in old.items()}
    errors = {name: stats.sem(np.subtract(new[name], old[name])) for name in old}
    weights = {"a": 0.75, "b": 0.25} if by_size else {"a": 0.5, "b": 0.5}
    expected = 1.96 * sqrt(sum((weights[name] * errors[name]) ** 2 for name in old))
    assert measure.main_metric({"a": {"acc": 0.0}, "b": {"acc": 0.0}}) == "acc"
    assert measure.width("acc", old, new).half == pytest.approx(expected, rel=0.03)


def test_what_may_be_asked_is_bounded_task_by_task():
    group: Any = Summed()
    tasks: Any = (Asked("a", 300, "both"), Asked("b", 100, "both"), Asked("c", 50))
    suite = Suite(tasks, (group,), {"both": Precision(0.02, 120)})
    assert most_asked(suite) == {"a": 120, "b": 100, "c": 50}
    [measure] = measured(suite)
    assert measure.most == 220
    assert measure.shared_out(220) == {"a": 120, "b": 100}


@pytest.mark.parametrize(("lost", "gained"), [(0.02, 0.0), (0.05, 0.05), (0.3, 0.1), (0.5, 0.0)])
def test_intervals_are_nearly_honest_where_one_stops_by_their_width(lost, gained):
    """Repeated two thousand times, about 95 % of the intervals hold the true change."""
    rng = np.random.default_rng(0)
    measure, held = alone(100_000, within=0.04), 0
    for _ in range(2000):
        drawn = rng.choice([-1.0, 1.0, 0.0], p=[lost, gained, 1 - lost - gained], size=3000)
        n = measure.first()
        while (half := half_width(drawn[:n].tolist(), 1.0)) > 0.04:
            n = measure.next(n, half)
        held += bool(abs(drawn[:n].sum() / (n + 2) - (gained - lost)) <= half)
    assert 0.935 <= held / 2000 <= 1


def test_the_drawn_order_holds_every_smaller_sample():
    drawn = capitals().drawn(seed=7)
    for limit in (1, 9, 100):
        first = {item.id for item in drawn.items[:limit]}
        assert first == {item.id for item in capitals(limit=limit, seed=7).items}
    question = drawn.items[0]
    assert drawn.donor_of(question) == capitals().donor_of(question)
