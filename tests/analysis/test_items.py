"""From a study's table and records: every plan against the baseline, and critical depths."""

from dataclasses import asdict

import numpy as np
import pytest

from analysis.tables import records, table
from impasto.analysis import (
    compare,
    comparisons,
    critical_depth_interval,
    critical_depths,
    item_scores,
)

RNG = np.random.default_rng(3)
N = 200
RIGHT = RNG.random(N) < 0.9
WORSE = RIGHT & (RNG.random(N) < 0.8)


def base(**changes):
    return {"strategy": "baseline", "digest": "b", "value": RIGHT.mean(), **changes}


def test_scores_are_arrays_by_task_plan_and_metric():
    scores = item_scores(records("t", "b", acc=[True, False], ppl=[-1.5, -2.5], pair=[[1], [2]]))
    assert {key: list(values) for key, values in scores.items()} == {
        ("t", "b", "acc"): [1, 0],
        ("t", "b", "ppl"): [-1.5, -2.5],
    }


def test_plans_that_were_put_to_other_items_are_not_paired():
    other = records("t", "p", acc=[1, 0, 1])
    with pytest.raises(ValueError, match="other items"):
        item_scores(records("t", "b", acc=[1, 0]) + other)


def test_every_plan_is_compared_with_the_baseline_on_every_metric():
    values = RNG.random(N)
    kept = records("capitals", "b", exact_match=RIGHT.tolist(), f1=values.tolist())
    kept += records("capitals", "p", exact_match=WORSE.tolist(), f1=(values / 2).tolist())
    metrics = ("exact_match", "f1")
    frame = table(
        *(base(metric=m) for m in metrics), *({"digest": "p", "metric": m} for m in metrics)
    )
    right, words = comparisons(frame, kept).to_dict(orient="records")
    assert right["test"] == "mcnemar"
    assert asdict(compare(RIGHT, WORSE)).items() <= right.items()
    assert words["test"] == "bootstrap"
    assert words["mean"] == pytest.approx(words["baseline_mean"] / 2)
    assert words["low"] < words["difference"] < words["high"] < 0


def test_a_plan_that_injects_is_compared_with_the_baselines_own_answers():
    kept = records("capitals", "b", exact_match=RIGHT.tolist())
    kept += records("capitals", "p", answers_original=WORSE.tolist(), answers_injected=[False] * N)
    metrics = ("answers_original", "answers_injected")
    frame = table(base(), *({"digest": "p", "metric": m} for m in metrics))
    [found] = comparisons(frame, kept).to_dict(orient="records")
    assert (found["metric"], found["lost"]) == ("answers_original", int((RIGHT & ~WORSE).sum()))


def test_a_group_pools_the_items_of_its_tasks_where_its_score_is_their_mean():
    tasks = {"law": slice(0, 150), "art": slice(150, N)}
    kept, rows = [], []
    for digest, values in (("b", RIGHT), ("p", WORSE)):
        strategy = {"strategy": "baseline" if digest == "b" else "skip", "digest": digest}
        for task, part in tasks.items():
            kept += records(task, digest, acc=values[part].tolist())
            rows.append(strategy | {"task": task, "part_of": "mmlu", "metric": "acc"})
        for group, value in (("mmlu", values.mean()), ("other", 0.123)):
            above = "all" if group == "mmlu" else ""
            rows.append(
                strategy | {"task": group, "part_of": above, "metric": "acc", "value": value}
            )
        rows.append(strategy | {"task": "all", "metric": "acc", "value": 0.5})
    found = comparisons(table(*rows), kept).set_index("task")
    assert list(found.index) == ["law", "art", "mmlu"]  # all has another value, other no tasks
    assert found.loc["mmlu", "n"] == N
    assert found.loc["mmlu", "difference"] == pytest.approx(WORSE.mean() - RIGHT.mean())


def test_a_table_without_a_baseline_has_nothing_to_compare_with():
    with pytest.raises(ValueError, match="no baseline"):
        comparisons(table({}), [])


def curve_items():
    """Return items of a curve that returns to the baseline between depth 2 and 3."""
    spared = RNG.random(N)
    return {k: RIGHT & (spared < share) for k, share in enumerate((0.1, 0.5, 0.93, 0.99, 1.0))}


def test_the_critical_depths_interval_holds_it_and_narrows_with_clear_curves():
    items = curve_items()
    low, high = critical_depth_interval(items, RIGHT)
    assert low is not None
    assert high is not None
    assert 2 <= low <= high <= 3
    clear = {0: RIGHT & False, 1: RIGHT, 2: RIGHT}
    assert critical_depth_interval(clear, RIGHT) == (1, 1)
    assert critical_depth_interval({0: WORSE & False}, RIGHT) == (None, None)


def test_a_resample_without_a_critical_depth_counts_as_deeper_than_any():
    almost = RIGHT & (np.arange(N) % 20 > 0)  # about five points below
    low, high = critical_depth_interval({4: almost, 5: almost}, RIGHT)
    assert (low, high) == (4, None)


def test_items_are_drawn_alike_at_all_depths():
    hard = RNG.random(N) < 0.5  # accuracy varies a lot between resamples, the difference not
    assert critical_depth_interval({0: hard, 1: hard}, hard, tolerance=0.0) == (0, 0)


def test_other_numbers_of_items_are_refused():
    with pytest.raises(ValueError, match="as many items"):
        critical_depth_interval({0: [1, 0]}, [1, 0, 1])


def test_the_tables_critical_depths_have_intervals_and_seeds_are_averaged():
    items = curve_items()
    kept, rows = records("capitals", "b", exact_match=RIGHT.tolist()), [base()]
    for k, values in items.items():
        for seed in (0, 1):
            digest = f"g{k}{seed}"
            drawn = values if seed == 0 else RIGHT & (RNG.random(N) < values.mean() / RIGHT.mean())
            kept += records("capitals", digest, exact_match=drawn.tolist())
            own = {"strategy": "gaussian", "k": k, "seed": seed, "digest": digest}
            rows.append(own | {"value": drawn.mean(), "baseline": RIGHT.mean()})
    frame = table(*rows)
    [found] = critical_depths(frame, kept).to_dict(orient="records")
    assert (found["strategy"], found["n"]) == ("gaussian", N)
    assert found["low"] <= found["critical"] <= found["high"]
    assert critical_depths(frame.assign(baseline=3.5), kept).empty  # a perplexity is no mean
