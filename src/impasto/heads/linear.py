"""Linear heads: a value with weights, and the two ways to fit one."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

STRENGTHS = np.logspace(-4, 0, 5)  # C of the logistic regression
PENALTIES = np.logspace(-1, 5, 13)  # of the ridge
FOLDS = 3
EPOCHS, BATCH, RATE, DROPOUT = 3, 32, 3e-2, 0.1  # of the published head


@dataclass(frozen=True)
class Linear:
    """A head: classes or numbers from (features − mean) / scale.

    Attributes:
        weight: outputs × features; one output tells two classes apart, or tells a number.
        bias: outputs.
        mean: features.
        scale: features.
        labels: The class of each output, or of below and above zero; empty where numbers are told.
    """

    weight: NDArray
    bias: NDArray
    mean: NDArray
    scale: NDArray
    labels: NDArray

    def __call__(self, features: NDArray) -> list[float]:
        """Return what the head says of each row of features (rows × features)."""
        scores = (features - self.mean) / self.scale @ self.weight.T + self.bias
        if not len(self.labels):
            return [float(score) for score in scores[:, 0]]
        at = scores.argmax(1) if scores.shape[1] > 1 else (scores[:, 0] > 0).astype(int)
        return [int(label) for label in self.labels[at]]

    def tensors(self) -> dict[str, Tensor]:
        """Return its arrays as they are stored."""
        names = ("weight", "bias", "mean", "scale", "labels")
        return {name: torch.from_numpy(np.ascontiguousarray(getattr(self, name))) for name in names}

    @classmethod
    def stored(cls, tensors: dict[str, Tensor]) -> "Linear":
        """Return a head from its arrays."""
        return cls(**{name: tensor.numpy() for name, tensor in tensors.items()})


def solve(features: NDArray, labels: Sequence[float], classes: int) -> Linear:
    """Fit the best head there is: multinomial logistic regression, or ridge for numbers.

    Features are standardised. The regularisation is chosen by cross-validation among ``STRENGTHS``
    by log-likelihood in three folds; of ridge, among ``PENALTIES`` by leaving each example out.
    """
    from sklearn import linear_model
    from sklearn.exceptions import ConvergenceWarning

    models: Any = linear_model  # its annotations, read off its documentation, are not all right

    features, right = features.astype(np.float64), np.asarray(labels)
    mean, scale = features.mean(0), features.std(0)
    scale[scale < 1e-12] = 1.0  # what is always the same tells nothing
    standard = (features - mean) / scale
    if not classes:
        ridge = models.RidgeCV(alphas=PENALTIES).fit(standard, right)
        none = np.zeros(0, dtype=np.int64)
        return Linear(ridge.coef_[None], np.atleast_1d(ridge.intercept_), mean, scale, none)
    there, counts = np.unique(right.astype(np.int64), return_counts=True)
    if len(there) == 1:  # nothing to tell apart
        return Linear(np.zeros((1, features.shape[1])), np.zeros(1), mean, scale, there.repeat(2))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        fitted = models.LogisticRegressionCV(
            Cs=STRENGTHS, cv=int(max(2, min(FOLDS, counts.min()))), scoring="neg_log_loss",
            l1_ratios=(0,), use_legacy_attributes=False, max_iter=300,
        ) if counts.min() > 1 else _single(STRENGTHS[2])  # fmt: skip
        fitted.fit(standard, right.astype(np.int64))
    return Linear(fitted.coef_, fitted.intercept_, mean, scale, fitted.classes_.astype(np.int64))


def _single(strength: float) -> Any:
    """Return a regression of one strength: a class with one example cannot be cross-validated."""
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=float(strength), max_iter=300)


def train_published(features: NDArray, labels: Sequence[float], classes: int, seed: int) -> Linear:
    """Train one linear layer on a frozen pooler, at the rate of 3e-2 that paper B's code has.

    What is not said there is Hugging Face's default for this recipe: three epochs of batches of 32,
    AdamW without decay, a rate that falls linearly to zero, dropout of 0.1 on what the layer reads,
    weights drawn from N(0, 0.02²), cross-entropy, or squared errors for numbers.
    """
    generator = torch.Generator().manual_seed(seed)
    read, right = torch.from_numpy(features).float(), torch.tensor(list(labels))
    layer = nn.Linear(read.shape[1], max(classes, 1))
    with torch.no_grad():
        layer.weight.copy_(torch.randn(layer.weight.shape, generator=generator) * 0.02)
        layer.bias.zero_()
    total = EPOCHS * -(-len(read) // BATCH)
    optimizer = torch.optim.AdamW(layer.parameters(), lr=RATE, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / total)
    with torch.enable_grad():
        for _ in range(EPOCHS):
            for rows in torch.randperm(len(read), generator=generator).split(BATCH):
                kept = torch.rand(len(rows), read.shape[1], generator=generator) >= DROPOUT
                said = layer(read[rows] * kept / (1 - DROPOUT))
                if classes:
                    loss = nn.functional.cross_entropy(said, right[rows].long())
                else:
                    loss = nn.functional.mse_loss(said[:, 0], right[rows].float())
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
    width = read.shape[1]
    return Linear(
        layer.weight.detach().double().numpy(), layer.bias.detach().double().numpy(),
        np.zeros(width), np.ones(width), np.arange(classes, dtype=np.int64),
    )  # fmt: skip
