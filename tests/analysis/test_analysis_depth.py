"""The critical depth, the winning depth and how sure a share is."""

import pytest

from impasto.analysis import critical_depth, wilson_interval, winning_depth
from impasto.error import UserError


def test_the_critical_depth_is_where_accuracy_returns_to_the_baseline_for_good():
    values = {0: 0.0, 1: 0.2, 2: 0.93, 3: 0.99, 4: 0.98}
    assert critical_depth(values, baseline=1.0) == 3
    assert critical_depth(values, baseline=0.98) == 2


def test_a_later_relapse_moves_the_critical_depth_behind_it():
    assert critical_depth({0: 1.0, 1: 1.0, 2: 0.5, 3: 1.0}, baseline=1.0) == 3


def test_five_points_below_the_baseline_are_still_within_five_points():
    assert critical_depth({0: 0.95, 1: 1.0}, baseline=1.0) == 0
    assert critical_depth({0: 0.949, 1: 1.0}, baseline=1.0) == 1


def test_being_better_than_the_baseline_is_fine():
    assert critical_depth({0: 0.9, 1: 0.8}, baseline=0.5) == 0


def test_there_is_no_critical_depth_if_even_the_last_depth_is_below():
    assert critical_depth({0: 1.0, 1: 0.2}, baseline=1.0) is None
    assert critical_depth({}, baseline=1.0) is None


def test_a_value_that_is_no_number_is_not_within_the_tolerance():
    assert critical_depth({0: 1.0, 1: float("nan"), 2: 1.0}, baseline=1.0) == 2


def test_the_winning_depth_is_the_last_at_which_one_share_is_above_the_other():
    assert winning_depth({0: 0.9, 1: 0.5, 2: 0.1}, {0: 0.0, 1: 0.4, 2: 0.8}) == 1
    assert winning_depth({0: 0.5}, {0: 0.5}) is None


def test_wilsons_interval_agrees_with_published_values():
    low, high = wilson_interval(81, 263)
    assert (low, high) == pytest.approx((0.2553, 0.3662), abs=2e-4)  # Newcombe 1998, table I
    assert wilson_interval(0, 20) == pytest.approx((0.0, 0.1611), abs=2e-4)


@pytest.mark.parametrize(("right", "n"), [(1, 0), (-1, 5), (6, 5), ("a", 5), (1.5, 5)])
def test_what_is_no_share_has_no_interval(right, n):
    with pytest.raises(UserError, match="not a share"):
        wilson_interval(right, n)
