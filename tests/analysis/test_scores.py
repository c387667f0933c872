"""Normalised scores, their median and averages over tasks, as papers B and C report them."""

from math import isnan, nan

import pytest

from analysis.tables import table
from impasto.analysis import main_metric, normalised_score, over_tasks, task_scores


@pytest.mark.parametrize(
    ("value", "chance", "full", "score"),
    [
        (0.25, 0.25, 0.75, 0.0),
        (0.75, 0.25, 0.75, 1.0),
        (0.5, 0.25, 0.75, 0.5),
        (0.0, 0.25, 0.75, -0.5),
        (0.85, 0.25, 0.75, 1.2),
    ],
)
def test_the_normalised_score_is_0_at_chance_and_1_for_the_full_model(value, chance, full, score):
    assert normalised_score(value, chance, full) == pytest.approx(score)


@pytest.mark.parametrize(("chance", "full"), [(0.25, 0.25), (0.25, 0.2), (nan, 0.9), (0.1, nan)])
def test_where_the_full_model_is_at_chance_nothing_is_judged(chance, full):
    assert isnan(normalised_score(0.5, chance, full))


@pytest.mark.parametrize(
    ("metrics", "main"),
    [
        (["acc", "acc_norm"], "acc_norm"),
        (["perplexity", "acc"], "acc"),
        (["exact_match,strict-match", "exact_match,flexible-extract"], "exact_match,strict-match"),
        (["exact_match", "f1"], "exact_match"),
        (["rouge1", "rougeL"], "rougeL"),
        (["word_perplexity", "bits_per_byte"], "word_perplexity"),
        (["rmse"], None),
        ([], None),
    ],
)
def test_every_task_has_one_main_metric_and_shares_come_first(metrics, main):
    assert main_metric(metrics) == main


def study():
    """Return a study of a plan and the baseline on three tasks, one of them a group of two."""
    values = {  # task, part of, metric: baseline, plan, chance
        ("arc", "", "acc"): (0.4, 0.3, 0.2),
        ("arc", "", "acc_norm"): (0.45, 0.35, 0.25),
        ("lambada", "", "acc"): (0.7, 0.1, 0.0),
        ("lambada", "", "perplexity"): (3.5, 90.0, nan),
        ("mmlu", "", "acc"): (0.5, 0.35, 0.25),
        ("law", "mmlu", "acc"): (0.6, 0.1, 0.25),
        ("art", "mmlu", "acc"): (0.4, 0.6, 0.25),
        ("wikitext", "", "word_perplexity"): (8.0, 11.0, nan),
        ("news", "", "rougeL"): (0.3, 0.1, nan),
    }
    rows = []
    for (task, part_of, metric), (full, found, chance) in values.items():
        own = {"task": task, "part_of": part_of, "metric": metric, "chance": chance}
        rows.append(own | {"strategy": "baseline", "digest": "b", "value": full, "baseline": full})
        rows.append(own | {"strategy": "skip", "digest": "p", "value": found, "baseline": full})
    return table(*rows)


def test_the_numbers_over_tasks_take_each_tasks_main_metric():
    baseline, plan = over_tasks(study()).to_dict(orient="records")
    assert (plan["tasks"], plan["judged"]) == (4, 3)  # a summary has no chance level
    assert plan["average"] == pytest.approx((0.35 + 0.1 + 0.35 + 0.1) / 4)
    assert plan["change"] == pytest.approx(plan["average"] - baseline["average"])
    assert plan["median_normalised"] == pytest.approx(0.4)  # of 0.5, 1/7 and 0.4
    assert (baseline["change"], baseline["median_normalised"]) == (0, 1)


def test_another_metric_can_be_chosen():
    rows = task_scores(study(), {"arc": "acc", "lambada": "perplexity"})
    arc = rows[(rows["task"] == "arc") & (rows["strategy"] == "skip")]
    assert list(arc["metric"]) == ["acc"]
    assert list(arc["normalised"]) == pytest.approx([0.5])
    with pytest.raises(ValueError, match="no 'f1' of 'arc'; it has acc, acc_norm"):
        over_tasks(study(), {"arc": "f1"})
    with pytest.raises(ValueError, match="there is no such task"):
        over_tasks(study(), {"law": "acc"})


def test_a_plan_is_told_from_another_by_its_depth_and_seed():
    frame = table(*({"strategy": "freeze", "k": k, "value": k / 10} for k in range(3)))
    assert list(over_tasks(frame)["average"]) == pytest.approx([0, 0.1, 0.2])
