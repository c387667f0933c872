"""How widely each head looks: the entropy of its attention, averaged over the tokens of many texts.

A head that looks at one token has entropy 0, one that spreads evenly over n tokens log n nats.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from impasto.error import UserError


class AttendingModel(Protocol):
    """What is asked of a model here; `impasto.load` returns one."""

    @property
    def max_positions(self) -> int | None:
        """The most tokens that it reads."""
        ...

    def tokens(self, text: str, /) -> list[int]:
        """Return a text's token ids, special tokens included."""
        ...

    def attention_entropy(self, text: Sequence[int], /) -> Any:
        """Return a tensor of (layers, heads, tokens), in nats."""
        ...


@dataclass(frozen=True, eq=False)
class Entropy:
    """The mean entropy of every head's attention.

    Attributes:
        mean: (layers, heads), in nats.
        even: What attention spread evenly over all tokens up to the current one would have, in
            nats, on the same texts.
        texts, tokens: How many entered. A text's first token can look at itself only; it is left
            out.
    """

    mean: np.ndarray
    even: float
    texts: int
    tokens: int


def attention_entropy(model: AttendingModel, texts: Iterable[str]) -> Entropy:
    """Return the mean entropy of attention per layer and head over texts, one at a time.

    Raises UserError where no text has a second token.
    """
    total: np.ndarray | float = 0.0
    even, count, tokens = 0.0, 0, 0
    for text in texts:
        ids = model.tokens(text)[: model.max_positions]
        if len(ids) < 2:
            continue
        total = total + model.attention_entropy(ids)[:, :, 1:].double().sum(-1).cpu().numpy()
        even += float(np.log(np.arange(2, len(ids) + 1)).sum())
        count, tokens = count + 1, tokens + len(ids) - 1
    if not tokens:
        raise UserError("attention entropy takes at least one text with two tokens")
    return Entropy(np.asarray(total) / tokens, even / tokens, count, tokens)
