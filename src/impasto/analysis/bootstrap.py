"""The middle of what resamples came to. Nothing here knows plans or tasks."""

import numpy as np

from impasto.analysis.confidence import LEVEL
from impasto.error import UserError


def percentile_interval(resampled: np.ndarray, level: float = LEVEL) -> tuple[float, float]:
    """Return the percentile interval of what resamples came to, rounded outwards.

    Its ends are values that occurred; scipy's are interpolated. Raises UserError for a level
    outside 0 to 1, and for no resamples.
    """
    if not 0 < level < 1:
        raise UserError(f"a level of confidence lies between 0 and 1, not at {level}")
    if not len(resampled):
        raise UserError("an interval takes one resample at least")
    tail = round((1 - level) / 2, 12)  # 0.05 of 101 values leaves 5 out, whatever floats make of it
    low = np.quantile(resampled, tail, method="lower")
    high = np.quantile(resampled, round(1 - tail, 12), method="higher")
    return float(low), float(high)
