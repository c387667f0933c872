"""Intervals of medians, and how far times spread."""

import random

import pytest

from impasto.speed.spread import Interval, spread


def test_the_interval_is_the_binomial_one():
    assert Interval.of([9, 1, 2, 3, 4, 5, 6, 7, 8]) == Interval(2, 5, 8)  # 96.1 %
    assert Interval.of(list(range(6))) == Interval(0, 2.5, 5)  # 96.9 %
    assert Interval.of([3.0]) == Interval(3.0, 3.0, 3.0)


@pytest.mark.parametrize("count", [7, 25, 60])
def test_the_interval_holds_the_true_median_at_95_percent(count):
    draw = random.Random(count)
    rounds = 2000
    held = 0
    for _ in range(rounds):
        interval = Interval.of([draw.expovariate(1) for _ in range(count)])
        held += interval.low <= 0.693147 <= interval.high
    assert 0.94 <= held / rounds <= 0.995


def test_a_long_tail_hardly_moves_the_spread():
    assert spread([1.0]) == 0.0
    assert spread([1.0, 1.0, 1.0, 1.0, 50.0]) == 0.0
    assert spread([1.0, 2.0, 3.0, 4.0, 5.0]) == pytest.approx(2 / 3)
