"""A problem that a head is fitted to: examples, and how. The model under the head is no part of it.

Two protocols, those of paper B (arXiv 2407.09298): `Frozen`, only a head is fitted on what the
model gives, and `FineTuned`, all weights are trained with the plan in place.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property

HEADS = ("solved", "published")
POOLINGS = ("mean", "first", "pooler")
PAIRS = ("together", "apart")


@dataclass(frozen=True, slots=True)
class Frozen:
    """Only a head is fitted.

    Attributes:
        head: `solved`: logistic regression, or ridge for numbers, its strength chosen by
            cross-validation. `published`: one linear layer trained at a rate of 3e-2.
        pooling: What the head reads: the mean of the last states, the first one, or the model's
            pooler.
        pairs: Whether two texts are read as one sentence, or `apart`: then the head reads u, v,
            |u − v| and u · v.
        seed: What the published head's training draws from.
        max_length: The most tokens that are read of a text.
    """

    head: str = "solved"
    pooling: str = "mean"
    pairs: str = "together"
    seed: int = 0
    max_length: int = 128


@dataclass(frozen=True, slots=True)
class FineTuned:
    """All weights that the plan runs are trained, by AdamW with a rate that falls to zero."""

    seed: int = 0
    epochs: float = 3
    batch: int = 32
    learning_rate: float = 2e-5
    max_length: int = 128


@dataclass(frozen=True, slots=True)
class Example:
    """A text, or two, and what is right of it: a class from 0, or a number."""

    first: str
    second: str | None
    label: float


@dataclass(frozen=True, eq=False, repr=False)
class Problem:
    """What is fitted, and to what.

    Attributes:
        name: What it is called.
        examples: What a head is fitted to.
        classes: How many classes there are; 0 where a number is to be told.
        protocol: How.
    """

    name: str
    examples: Sequence[Example]
    classes: int
    protocol: Frozen | FineTuned

    @cached_property
    def digest(self) -> str:
        """Return a sha256 over all that a fitted head depends on beside the model."""
        told = [self.name, self.classes, type(self.protocol).__name__, asdict(self.protocol)]
        told.append([[each.first, each.second, each.label] for each in self.examples])
        return hashlib.sha256(json.dumps(told).encode()).hexdigest()

    def __repr__(self) -> str:
        return f"Problem({self.name!r}, {self.digest})"
