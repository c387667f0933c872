"""Paired comparisons: exact for 0 and 1, by the bootstrap for the rest."""

from math import isnan

import numpy as np
import pytest

from impasto.analysis import compare, mcnemar
from impasto.analysis.bootstrap import resampled_mean
from impasto.analysis.paired import bootstrap_p
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


def test_a_plan_that_answers_alike_differs_in_nothing():
    found = compare([0, 1, 1, 0], [0, 1, 1, 0])
    assert (found.difference, found.low, found.high, found.p) == (0, 0, 0, 1)
    assert (found.lost, found.gained, found.n) == (0, 0, 4)


def test_right_and_wrong_answers_are_tested_by_mcnemar():
    baseline = [True] * 60 + [False] * 40
    plan = [True] * 45 + [False] * 50 + [True] * 5
    found = compare(baseline, plan)
    assert (found.test, found.lost, found.gained) == ("mcnemar", 15, 5)
    assert found.difference == pytest.approx(-0.1)
    assert found.low < -0.1 < found.high
    assert found.p == mcnemar(15, 5)


def test_other_values_are_tested_by_the_bootstrap():
    baseline = RNG.random(150)
    worse = compare(baseline, baseline - 0.05 + 0.1 * RNG.normal(size=150))
    assert (worse.test, worse.p < 0.001, worse.high < 0) == ("bootstrap", True, True)
    alike = compare(baseline, baseline + 0.1 * RNG.normal(size=150))
    assert alike.p > 0.05
    assert alike.low < 0 < alike.high


def test_the_bootstraps_p_is_that_of_the_t_test_where_both_hold():
    stats = pytest.importorskip("scipy.stats")
    differences = RNG.normal(0.15, 1, size=200)
    theirs = stats.ttest_1samp(differences, 0).pvalue
    *_, means = resampled_mean(differences)
    assert bootstrap_p(differences, means) == pytest.approx(theirs, abs=0.01)


def test_pairing_finds_a_difference_that_two_standard_errors_hide():
    baseline = RNG.random(100)
    found = compare(baseline, baseline - 0.01 - 0.001 * RNG.random(100))
    assert found.p < 0.001
    assert baseline.std() / 10 > 2 * abs(found.difference)


def test_one_item_has_no_interval_and_other_numbers_of_items_are_refused():
    assert isnan(compare([0.5], [0.7]).low)
    assert isnan(compare([0.5], [0.7]).p)
    with pytest.raises(ValueError, match="same items twice, not 2 and 3"):
        compare([1, 0], [1, 0, 1])
    with pytest.raises(ValueError, match="not 0 and 0"):
        compare([], [])
