"""Methods that look for the best candidate, on objectives whose best is known."""

from itertools import combinations

import numpy as np
import pytest

from impasto.error import UserError
from impasto.searching.budget import Bound, Budget, read_budget
from impasto.searching.edits import Space
from impasto.searching.judging import Judge
from impasto.searching.methods import METHODS, Task, check_reachable, exhaustive


class MadeUp:
    """Items whose values are a sum over edits and pairs of them, with noise of their own."""

    def __init__(self, layers=5, items=64, seed=0, noise=0.3, keep=()):
        rng = np.random.default_rng(seed)
        self.space = Space(layers, ("attention", "mlp"), frozenset(keep))
        self.single = {e: rng.lognormal(-2, 1.2) for e in self.space.edits}
        self.pair = {frozenset(p): rng.normal(0, 0.05) for p in combinations(self.space.edits, 2)}
        self.weights = rng.integers(5, 50, size=items).astype(float)
        self.noise = {e: rng.normal(0, noise, size=items) for e in self.space.edits}
        self.of, self.most = {}, {}
        self.asked = 0

    def true(self, candidate):
        both = sum(v for pair, v in self.pair.items() if pair <= candidate)
        return max(sum(self.single[e] for e in candidate) + both, 1e-3 * len(candidate))

    def ask(self, plans, share):
        items = max(1, round(share * len(self.weights)))
        for plan in plans:
            before = self.most.get(plan.digest, 0)
            self.asked += max(0, items - before)
            self.most[plan.digest] = max(before, items)
        return np.stack([self._values(plan)[:items] for plan in plans]), self.weights[:items]

    def _values(self, plan):
        candidate = self.of[plan.digest]
        noise = sum((self.noise[e] for e in candidate), np.zeros(len(self.weights)))
        noise -= (noise * self.weights).sum() / self.weights.sum()
        return (self.true(candidate) + noise) * self.weights


def task(made_up, share=0.7, seed=0):
    class Known(Judge):
        def plan(self, candidate):
            plan = super().plan(candidate)
            made_up.of[plan.digest] = candidate
            return plan

    full = 2.0 * made_up.space.layers
    parts = lambda plan: float(plan.occurrences.attention + plan.occurrences.mlp)  # noqa: E731
    budget = Budget((Bound("parts", share * full, full, parts),))
    return Task(made_up.space, budget, Known(made_up.space, made_up.ask), seed)


def optimum(made_up, count):
    some = map(frozenset, combinations(made_up.space.edits, count))
    return min(made_up.true(one) for one in some if made_up.space.allows(one))


@pytest.mark.parametrize("seed", range(6))
def test_auto_finds_the_best_of_few(seed):
    made_up = MadeUp(seed=seed)
    found = METHODS["auto"](task(made_up))
    assert len(found) == 3
    assert made_up.true(found) == pytest.approx(optimum(made_up, 3))


@pytest.mark.slow
def test_auto_asks_less_than_trying_all_and_finds_as_good():
    close = []
    for seed in range(5):
        made_up = MadeUp(layers=9, seed=seed)
        found = METHODS["auto"](task(made_up, share=0.7))
        assert len(found) == 6
        close.append(made_up.true(found) / optimum(made_up, 6))
        assert made_up.asked < 0.15 * 18564 * len(made_up.weights)
    assert np.median(close) < 1.02


@pytest.mark.parametrize("method", [name for name in METHODS if name != "exhaustive"])
def test_every_method_keeps_the_budget(method):
    made_up = MadeUp(layers=6)
    here = task(made_up, share=0.75)
    assert here.keeps(METHODS[method](here))


def test_methods_are_in_the_order_that_they_promise():
    values = {name: [] for name in ("one_shot", "greedy", "auto")}
    for seed in range(8):
        for name, found in values.items():
            made_up = MadeUp(layers=7, seed=seed)
            found.append(made_up.true(METHODS[name](task(made_up, share=0.6))))
    assert np.mean(values["auto"]) <= np.mean(values["greedy"]) <= np.mean(values["one_shot"])


def test_the_same_seed_finds_the_same_and_asks_the_same():
    twice = []
    for _ in range(2):
        made_up = MadeUp(layers=7)
        found = METHODS["evolve"](task(made_up, share=0.6, seed=3))
        twice.append((found, made_up.asked))
    assert twice[0] == twice[1]


def test_layers_that_are_kept_are_not_edited():
    made_up = MadeUp(layers=6, keep=range(3))
    here = task(made_up, share=0.9)
    found = exhaustive(here)
    assert min(edit.layer for edit in found) >= 3
    assert len(here.judge.tried) == 2**6


def test_a_budget_that_no_edit_reaches_is_refused():
    made_up = MadeUp(layers=4)
    here = task(made_up, share=0.1)
    with pytest.raises(UserError, match=r"keeps parts: 10%: the cheapest has parts: 12.5%"):
        check_reachable(here)


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ({}, "a budget bounds one or several of parts"),
        ({"part": 0.5}, "no budget 'part'; there are parts"),
        ({"parts": "lots"}, "parts is a share"),
        ({"parts": 0}, "parts is a share"),
        ({"parts": "100%"}, "no bound: the full model has 8"),
        ({"parts": True}, "parts is a share"),
    ],
)
def test_what_is_no_budget_is_refused(written, told):
    count = lambda plan: plan.occurrences.attention + plan.occurrences.mlp  # noqa: E731
    with pytest.raises(UserError, match=told):
        read_budget(written, 4, lambda measure: count)


def test_a_budget_is_a_share_or_a_number():
    count = lambda plan: plan.occurrences.attention + plan.occurrences.mlp  # noqa: E731
    for value in ("75%", 0.75, 6):
        assert read_budget({"parts": value}, 4, lambda measure: count).bounds[0].most == 6
