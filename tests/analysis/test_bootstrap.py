"""Bootstrap intervals: seeded, exact where nothing varies, and those of scipy where both apply."""

from math import isnan

import numpy as np
import pytest

from impasto.analysis.bootstrap import (
    mean_interval,
    order_statistic,
    percentile_interval,
    resampled_columns,
    resampled_means,
)

RNG = np.random.default_rng(5)
SKEWED = RNG.exponential(size=60)
SIGNS = RNG.choice([-1.0, 0.0, 1.0], p=[0.15, 0.8, 0.05], size=200)


@pytest.mark.parametrize("values", [SKEWED, SIGNS, SKEWED[:8]], ids=["skewed", "signs", "few"])
@pytest.mark.parametrize("level", [0.9, 0.95])
def test_the_bca_interval_is_scipys(values, level):
    stats = pytest.importorskip("scipy.stats")
    theirs = stats.bootstrap(
        (values,), np.mean, confidence_level=level, n_resamples=19_999, rng=np.random.default_rng(1)
    ).confidence_interval
    ours = mean_interval(values, level=level, resamples=19_999)
    width = theirs.high - theirs.low
    assert ours == pytest.approx((theirs.low, theirs.high), abs=0.05 * width)


def test_the_interval_covers_the_mean_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    covered = 0
    for trial in range(200):
        low, high = mean_interval(rng.random(40) < 0.3, resamples=499, seed=trial)
        covered += low <= 0.3 <= high
    assert 0.90 <= covered / 200 <= 0.99


def test_the_same_seed_gives_the_same_interval():
    assert mean_interval(SKEWED, seed=3) == mean_interval(SKEWED, seed=3)
    assert mean_interval(SKEWED, seed=3) != mean_interval(SKEWED, seed=4)


def test_equal_values_have_an_interval_of_no_width_and_one_value_none():
    assert mean_interval([0.1] * 3) == (0.1, 0.1)
    assert all(map(isnan, mean_interval([1.0])))
    assert all(map(isnan, mean_interval([1.0, float("nan")])))


@pytest.mark.parametrize("level", [0, 1, 95])
def test_a_level_that_is_no_share_is_refused(level):
    with pytest.raises(ValueError, match="level of confidence"):
        mean_interval(SKEWED, level=level)


def test_drawing_equal_values_together_is_drawing_items():
    means = resampled_means(SIGNS, resamples=20_000)
    assert means.mean() == pytest.approx(SIGNS.mean(), abs=0.002)
    assert means.std() == pytest.approx(SIGNS.std() / np.sqrt(len(SIGNS)), rel=0.02)


def test_a_resample_takes_the_same_items_in_every_column():
    columns = np.column_stack([SKEWED, SKEWED + 1, -SKEWED])
    means = np.concatenate(list(resampled_columns(columns, resamples=50)))
    assert means.shape == (50, 3)
    assert means[:, 1] == pytest.approx(means[:, 0] + 1)
    assert means[:, 2] == pytest.approx(-means[:, 0])


def test_the_resamples_do_not_depend_on_how_many_fit_in_memory(monkeypatch):
    whole = resampled_means(SKEWED, resamples=50)
    monkeypatch.setattr("impasto.analysis.bootstrap.AT_ONCE", 130)
    assert resampled_means(SKEWED, resamples=50) == pytest.approx(whole)


def test_ends_are_values_that_occurred_and_round_outwards():
    ordered = np.array([0.0, 1.0, 2.0, 3.0])
    assert order_statistic(ordered, 0.5) == 1.0
    assert order_statistic(ordered, 0.5, upper=True) == 2.0
    assert percentile_interval(ordered, 0.5) == (0.0, 3.0)
    assert percentile_interval(np.arange(101.0), 0.9) == (5.0, 95.0)
