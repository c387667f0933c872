"""Costs, the Pareto front, and series over a parameter."""

import json
from math import nan
from statistics import median

import numpy as np
import pandas as pd
import pytest
from tables import table

from impasto.analysis.costs import (
    Priced,
    Timing,
    cost_errors,
    measured_costs,
    operations,
    pareto_front,
    priced_plans,
    relative,
    rows_cost,
    timings_of,
    trade_off,
    trade_offs,
)
from impasto.analysis.series import summed_series, task_series
from impasto.plan import Plan
from impasto.study.results.table import COSTS

LAYERS = 4
PLANS = {"0-3": 0.9, "0-2": 0.88, "0-3.mlp": 0.5, "0 3": 0.4, "0-3 3": 0.95, "0-1 2.attn 3": 0.9}


def rows(task="capitals", values=PLANS, **more):
    return [
        {"strategy": "baseline" if plan == "0-3" else "plan", "plan": plan, "task": task}
        | {"digest": Plan.parse(plan).digest, "value": value, "baseline": values["0-3"]}
        | more
        for plan, value in values.items()
    ]


def test_a_plans_cost_is_the_share_of_parts_that_it_runs():
    costs = {plan.plan: plan.cost for plan in priced_plans(table(*rows()))}
    assert costs == {
        "0-3": 100,
        "0-2": 75,
        "0-3.mlp": 50,
        "0 3": 50,
        "0-3 3": 125,
        "0-1 2.attn 3": 87.5,
    }


def test_measured_times_stand_for_counted_parts_where_there_are_any():
    digest = Plan.parse("0-2").digest
    timings = [Timing(digest, tokens, tokens / 1e4, 0, 0, 0) for tokens in (50, 100)]
    [plan] = priced_plans(table(*rows()), measured_costs(timings))
    assert (plan.plan, plan.cost, plan.unit) == ("0-2", 10, "time to one token after 100 (ms)")
    assert measured_costs([]) is None


def costs(**seconds):
    """Return measured costs of plans by line, at two lengths."""
    found = [
        dict.fromkeys(COSTS, 0) | {"plan": plan, "digest": Plan.parse(plan).digest}
        | {"tokens": tokens, "seconds": tokens * each / 1e4, "machine": "m"}
        for tokens in (50, 100)
        for plan, each in seconds.items()
    ]  # fmt: skip
    return pd.DataFrame(found, columns=list(COSTS)).astype(COSTS)


def test_the_trade_off_has_each_measured_plan_with_its_quality_and_says_which_are_beaten():
    measured = costs(**{"0-3": 1.0, "0-2": 0.8, "0-3.mlp": 0.9, "0 3": 0.4})
    assert {timing.tokens for timing in timings_of(measured)} == {50, 100}
    found = trade_off(table(*rows()), measured)
    assert found["plan"].tolist() == ["0 3", "0-2", "0-3.mlp", "0-3"]
    assert found["cost"].tolist() == pytest.approx([4, 8, 9, 10])
    assert found["front"].tolist() == [True, True, False, True]
    assert found["change"].tolist() == pytest.approx([-0.5, -0.02, -0.4, 0])
    assert set(found["unit"]) == {"time to one token after 100 (ms)"}
    assert found["seconds"].tolist() == pytest.approx([0.004, 0.008, 0.009, 0.01])


def test_without_measurements_the_trade_off_counts_parts():
    found = trade_off(table(*rows()), costs())
    assert len(found) == len(PLANS)
    assert "seconds" not in found
    assert dict(zip(found["plan"], found["cost"], strict=True))["0-2"] == 75


def test_by_tasks_at_chance_no_plan_is_on_the_front():
    poor = rows("poor", chance=0.95)
    assert not any(trade_off(table(*poor), costs())["front"])
    some = trade_off(table(*rows(), *poor), costs())
    assert some["front"].tolist() == trade_off(table(*rows()), costs())["front"].tolist()


def test_no_plan_of_the_front_is_beaten_and_every_other_is():
    rng = np.random.default_rng(0)
    priced = [
        Priced("plan", str(i), str(i), a, c, "") for i, (a, c) in enumerate(rng.random((60, 2)))
    ]
    front = pareto_front(priced)

    def beats(one, other):
        better = one.average > other.average or one.cost < other.cost
        return one.average >= other.average and one.cost <= other.cost and better

    for plan in priced:
        assert (plan in front) == (not any(beats(other, plan) for other in priced))


def test_a_freeze_saves_what_earlier_rows_need_not_run():
    assert rows_cost("0-3", 4) == 100
    assert rows_cost("0-2", 4) == 75
    assert rows_cost("0-3.mlp", 4) == 50
    assert rows_cost("0-1 freeze 2-3", 4) == pytest.approx(100 * (4 + 2 * 0.5) / 8)
    assert rows_cost("0-1 freeze 2-3.mlp", 4) == 75  # the freeze does nothing: all rows run
    assert rows_cost("0-1 noise(gaussian) 2-3", 4) == 100
    costs = [rows_cost(f"{f'0-{k - 1} ' if k else ''}freeze {k}-3", 4) for k in range(4)]
    assert costs == sorted(set(costs))


