"""By how much plans change tasks and their average: paired where items are known."""

from math import isnan, nan

import pytest
from tables import records, table

from impasto.analysis.changes import Change, average_change, task_changes


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
    paired = task_changes(study(), answers(), ["p"])["p", "capitals"]
    apart = task_changes(study(), (), ["p"])["p", "capitals"]
    assert (paired.is_paired, apart.is_paired) == (True, False)
    assert paired.value == pytest.approx(-0.1)
    assert apart.value == pytest.approx(-0.1)
    assert apart.low < paired.low < -0.1 < paired.high < 0
    assert paired.high < apart.high


def test_items_of_another_study_are_not_used():
    change = task_changes(study(value=0.7), answers(), ["p"])["p", "capitals"]
    assert not change.is_paired
    assert change.value == pytest.approx(-0.2)


def test_a_perplexity_changes_by_a_share_of_the_full_models():
    frame = study("perplexity", 12.0, 10.0, stderr=0.5)
    change = task_changes(frame, (), ["p"])["p", "capitals"]
    assert change.value == pytest.approx(0.2)
    assert 0 < change.low < 0.2 < change.high
    unknown = task_changes(frame.assign(stderr=nan), (), ["p"])["p", "capitals"]
    assert unknown.value == pytest.approx(0.2)
    assert isnan(unknown.low)
    none = task_changes(study("kl", 0.5, 0.0), (), ["p"])["p", "capitals"]
    assert isnan(none.value)


def test_the_average_is_surer_than_its_tasks():
    one = Change(-0.1, -0.2, 0.0, is_paired=True)
    both = average_change([one, one], by_ratio=False)
    assert both.value == pytest.approx(-0.1)
    assert both.high - both.low == pytest.approx(0.2 / 2**0.5)
    assert both.is_paired
    doubled, halved = Change(1.0, 0.8, 1.2), Change(-0.5, -0.55, -0.45)
    assert average_change([doubled, halved], by_ratio=True).value == pytest.approx(0)
    assert isnan(average_change([one, Change(nan, nan, nan)], by_ratio=False).value)
