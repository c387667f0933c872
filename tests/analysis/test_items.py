"""From a study's table and records: every plan against the baseline, item by item."""

import time
from dataclasses import asdict

import numpy as np
import pytest

from analysis.tables import records, table
from impasto.analysis import compare, comparisons, item_scores

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


def test_log_p_of_so_many_words_are_pairs():
    scores = item_scores(records("t", "b", word_perplexity=[(-30.0, 10), [-20.0, 5]]))
    assert scores["t", "b", "word_perplexity"].tolist() == [[-30, 10], [-20, 5]]
    assert item_scores(records("t", "b", f1=[(1, 0), (0, 1)])) == {}


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
    assert words["test"] == "t"
    assert asdict(compare(values, values / 2, reach=1)).items() <= words.items()
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


def test_a_thousand_plans_on_a_thousand_items_take_seconds():
    answers = {f"p{i}": RIGHT & (RNG.random(N) < 0.97) for i in range(1000)} | {"b": RIGHT}
    scores = {
        ("capitals", d, "exact_match"): np.resize(right, 1000) * 1.0 for d, right in answers.items()
    }
    rows = [base(), *({"digest": f"p{i}", "value": 0.5} for i in range(1000))]
    frame = table(*rows)
    start = time.perf_counter()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("impasto.analysis.items.item_scores", lambda records: scores)
        assert len(comparisons(frame, [])) == 1000
    assert time.perf_counter() - start < 5
