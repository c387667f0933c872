"""Intervals at any level: known values, what they solve, and how often they are right."""

import numpy as np
import pytest
from scipy import stats

from impasto.analysis.confidence import (
    bounded_interval,
    corrected,
    paired_shares_interval,
    t_interval,
    value_interval,
    wilson_interval,
    z_of,
)

RNG = np.random.default_rng(1)


def deviations(difference, gained, lost, n):
    """Return the score and the ratio statistic; the nuisance share is found by trying them all."""
    shares = np.linspace(0, 1, 400_001)[1:-1]
    others = shares + difference
    same = 1 - shares - others
    there = (others > 0) & (same > 0)
    shares, others, same = shares[there], others[there], same[there]
    likely = gained * np.log(others) + lost * np.log(shares) + (n - gained - lost) * np.log(same)
    share = shares[np.argmax(likely)]
    variance = n * (2 * share + difference * (1 - difference))
    counts = np.array([gained, lost, n - gained - lost])
    most = (counts * np.log(counts / n)).sum()
    return (
        abs(gained - lost - n * difference) / np.sqrt(variance),
        np.sqrt(2 * (most - likely.max())),
    )


@pytest.mark.parametrize(("gained", "lost", "n"), [(12, 2, 44), (5, 9, 100), (1, 30, 60)])
@pytest.mark.parametrize("level", [0.95, 0.9995])
def test_the_limits_are_where_one_of_both_tests_just_does_not_reject(gained, lost, n, level):
    ends = paired_shares_interval(np.array([gained]), np.array([lost]), np.array([n]), level)
    for [end] in ends:
        assert min(deviations(end, gained, lost, n)) == pytest.approx(z_of(level), rel=2e-3)
    assert ends[0][0] < (gained - lost) / n < ends[1][0]


def test_the_interval_is_wilsons_where_no_item_changed_and_turns_round_with_its_counts():
    gained, lost, n = np.array([0, 3, 8]), np.array([0, 8, 3]), np.array([100, 50, 50])
    low, high = paired_shares_interval(gained, lost, n)
    assert high[0] == -low[0] == pytest.approx(wilson_interval(0, 100)[1])
    assert low[1] == pytest.approx(-high[2])
    assert high[1] == pytest.approx(-low[2])


@pytest.mark.parametrize("n", [100, 500, 2000])
@pytest.mark.parametrize("level", [0.95, 0.9995])
def test_each_tail_is_right_as_often_as_it_says_also_far_out(n, level):
    """The counts of lost items, of which 5 % are lost and none gained, have an exact tail."""
    lost = np.arange(n + 1)
    low, high = paired_shares_interval(np.zeros(n + 1), lost, np.full(n + 1, n), level)
    chances = stats.binom.pmf(lost, n, 0.05)
    for wrong in (high < -0.05, low > -0.05):
        assert chances[wrong].sum() < 1.25 * (1 - level) / 2


def test_the_interval_stays_within_what_differences_can_be():
    low, high = paired_shares_interval(np.array([0, 10]), np.array([10, 0]), np.array([10, 10]))
    assert low[0] == -1
    assert high[1] == 1
    assert high[0] < 0 < low[1]


@pytest.mark.parametrize("n", [15, 60, 250])
def test_the_interval_covers_the_difference_about_as_often_as_it_says(n):
    shares = np.array([0.08, 0.15])  # gained, lost
    counts = RNG.multinomial(n, [*shares, 1 - shares.sum()], size=4000)
    low, high = paired_shares_interval(counts[:, 0], counts[:, 1], np.full(4000, n))
    covered = ((low <= -0.07) & (high >= -0.07)).mean()
    assert 0.935 <= covered <= 0.985


@pytest.mark.parametrize("n", [20, 200])
def test_intervals_of_items_with_a_range_cover_their_mean_even_where_few_items_differ(n):
    there = RNG.random((4000, n)) < 0.06
    items = np.where(there, -RNG.random((4000, n)), 0.0)
    low, high = bounded_interval(items.mean(1), (items**2).mean(1), np.full(4000, n), 1.0)
    assert ((low <= -0.03) & (high >= -0.03)).mean() >= 0.95


def test_items_that_all_differ_alike_are_never_sure_to_differ_by_less():
    low, high = bounded_interval(np.array([-0.05]), np.array([0.0025]), np.array([30.0]), 1.0)
    assert low[0] < -0.05 < high[0]


def test_what_has_no_range_has_students_interval_and_one_item_none():
    items = RNG.normal(size=12)
    error = items.std(ddof=1) / np.sqrt(12)
    low, high = t_interval(np.array([items.mean()]), np.array([error]), np.array([12]))
    theirs = stats.ttest_1samp(items, 0).confidence_interval()
    assert (low[0], high[0]) == pytest.approx((theirs.low, theirs.high))
    low, high = t_interval(np.array([1.0]), np.array([0.0]), np.array([1]))
    assert (low[0], high[0]) == (-np.inf, np.inf)


def test_a_correction_makes_all_intervals_hold_together():
    assert corrected(1) == 0.95
    assert corrected(100) == pytest.approx(0.9995)
    assert corrected(0) == 0.95


@pytest.mark.parametrize("level", [0, 1, 95])
def test_a_level_that_is_no_share_is_refused(level):
    with pytest.raises(ValueError, match="level of confidence"):
        paired_shares_interval(np.array([1]), np.array([1]), np.array([9]), level)


def test_a_values_interval_takes_other_levels():
    assert value_interval(0.5, 0.1, 0, level=0.5) == pytest.approx((0.43255, 0.56745), abs=1e-4)
    assert value_interval(0.5, 0.01, 10, 0, 1, 0.9) == wilson_interval(5, 10, 0.9)
