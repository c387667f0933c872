"""Comparing candidates on the same items: each is asked no more than telling them apart takes.

A candidate's objective is Σ values / Σ weights over items: of texts, the divergence of their tokens
over their tokens. Smaller is better. All candidates of a race are asked the same items, so that
their differences are paired; those that are clearly behind drop out early, and the survivors are
asked more.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from impasto.plan import Plan
from impasto.searching.edits import Candidate, Space

STAGES = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0)  # shares of the items, one after the other
CLEARLY = 3.0  # standard errors of the paired difference; the leader of many is a lucky one


Ask = Callable[[Sequence[Plan], float], tuple[np.ndarray, np.ndarray]]
"""Put the first share of all items to plans: values, (plans, items), and weights, (items,)."""


@dataclass(frozen=True, slots=True)
class Scored:
    """A candidate with its objective on the share of the items that it was asked."""

    candidate: Candidate
    plan: Plan
    objective: float
    share: float


class Judge:
    """What every candidate said so far, and who is best."""

    def __init__(self, space: Space, ask: Ask) -> None:
        self.space = space
        self._ask = ask
        self._known: dict[str, tuple[float, np.ndarray]] = {}  # by plan's digest: share and values
        self._weights: dict[float, np.ndarray] = {}
        self._candidates: dict[str, Candidate] = {}
        self._plans: dict[Candidate, Plan] = {}

    def plan(self, candidate: Candidate) -> Plan:
        """Return the candidate's plan."""
        if candidate not in self._plans:
            self._plans[candidate] = self.space.plan(candidate)
        return self._plans[candidate]

    def race(self, candidates: Sequence[Candidate], count: int = 1) -> list[Candidate]:
        """Return the best so many candidates, the best first, each asked all items."""
        alive = list({self.plan(one).digest: one for one in candidates}.values())
        for share in STAGES:
            values, weights = self._asked(alive, share)
            alive = self._survivors(alive, values, weights, count)
        return alive[:count]

    def measure(self, candidates: Sequence[Candidate], share: float = 1.0) -> list[float]:
        """Return candidates' objectives on a share of the items, without dropping any."""
        values, weights = self._asked(list(candidates), share)
        return (values.sum(1) / weights.sum()).tolist()

    def objective(self, candidate: Candidate) -> float:
        """Return a candidate's objective on all items that it was asked; infinite if on none."""
        known = self._known.get(self.plan(candidate).digest)
        return np.inf if known is None else self._mean(*known)

    @property
    def tried(self) -> list[Scored]:
        """Every candidate that was asked anything, in the order in which they were."""
        return [
            Scored(one, self.plan(one), self._mean(*self._known[digest]), self._known[digest][0])
            for digest, one in self._candidates.items()
        ]

    @property
    def objectives(self) -> Mapping[Candidate, float]:
        """The objective of every candidate that was asked anything."""
        return {one.candidate: one.objective for one in self.tried}

    def _survivors(
        self, alive: Sequence[Candidate], values: np.ndarray, weights: np.ndarray, count: int
    ) -> list[Candidate]:
        """Return the candidates that are not clearly worse than the last of the best so many."""
        means = values.sum(1) / weights.sum()
        order = np.argsort(means, kind="stable")
        if len(order) <= count:
            return [alive[at] for at in order]
        apart = values - values[order[count - 1]]
        behind = apart.sum(1) / weights.sum()
        spread = (apart - behind[:, None] * weights).std(1, ddof=1) if len(weights) > 1 else np.inf
        error = np.sqrt(len(weights)) * spread / weights.sum()
        stays = ~(behind > CLEARLY * error)
        stays[order[:count]] = True
        return [alive[at] for at in order if stays[at]]

    def _asked(
        self, candidates: Sequence[Candidate], share: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the candidates' values of the first share of the items, and these' weights."""
        lacking: dict[str, Plan] = {}
        for one in candidates:
            plan = self.plan(one)
            if self._known.get(plan.digest, (0.0,))[0] < share:
                lacking[plan.digest] = plan
                self._candidates.setdefault(plan.digest, one)
        if lacking:
            values, self._weights[share] = self._ask(list(lacking.values()), share)
            self._known |= {
                digest: (share, row) for digest, row in zip(lacking, values, strict=True)
            }
        known = [self._known[self.plan(one).digest] for one in candidates]
        if any(of > share for of, _ in known):  # asked more by now: their first items again
            return self._ask([self.plan(one) for one in candidates], share)
        return np.stack([values for _, values in known]), self._weights[share]

    def _mean(self, share: float, values: np.ndarray) -> float:
        return float(values.sum() / self._weights[share].sum())
