"""What can be read off the states at each depth: a linear probe per depth, cross-validated.

A probe is a logistic regression from one token's state (the last token's: all of the text went into
it) to the text's label. Its accuracy on texts that it was not fitted to says whether the label is
there in a form that one linear map finds; it does not say that the model uses it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from impasto.analysis.confidence import wilson_interval
from impasto.analysis.inside.states import TextStates
from impasto.error import UserError

FOLDS = 5
STEPS = 2_000  # of the fit; standardised states take far fewer


@dataclass(frozen=True, slots=True)
class Probed:
    """How well labels are read off at each depth, as shares from 0 to 1.

    Attributes:
        accuracy, low, high: By depth 0…T, over all texts, each predicted once by a probe that was
            not fitted to it; with Wilson's 95 % interval.
        chance: The share of the most frequent label.
        texts, labels: How many of each there are.
    """

    accuracy: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    chance: float
    texts: int
    labels: int


def last_states(texts: Iterable[TextStates]) -> np.ndarray:
    """Return the last token's state of every text at every depth: (texts, depths, hidden)."""
    return np.stack([text.states[:, -1].copy() for text in texts])


def probe(
    states: np.ndarray, labels: Sequence[str], *, folds: int = FOLDS, seed: int = 0
) -> Probed:
    """Return how well the labels are read off the states, (texts, depths, hidden), at each depth.

    Folds keep the labels' shares and are the same at all depths; states are standardised by what
    the fitted texts show. Raises UserError where there are other numbers of labels than texts,
    fewer than two labels, or fewer than `folds` texts of one.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if states.ndim != 3 or len(states) != len(labels):
        raise UserError(f"{len(labels)} labels are not one for each of {len(states)} texts")
    names, counts = np.unique(labels, return_counts=True)
    if len(names) < 2:
        raise UserError("a probe tells labels apart, so there are two of them at least")
    if counts.min() < folds:
        few = names[counts.argmin()]
        raise UserError(
            f"{folds} folds take {folds} texts of every label, and {str(few)!r} has {counts.min()}"
        )
    split = StratifiedKFold(folds, shuffle=True, random_state=seed)
    fit = make_pipeline(StandardScaler(), LogisticRegression(max_iter=STEPS))
    right = [
        int(np.sum(cross_val_predict(fit, states[:, depth], labels, cv=split) == np.array(labels)))
        for depth in range(states.shape[1])
    ]
    n = len(labels)
    intervals = [wilson_interval(hits, n) for hits in right]
    return Probed(
        accuracy=tuple(hits / n for hits in right),
        low=tuple(low for low, _ in intervals),
        high=tuple(high for _, high in intervals),
        chance=float(counts.max() / n),
        texts=n,
        labels=len(names),
    )