def test_operations_are_counted_where_the_models_shape_is_known():
    measured = costs(**{"0-3": 1.0, "0-2": 0.8})
    measured["flops"] = [8.0, 6.0, 80.0, 64.0]
    frame = table(*rows())
    unit, found = operations(frame, measured)
    assert unit == "operations of a prefill of 100 tokens (% of the full model's)"
    assert found == {Plan.parse("0-3").digest: 100, Plan.parse("0-2").digest: 80}
    unit, found = operations(frame, costs())
    assert unit.startswith("rows through attention parts and MLPs in a prefill")
    assert found[Plan.parse("0-2").digest] == 75


def test_a_plans_average_has_an_interval_of_all_its_tasks():
    one = {plan.plan: plan for plan in priced_plans(table(*rows()))}
    both = table(*rows(), *rows("arithmetic-2"))
    several = {plan.plan: plan for plan in priced_plans(both)}
    for plan, alone in one.items():
        assert alone.low < alone.average < alone.high
        assert alone.low < several[plan].low < several[plan].high < alone.high


def test_of_perplexities_the_lowest_is_on_the_front():
    values = {"0-3": 5.0, "0-2": 6.0, "0 3": 50.0, "0-3.mlp": 40.0, "0-1 2.attn 3": 5.5}
    frame = table(*rows(values=values, metric="perplexity", stderr=0.5))
    priced = priced_plans(frame)
    assert all(plan.lower_is_better for plan in priced)
    assert [plan.plan for plan in pareto_front(priced)] == [
        "0-3.mlp", "0-2", "0-1 2.attn 3", "0-3",
    ]  # fmt: skip
    [first, *_] = priced
    assert first.low < 5 < first.high


def test_only_tasks_above_chance_and_plans_that_could_be_used_enter():
    poor = rows("poor", chance=0.95)
    study = table(*rows(), *poor, *noisy())
    measured = operations(study, costs())
    [trade] = trade_offs(study, measured)
    assert trade.left_out == ("Capitals",)  # the poor task has the same title
    assert set(trade.tasks.frame["task"]) == {"capitals"}
    assert trade.studied == ("gaussian",)
    assert {plan.family for plan in trade.priced} == {"baseline", "plan"}
    [none] = trade_offs(table(*poor), measured)
    assert none.priced == []


def noisy():
    lines = {"0-1 noise(gaussian) 2-3": 0.4, "0-3 noise(gaussian)": 0.9}
    return [row | {"strategy": "gaussian"} for row in rows(values={"0-3": 0.9} | lines)[1:]]


def test_costs_relative_to_the_full_model_are_in_percent_of_it():
    timings = [
        Timing(Plan.parse(plan).digest, 50, seconds, 0.001, 0, 0)
        for plan, seconds in (("0-3", 0.02), ("0-2", 0.015))
    ]
    priced = priced_plans(table(*rows()), measured_costs(timings), cost_errors(timings))
    found = {plan.plan: (plan.cost, plan.cost_error) for plan in relative(priced)}
    assert found["0-3"] == pytest.approx((100, 5))
    assert found["0-2"] == pytest.approx((75, 5))
    assert relative([plan for plan in priced if plan.plan == "0-2"]) == []


def families(tasks):
    found = []
    for task, (chance, baseline) in tasks.items():
        for n, value in ((1, 0.5), (2, 0.7)):
            for seed in (0, 1):
                parameters = {"strategy": "random_order", "parameters": json.dumps({"n": n})}
                found.append(
                    {"task": task, "title": task.upper(), "chance": chance, "baseline": baseline}
                    | {"value": value + 0.02 * seed, "seed": seed, "plan": "0-3"}
                    | {"digest": f"{n} {seed}", **parameters}
                )
    return table(*found)


TASKS = {"a": (0.1, 0.9), "b": (0.25, 0.8), "c": (0.0, 0.95), "low": (0.5, 0.4)}


def test_a_series_is_the_mean_over_seeds_for_each_task():
    found = {one.task: one for one in task_series(families(TASKS), "n", "value")}
    assert found.keys() == TASKS.keys()
    assert found["a"].seeds == 2
    assert {n: point.value for n, point in found["a"].points.items()} == pytest.approx(
        {1: 0.51, 2: 0.71}
    )
    assert found["a"].points[1].plans == ("1 0", "1 1")


def test_a_summed_series_is_the_median_of_the_tasks_that_can_be_judged():
    [one] = summed_series(families(TASKS), "n", "median")
    assert one.tasks == 3  # the full model of the fourth is below chance
    expected = median(
        (0.51 - chance) / (full - chance) for chance, full in list(TASKS.values())[:3]
    )
    assert one.points[1].value == pytest.approx(expected)
    assert one.points[1].low < expected < one.points[1].high
    [average] = summed_series(families(TASKS), "n", "average")
    assert (average.tasks, average.points[2].value) == (4, pytest.approx(0.71))


def test_a_task_without_a_value_is_left_out():
    frame = families({"a": (0.1, 0.9), "b": (0.1, 0.9)})
    frame.loc[(frame["task"] == "b") & (frame["seed"] == 1), "value"] = nan
    [one] = summed_series(frame, "n", "median")
    assert one.tasks == 1
