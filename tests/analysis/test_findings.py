"""Sentences from tables: each states the numbers of its table."""

import pandas as pd
import pytest

from impasto.analysis import depth_curves, findings

CHANCE, BASELINE = 0.1, 0.98


def rows(strategy, values, seed=None, metric="exact_match", baseline=BASELINE, **more):
    return [
        {
            "study": "s",
            "model": "demo",
            "layers": 4,
            "task": "capitals",
            "title": "Capitals",
            "part_of": "",
            "strategy": strategy,
            "k": k,
            "seed": seed,
            "parameters": "{}",
            "plan": "0-3",
            "digest": "d",
            "metric": metric,
            "value": value,
            "stderr": 0.01,
            "n": 194,
            "chance": CHANCE,
            "baseline": baseline,
        }
        | more
        for k, value in values.items()
    ]


def table(*parts):
    frame = pd.DataFrame([row for part in parts for row in part])
    return frame.astype({"k": "Int64", "seed": "Int64"})


def test_a_sentence_names_manipulation_task_depth_and_baseline():
    frame = table(rows("freeze", {0: 0.1, 1: 0.4, 2: 0.7, 3: 0.97, 4: 0.98}))
    assert findings(frame) == [
        "Capitals: freezing earlier tokens stops mattering at depth 3 of 4: from there accuracy "
        "stays within 5 points of the baseline's 98 %; at depth 2 it is 70 %."
    ]


def test_the_critical_depth_is_that_of_the_mean_over_seeds():
    frame = table(
        rows("gaussian", {0: 0.1, 1: 0.92, 2: 0.98}, seed=0),
        rows("gaussian", {0: 0.1, 1: 0.98, 2: 0.98}, seed=1),
    )
    [curve] = depth_curves(frame)
    assert curve.mean[1] == pytest.approx(0.95)
    assert curve.low[1] < 0.92 < 0.98 < curve.high[1]
    assert curve.seeds == 2
    [sentence] = findings(frame)
    assert "stops mattering at depth 1 of 4" in sentence
    assert "mean of 2 seeds" in sentence


def test_a_manipulation_that_never_matters_is_said_to_never_matter():
    [sentence] = findings(table(rows("shuffle", {0: 0.96, 2: 0.97, 4: 0.98})))
    assert "never matters" in sentence


def test_a_manipulation_that_always_matters_is_said_to_matter_to_the_end():
    [to_the_end] = findings(table(rows("freeze", {2: 0.1, 3: 0.2, 4: 0.98})))
    assert "matters up to the last layer" in to_the_end
    [at_every_depth] = findings(table(rows("freeze", {1: 0.1, 2: 0.2})))
    assert "matters at every depth that was run" in at_every_depth
    assert "20 %" in at_every_depth


def test_a_model_at_chance_is_not_judged():
    [sentence] = findings(table(rows("freeze", {0: 0.1, 1: 0.12}, baseline=0.12)))
    assert "cannot be judged" in sentence
    assert "hardly above chance" in sentence


def test_without_a_chance_level_a_baseline_near_nothing_is_not_judged():
    nothing = rows("freeze", {0: 0.0, 1: 0.03}, metric="rougeL", baseline=0.03, chance=float("nan"))
    [sentence] = findings(table(nothing))
    assert "cannot be judged" in sentence


def test_injection_is_told_by_where_the_injected_answer_wins_and_where_it_leaves_no_trace():
    frame = table(
        rows("inject", {0: 0.0, 1: 0.3, 2: 0.9, 3: 0.96, 4: 0.98}, metric="answers_original"),
        rows("inject", {0: 0.9, 1: 0.6, 2: 0.1, 3: 0.0, 4: 0.0}, metric="answers_injected"),
    )
    [sentence] = findings(frame)
    assert "more often than the original up to depth 1 of 4 (at most 90 %)" in sentence
    assert "from depth 3 on the original answer is untouched" in sentence


def test_a_written_plan_is_told_by_its_line():
    [row] = rows("plan", {None: 0.5}, plan="0-1 [2-3]")
    assert findings(table([row])) == ["Capitals: 0-1 [2-3] has accuracy 50 %, the baseline 98 %."]


def test_the_baseline_alone_has_no_finding():
    assert findings(table(rows("baseline", {None: BASELINE}))) == []


def test_a_benchmark_is_told_by_its_main_metric_alone():
    accuracy = rows("freeze", {0: 0.1, 1: 0.98}, metric="acc_norm")
    frame = table(rows("freeze", {0: 0.5, 1: 0.6}, metric="acc"), accuracy)
    [sentence] = findings(frame)
    assert "from there accuracy stays within 5 points of the baseline's 98 %" in sentence
    assert "at depth 0 it is 10 %" in sentence


def test_a_filters_name_is_said():
    metric = "exact_match,strict-match"
    [sentence] = findings(table(rows("skip", {None: 0.5}, metric=metric)))
    assert sentence == ("Capitals: skip has accuracy (strict-match) 50 %, the baseline 98 %.")


def test_perplexity_is_a_number_and_no_share():
    skip = {None: 91.25}
    frame = table(rows("skip", skip, metric="word_perplexity", baseline=8.5, chance=float("nan")))
    assert findings(frame) == ["Capitals: skip has perplexity per word 91.25, the baseline 8.5."]


def test_a_group_speaks_for_its_tasks():
    frame = table(
        rows("skip", {None: 0.2}, metric="acc", part_of="mmlu"),
        rows("skip", {None: 0.5}, metric="acc", task="mmlu", title="MMLU"),
    )
    assert findings(frame) == ["MMLU: skip has accuracy 50 %, the baseline 98 %."]
