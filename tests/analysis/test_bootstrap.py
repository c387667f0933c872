"""Percentile intervals: ends that occurred."""

import numpy as np
import pytest

from impasto.analysis.bootstrap import percentile_interval


def test_ends_are_values_that_occurred_and_round_outwards():
    assert percentile_interval(np.array([3.0, 1.0, 0.0, 2.0]), 0.5) == (0.0, 3.0)
    assert percentile_interval(np.arange(101.0), 0.9) == (5.0, 95.0)


@pytest.mark.parametrize("level", [0, 1, 95])
def test_a_level_that_is_no_share_is_refused(level):
    with pytest.raises(ValueError, match="level of confidence"):
        percentile_interval(np.arange(5.0), level)


def test_no_resamples_are_refused():
    with pytest.raises(ValueError, match="one resample at least"):
        percentile_interval(np.array([]))
