"""Least squares from sums that grow batch by batch: no row is kept, and one pass is enough.

A map is fitted that turns features into what is missing: targets ≈ features · Bᵀ + a. The sums are
float64, since a sum of squares in float32 loses what a small ridge is about. Features of held-out
rows are summed apart, so that the ridge is chosen by rows that the map was not fitted to.

Shapes: ``rows`` tokens, ``features`` and ``hidden`` units of a state.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

RIDGES = tuple(10.0**power for power in range(-8, 3))
"""The ridges that are tried, as multiples of the features' mean square."""


@dataclass
class NormalEquations:
    """The sums that a fit follows from, each row with a weight.

    Attributes:
        rows: How many rows were added.
        weight: The sum of their weights.
        features, targets: The weighted sums of features and of targets.
        gram: Σ features featuresᵀ.
        cross: Σ features targetsᵀ.
        square: Σ |targets|².
    """

    rows: int = 0
    weight: float = 0.0
    square: float = 0.0
    features: Float[Tensor, "features"] = field(default_factory=lambda: torch.zeros(()))
    targets: Float[Tensor, "hidden"] = field(default_factory=lambda: torch.zeros(()))
    gram: Float[Tensor, "features features"] = field(default_factory=lambda: torch.zeros(()))
    cross: Float[Tensor, "features hidden"] = field(default_factory=lambda: torch.zeros(()))

    def add(
        self,
        features: Float[Tensor, "rows features"],
        targets: Float[Tensor, "rows hidden"],
        weights: Float[Tensor, "rows"] | None = None,
    ) -> None:
        """Add rows; without weights each counts 1."""
        x, y = features.double(), targets.double()
        w = x.new_ones(len(x)) if weights is None else weights.double()
        weighted = x * w[:, None]
        self.rows += len(x)
        self.weight += float(w.sum())
        self.square += float((w[:, None] * y * y).sum())
        self.features = self.features + weighted.sum(0)
        self.targets = self.targets + (w[:, None] * y).sum(0)
        self.gram = self.gram + weighted.T @ x
        self.cross = self.cross + weighted.T @ y

    def loss(self, fit: "Map") -> float:
        """Return the mean over rows of weight · |target − B · features − a|²."""
        b, a = fit.weight, fit.bias
        total = self.square + float((b.T * (self.gram @ b.T)).sum())
        total -= 2 * float((b.T * self.cross).sum())
        total += self.weight * float(a @ a) - 2 * float(a @ self.targets)
        total += 2 * float(a @ (b @ self.features))
        return total / self.rows


class Map(NamedTuple):
    """features ↦ features · weightᵀ + bias, in float64."""

    weight: Float[Tensor, "hidden features"]
    bias: Float[Tensor, "hidden"]

    @classmethod
    def to_zero(cls, cross: Float[Tensor, "features hidden"]) -> "Map":
        """Return the map to zero: what is there before anything was fitted."""
        return cls(torch.zeros_like(cross.T), torch.zeros_like(cross[0]))


class Fit(NamedTuple):
    """A map that was fitted.

    Attributes:
        map: The map.
        ridge: The ridge that held-out rows chose, as a multiple of the features' mean square; None
            where no map is better than none.
        before, after: The held-out rows' loss without the map and with it.
    """

    map: Map
    ridge: float | None
    before: float
    after: float


def solved(sums: NormalEquations, ridge: float, with_bias: bool) -> Map:
    """Return the map with the smallest weighted squares plus ridge · mean square · |B|²."""
    return next(iter(_solved(sums, (ridge,), with_bias)))


def chosen(
    sums: NormalEquations, held_out: NormalEquations, with_bias: bool, ridge: float | None = None
) -> Fit:
    """Return the map of the ridge that is best on held-out rows; a given ridge is taken as it is.

    Without a better one that is the map to zero.
    """
    nothing = Map.to_zero(sums.cross)
    before = held_out.loss(nothing)
    ridges = RIDGES if ridge is None else (ridge,)
    best = Fit(nothing, None, before, before if ridge is None else float("inf"))
    for tried, fit in zip(ridges, _solved(sums, ridges, with_bias), strict=True):
        loss = held_out.loss(fit)
        if loss < best.after:
            best = Fit(fit, tried, before, loss)
    return best


def _solved(sums: NormalEquations, ridges: tuple[float, ...], with_bias: bool) -> list[Map]:
    """Return the map for each ridge, by one decomposition of the features' Gram matrix."""
    gram, cross = sums.gram, sums.cross
    x, y = sums.features / sums.weight, sums.targets / sums.weight
    if with_bias:  # centred features and targets need no bias
        gram = gram - sums.weight * torch.outer(x, x)
        cross = cross - sums.weight * torch.outer(x, y)
    values, vectors = torch.linalg.eigh(gram)
    values = values.clamp(min=0)
    least = values.max() * len(values) * torch.finfo(values.dtype).eps
    scale = float(values.mean())
    rotated = vectors.T @ cross
    maps = []
    for ridge in ridges:
        raised = values + ridge * scale
        kept = raised > least
        inverse = torch.where(kept, 1 / raised.clamp(min=float(least) or 1e-300), 0.0)
        weight = (vectors @ (inverse[:, None] * rotated)).T
        bias = y - weight @ x if with_bias else torch.zeros_like(y)
        maps.append(Map(weight, bias))
    return maps
