"""Paired comparisons: exact for 0 and 1, by Student's t for the rest."""

from math import inf, isnan

import numpy as np
import pytest
from scipy import stats

from impasto.analysis import compare, mcnemar, wilson_interval
from impasto.analysis.confidence import paired_shares_interval
from impasto.analysis.paired import Differences, apart_interval
from impasto.error import UserError

RNG = np.random.default_rng(2)


@pytest.mark.parametrize(
    ("lost", "gained", "p"),
    [
        (0, 0, 1.0),
        (1, 0, 1.0),
        (5, 0, 2 / 32),
        (0, 6, 2 / 64),
        (10, 1, 2 * 12 / 2**11),
        (7, 7, 1.0),
        (121, 59, 4.434e-06),
    ],
)
def test_mcnemars_test_is_the_exact_sign_test(lost, gained, p):
    assert mcnemar(lost, gained) == pytest.approx(p, rel=1e-3)
    assert mcnemar(gained, lost) == mcnemar(lost, gained)


def test_it_takes_ten_thousand_items():
    assert mcnemar(5200, 4800) == pytest.approx(6.6e-05, rel=0.05)


@pytest.mark.parametrize("lost", [-1, "a", 1.5, None, True])
def test_what_is_no_number_of_items_is_refused(lost):
    with pytest.raises(UserError, match="no numbers of items: each is a whole number from 0 on"):
        mcnemar(lost, 2)


def test_a_plan_that_answers_alike_may_still_differ_on_other_questions():
    found = compare([0, 1, 1, 0], [0, 1, 1, 0])
    assert (found.difference, found.p) == (0, 1)
    assert (found.lost, found.gained, found.n) == (0, 0, 4)
    assert found.high == -found.low == pytest.approx(wilson_interval(0, 4)[1])


def test_right_and_wrong_answers_are_tested_by_mcnemar_and_have_tangos_interval():
    baseline = [True] * 60 + [False] * 40
    plan = [True] * 45 + [False] * 50 + [True] * 5
    found = compare(baseline, plan)
    assert (found.test, found.lost, found.gained) == ("mcnemar", 15, 5)
    assert found.difference == pytest.approx(-0.1)
    assert found.p == mcnemar(15, 5)
    [low], [high] = paired_shares_interval(np.array([5]), np.array([15]), np.array([100]))
    assert (found.low, found.high) == (low, high)


def test_other_values_are_tested_by_students_t():
    baseline = RNG.random(150)
    plan = baseline - 0.05 + 0.1 * RNG.normal(size=150)
    worse = compare(baseline, plan)
    assert (worse.test, worse.p < 0.001, worse.high < 0) == ("t", True, True)
    assert worse.p == pytest.approx(stats.ttest_rel(plan, baseline).pvalue)
    alike = compare(baseline, baseline + 0.1 * RNG.normal(size=150))
    assert alike.p > 0.05
    assert alike.low < 0 < alike.high


def test_a_few_values_that_differ_alike_do_not_show_more_than_their_signs():
    assert compare([0.5] * 3, [0.25] * 3).p == 2 * 0.5**3
    assert compare([0.5] * 3, [0.5] * 3).p == 1


def test_pairing_finds_a_difference_that_two_standard_errors_hide():
    baseline = RNG.random(100)
    found = compare(baseline, baseline - 0.01 - 0.001 * RNG.random(100))
    assert found.p < 0.001
    assert baseline.std() / 10 > 2 * abs(found.difference)


def test_one_item_has_no_end_and_other_numbers_of_items_are_refused():
    assert compare([0.5], [0.7]).low == -inf
    assert isnan(compare([0.5], [0.7]).p)
    assert compare([0.5], [0.7], reach=1).low > -1
    with pytest.raises(ValueError, match="same items twice, not 2 and 3"):
        compare([1, 0], [1, 0, 1])
    with pytest.raises(ValueError, match="not 0 and 0"):
        compare([], [])


def test_many_plans_at_once_are_each_alone():
    baseline = (RNG.random(80) < 0.8).astype(float)
    plans = [baseline * (RNG.random(80) < 0.9), RNG.random(80), baseline]
    together = Differences.of(baseline, plans, 1.0).comparisons()
    assert together == [compare(baseline, plan, reach=1.0) for plan in plans]


def test_more_questions_narrow_an_interval():
    baseline = (RNG.random(80) < 0.8).astype(float)
    found = Differences.of(baseline, [baseline * (RNG.random(80) < 0.9)], 1.0)
    for times in (1.0, 4.0):
        low, high = found.interval(times=times)
        again = Differences.of(np.tile(baseline, 4), [np.tile(baseline, 4)], 1.0)
        assert again.n == 320
        assert high[0] - low[0] < 0.2 / times**0.5 + 0.05
    four = Differences.of(np.tile(baseline, 4), [np.tile(baseline * 0.9, 4)], 1.0)
    one = Differences.of(baseline, [baseline * 0.9], 1.0)
    assert one.interval(times=4)[0] == pytest.approx(four.interval()[0])


def test_weights_make_the_mean_that_of_tokens_and_its_error_that_of_a_ratio():
    tokens = RNG.integers(5, 50, size=300).astype(float)
    log_p = RNG.normal(-3, 1, size=300)
    plan = log_p - 0.2 + 0.1 * RNG.normal(size=300)
    found = Differences.of(log_p, [plan], weights=tokens)
    each = (tokens * (plan - log_p)).sum() / tokens.sum()
    assert found.mean[0] == pytest.approx(each)
    draws = RNG.integers(300, size=(2000, 300))
    drawn = (tokens * (plan - log_p))[draws].sum(1) / tokens[draws].sum(1)
    assert found.error[0] == pytest.approx(drawn.std(), rel=0.08)


def test_two_values_that_are_not_paired_are_as_far_apart_as_their_errors_squared():
    low, high = apart_interval((0.5, 0.4, 0.6), (0.7, 0.6, 0.8))
    assert (low, high) == pytest.approx((-0.2 - 0.02**0.5, -0.2 + 0.02**0.5))
