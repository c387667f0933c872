"""GLUE's metrics as its official evaluation computes them, by scikit-learn and scipy.

Their standard errors come from the bootstrap: as many answers are drawn anew, with replacement.
"""

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


def standard_error(metrics: Sequence[str], pairs: Sequence[Sequence[float]]) -> float:
    """Return the standard error of the mean of some metrics over the same (said, right) pairs.

    `metrics` are accuracy, F1 and Matthews' of two classes, or correlations.
    """
    said, right = np.array(pairs, dtype=float).T
    rng = np.random.default_rng(0)
    if set(metrics) <= set(CORRELATED):
        at = rng.integers(len(said), size=(CORRELATION_DRAWS, len(said)))
        drawn = [CORRELATED[metric](said[at], right[at]) for metric in metrics]
    else:
        # What two classes come to depends only on how often each pair of them occurs.
        counts = np.bincount((2 * right + said).astype(int), minlength=4)
        tables = rng.multinomial(len(said), counts / len(said), size=DRAWS).astype(float)
        drawn = [COUNTED[metric](*tables.T) for metric in metrics]
    return float(np.std(np.mean(drawn, axis=0), ddof=1))


def _ratio(over: NDArray, under: NDArray) -> NDArray:
    """Return a quotient, 0 where it would be of nothing."""
    return np.divide(over, under, out=np.zeros_like(over), where=under > 0)


def _counted_acc(tn: NDArray, fp: NDArray, fn: NDArray, tp: NDArray) -> NDArray:
    return (tn + tp) / (tn + fp + fn + tp)


def _counted_f1(_tn: NDArray, fp: NDArray, fn: NDArray, tp: NDArray) -> NDArray:
    return _ratio(2 * tp, 2 * tp + fp + fn)


def _counted_matthews(tn: NDArray, fp: NDArray, fn: NDArray, tp: NDArray) -> NDArray:
    return _ratio(tp * tn - fp * fn, np.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)))


def _row_pearson(said: NDArray, right: NDArray) -> NDArray:
    said, right = (side - side.mean(axis=1, keepdims=True) for side in (said, right))
    return _ratio(
        (said * right).sum(axis=1), np.sqrt((said**2).sum(axis=1) * (right**2).sum(axis=1))
    )


def _row_spearman(said: NDArray, right: NDArray) -> NDArray:
    from scipy.stats import rankdata

    return _row_pearson(rankdata(said, axis=1), rankdata(right, axis=1))


DRAWS, CORRELATION_DRAWS = 1_000, 200
Many = Callable[..., NDArray]
COUNTED: dict[str, Many] = {"acc": _counted_acc, "f1": _counted_f1, "matthews": _counted_matthews}
CORRELATED: dict[str, Many] = {"pearson": _row_pearson, "spearman": _row_spearman}
