"""Bootstrap intervals: seeded, exact where nothing varies, and ends that occurred."""

from math import isnan

import numpy as np
import pytest

from impasto.analysis.bootstrap import percentile_interval, resampled_mean

RNG = np.random.default_rng(5)
SKEWED = RNG.exponential(size=60)
SIGNS = RNG.choice([-1.0, 0.0, 1.0], p=[0.15, 0.8, 0.05], size=200)


def interval(items, **options):
    return resampled_mean(np.asarray(items, dtype=float), **options)[:2]


def test_the_interval_covers_the_mean_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    covered = 0
    for trial in range(200):
        low, high = interval(rng.random(40) < 0.3, resamples=499, seed=trial)
        covered += low <= 0.3 <= high
    assert 0.90 <= covered / 200 <= 0.99


def test_the_same_seed_gives_the_same_interval():
    assert interval(SKEWED, seed=3) == interval(SKEWED, seed=3)
    assert interval(SKEWED, seed=3) != interval(SKEWED, seed=4)


def test_equal_values_have_an_interval_of_no_width_and_one_value_none():
    assert interval([0.1] * 3) == (0.1, 0.1)
    assert all(map(isnan, interval([1.0])))
    assert all(map(isnan, interval([1.0, float("nan")])))


@pytest.mark.parametrize("level", [0, 1, 95])
def test_a_level_that_is_no_share_is_refused(level):
    with pytest.raises(ValueError, match="level of confidence"):
        interval(SKEWED, level=level)
    with pytest.raises(ValueError, match="level of confidence"):
        percentile_interval(SKEWED, level)


def test_no_resamples_are_refused():
    with pytest.raises(ValueError, match="from 1 on, not 0"):
        interval(SKEWED, resamples=0)


def test_the_means_of_resamples_vary_as_the_mean_does():
    *_, means = resampled_mean(SIGNS, resamples=20_000)
    assert means.mean() == pytest.approx(SIGNS.mean(), abs=0.002)
    assert means.std() == pytest.approx(SIGNS.std() / np.sqrt(len(SIGNS)), rel=0.02)


def test_the_resamples_do_not_depend_on_how_many_fit_in_memory(monkeypatch):
    *_, whole = resampled_mean(SKEWED, resamples=50)
    monkeypatch.setattr("impasto.analysis.bootstrap.AT_ONCE", 130)
    *_, parts = resampled_mean(SKEWED, resamples=50)
    assert parts == pytest.approx(whole)


def test_ends_are_values_that_occurred_and_round_outwards():
    assert percentile_interval(np.array([3.0, 1.0, 0.0, 2.0]), 0.5) == (0.0, 3.0)
    assert percentile_interval(np.arange(101.0), 0.9) == (5.0, 95.0)
