"""How alike the states at different depths are: cosine similarity, averaged over texts.

Paper B's Figure 3 shows all pairs of depths, paper C's Figure 1 each depth with the one before.
Two measures go by this name:

* `tokens`: the cosine of one token's two states, averaged over all tokens but BOS. It is what the
  papers' text says.
* `flattened`: all of a text's states laid end to end are one vector, BOS among them, and the cosine
  of two such vectors is averaged over texts. It is what the code published with B computes (with
  the padding of its batches, which there is none of here). Tokens with long states, which BOS has
  in most models, weigh most in it.

Texts are folded in one by one, so that their number takes no memory. Pure numpy; where states come
from is `states`.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import numpy as np

from impasto.analysis.confidence import Z_95
from impasto.analysis.inside.states import TextStates
from impasto.error import UserError

Measure: TypeAlias = Literal["tokens", "flattened"]
MEASURES: tuple[Measure, ...] = get_args(Measure)


@dataclass(frozen=True, eq=False)
class Similarity:
    """The similarity of all pairs of depths by one measure.

    Attributes:
        measure: `tokens` or `flattened`.
        mean: (depths, depths), depths 0 to T; 1 on the diagonal.
        half_width: (depths, depths), half of each mean's 95 % interval over other texts of the
            kind (texts are drawn, and their tokens with them); not a number for a single text.
        texts, tokens: How many entered; `cut` texts without their end.
    """

    measure: Measure
    mean: np.ndarray
    half_width: np.ndarray
    texts: int
    tokens: int
    cut: int

    @property
    def with_previous(self) -> np.ndarray:
        """The similarity of each depth 1…T with the depth before: what layer k−1 leaves alike."""
        return np.diagonal(self.mean, offset=1)

    @property
    def with_previous_half_width(self) -> np.ndarray:
        """Half of the 95 % interval of `with_previous`."""
        return np.diagonal(self.half_width, offset=1)


def similarities(texts: Iterable[TextStates]) -> dict[Measure, Similarity]:
    """Return the similarity of all depths by every measure, reading each text once.

    Raises UserError where there is no text, or none with a token besides BOS.
    """
    sums = {measure: _Sums() for measure in MEASURES}
    count = cut = tokens = 0
    for text in texts:
        count, cut, tokens = count + 1, cut + text.cut, tokens + int(text.is_text.sum())
        for measure in MEASURES:
            sums[measure].add(*_TERMS[measure](text))
    if not tokens:
        raise UserError("similarity takes at least one text with one token besides BOS")
    return {
        measure: Similarity(measure, *sums[measure].mean(), count, tokens, cut)
        for measure in MEASURES
    }


def _token_cosines(text: TextStates) -> tuple[np.ndarray, int]:
    """Return the sum of the tokens' cosines, (depths, depths), and how many there are."""
    states = text.states[:, text.is_text]
    unit = (states / _length(states)).reshape(len(states), -1)
    return unit @ unit.T, states.shape[1]


def _flat_cosine(text: TextStates) -> tuple[np.ndarray, int]:
    """Return the cosine of the whole text's states, (depths, depths)."""
    flat = text.states.reshape(len(text.states), -1)
    unit = flat / _length(flat)
    return unit @ unit.T, 1


_TERMS = {"tokens": _token_cosines, "flattened": _flat_cosine}


def _length(vectors: np.ndarray) -> np.ndarray:
    """Return the vectors' lengths; states of length 0 are like none, so their cosine is 0."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.maximum(lengths, np.finfo(vectors.dtype).tiny)


class _Sums:
    """Running sums of texts' terms and weights, as a mean and its error over texts need them."""

    def __init__(self) -> None:
        self.texts = 0
        self.weight = self.weight_squared = 0.0
        self.term = self.term_squared = self.term_weight = np.zeros(())

    def add(self, term: np.ndarray, weight: int) -> None:
        term = term.astype(float)
        self.texts += 1
        self.weight += weight
        self.weight_squared += weight**2
        self.term = self.term + term
        self.term_squared = self.term_squared + term**2
        self.term_weight = self.term_weight + term * weight

    def mean(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the mean and half of its 95 % interval: a ratio of sums over texts."""
        mean = self.term / self.weight
        if self.texts < 2:
            return mean, np.full_like(mean, np.nan)
        squares = self.term_squared - 2 * mean * self.term_weight + mean**2 * self.weight_squared
        variance = np.maximum(squares, 0) * self.texts / (self.texts - 1) / self.weight**2
        return mean, Z_95 * np.sqrt(variance)
