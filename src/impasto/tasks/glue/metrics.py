"""GLUE's metrics as its official evaluation computes them, by scikit-learn and scipy."""

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def _acc(said: NDArray, right: NDArray) -> float:
    return float((said == right).mean())


def _f1(said: NDArray, right: NDArray) -> float:
    from sklearn.metrics import f1_score

    return float(f1_score(right, said, zero_division=0))  # type: ignore[arg-type]


def _matthews(said: NDArray, right: NDArray) -> float:
    from sklearn.metrics import matthews_corrcoef

    return float(matthews_corrcoef(right, said))


def _pearson(said: NDArray, right: NDArray) -> float:
    from scipy.stats import pearsonr

    return _correlation(lambda: pearsonr(said, right)[0])


def _spearman(said: NDArray, right: NDArray) -> float:
    from scipy.stats import spearmanr

    return _correlation(lambda: spearmanr(said, right)[0])


def _correlation(of: Callable[[], Any]) -> float:
    """Return a correlation; 0 where one side is all alike, as of a head that learnt nothing."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        value = float(of())
    return 0.0 if np.isnan(value) else value


METRICS: dict[str, Callable[[NDArray, NDArray], float]] = {
    "acc": _acc,
    "acc_mismatched": _acc,
    "f1": _f1,
    "matthews": _matthews,
    "pearson": _pearson,
    "spearman": _spearman,
}


def measure(metric: str, pairs: Sequence[Sequence[float]]) -> float:
    """Return what a metric comes to over (said, right) pairs."""
    said, right = np.array(pairs, dtype=float).T
    return METRICS[metric](said, right)
