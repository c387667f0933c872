"""By how much plans change the average over tasks, as tables say it."""

from math import isnan, nan

import pytest
from tables import records, table

from impasto.analysis.table_changes import average_changes

CAPITALS = {"capitals": "exact_match"}


def study(metric="exact_match", value=0.8, baseline=0.9, task="capitals", stderr=0.03):
    return table(
        {"strategy": "baseline", "digest": "b", "value": baseline, "metric": metric}
        | {"baseline": baseline, "task": task, "stderr": stderr},
        {"digest": "p", "value": value, "metric": metric, "baseline": baseline}
        | {"task": task, "stderr": stderr},
    )


def answers(n=100):
    right = lambda count: [i < count for i in range(n)]  # noqa: E731
    return [
        *records("capitals", "b", exact_match=right(90)),
        *records("capitals", "p", exact_match=right(80)),
    ]


def test_items_make_a_change_surer_than_two_scores_do():
    paired = average_changes(study(), answers(), ["p"], CAPITALS)["p"]
    apart = average_changes(study(), (), ["p"], CAPITALS)["p"]
    assert paired.value == pytest.approx(-0.1)
    assert apart.value == pytest.approx(-0.1)
    assert apart.low < paired.low < -0.1 < paired.high < 0
    assert paired.high < apart.high


def test_items_of_another_study_are_not_used():
    frame = study(value=0.7)
    change = average_changes(frame, answers(), ["p"], CAPITALS)["p"]
    assert change == average_changes(frame, (), ["p"], CAPITALS)["p"]
    assert change.value == pytest.approx(-0.2)


def test_a_perplexity_changes_by_a_share_of_the_full_models():
    frame, tasks = study("perplexity", 12.0, 10.0, stderr=0.5), {"capitals": "perplexity"}
    change = average_changes(frame, (), ["p"], tasks)["p"]
    assert change.value == pytest.approx(0.2)
    assert 0 < change.low < 0.2 < change.high
    unknown = average_changes(frame.assign(stderr=nan), (), ["p"], tasks)["p"]
    assert unknown.value == pytest.approx(0.2)
    assert isnan(unknown.low)
    none = average_changes(study("kl", 0.5, 0.0), (), ["p"], {"capitals": "kl"})["p"]
    assert isnan(none.value)


def test_the_average_is_surer_than_its_tasks():
    both = table(*study().to_dict(orient="records"), *study(task="sums").to_dict(orient="records"))
    one = average_changes(study(), (), ["p"], CAPITALS)["p"]
    average = average_changes(both, (), ["p"], CAPITALS | {"sums": "exact_match"})["p"]
    assert average.value == pytest.approx(-0.1)
    assert average.high - average.low == pytest.approx((one.high - one.low) / 2**0.5)
