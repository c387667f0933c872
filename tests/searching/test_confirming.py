from math import comb

import numpy as np
import pytest

from impasto.plan import Plan
from impasto.searching.confirming import LEVEL, collapsed, holm, mid_p, some_of
from impasto.searching.found import Confirmed


@pytest.mark.parametrize(
    ("lost", "gained"), [(0, 0), (1, 1), (0, 5), (3, 9), (9, 3), (20, 41), (7, 7)]
)
def test_mid_p_is_the_exact_one_less_half_of_what_was_seen(lost, gained):
    n, fewer = lost + gained, min(lost, gained)
    chances = [comb(n, k) / 2**n for k in range(n + 1)]
    seen = chances[fewer]
    as_far = [p for k, p in enumerate(chances) if abs(2 * k - n) >= abs(lost - gained)]
    weight = 0.5 * (seen if lost == gained else 2 * seen)
    assert mid_p(lost, gained) == pytest.approx(1.0 if not n else sum(as_far) - weight)


def test_the_published_example():  # Fagerland and others (2013), table 1: 1 and 7 apart
    assert mid_p(1, 7) == pytest.approx(0.0391, abs=1e-4)


def test_holm_corrects_in_the_order_of_the_p_values():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def searched(rng, plans, n, lost, gained):
    """Return the counts of the best few of many plans, on the items that chose and on new ones."""
    losing, gaining = rng.binomial(n, lost, plans), rng.binomial(n, gained, plans)
    front = np.argsort(losing - gaining, kind="stable")[:5]
    at = lambda chance: np.broadcast_to(chance, plans)[front]  # noqa: E731
    return rng.binomial(n, at(lost)), rng.binomial(n, at(gained))


def called_better(lost, gained):
    p = holm([mid_p(int(a), int(b)) for a, b in zip(lost, gained, strict=True)])
    return any(p < LEVEL and b > a for p, a, b in zip(p, lost, gained, strict=True))


@pytest.mark.parametrize("apart", [0.04, 0.2])
def test_plans_that_equal_the_baseline_are_seldom_called_better(apart):
    rng = np.random.default_rng(0)
    wrong = sum(called_better(*searched(rng, 1000, 500, apart / 2, apart / 2)) for _ in range(300))
    assert wrong <= 0.05 * 300


@pytest.mark.parametrize(("apart", "least"), [(0.04, 0.8), (0.1, 0.7)])
def test_a_plan_that_is_better_is_found(apart, least):
    rng, chances = np.random.default_rng(1), np.full((2, 1000), apart / 2)
    chances[:, 17] = chances[:, 17] + [-min(0.025, apart / 4), 0.05 - min(0.025, apart / 4)]
    assert chances[1, 17] - chances[0, 17] == pytest.approx(0.05)  # five points better
    found = sum(called_better(*searched(rng, 1000, 500, *chances)) for _ in range(300))
    assert found >= least * 300


def confirmed(plan, task, kind, difference, p):
    return Confirmed(
        plan, task, task, "exact_match", 0.9 + difference, 0.9, 100, difference, difference - 0.05,
        difference + 0.05, p, p, kind,
    )  # fmt: skip


def test_a_plan_that_only_writes_badly_is_named():
    chosen, other = Plan.parse("0-2", layers=4), Plan.parse("1-3", layers=4)
    some = [
        confirmed(chosen, "arc", "choice", -0.01, 0.8),
        confirmed(chosen, "gsm8k", "generation", -0.7, 1e-6),
        confirmed(other, "arc", "choice", -0.4, 1e-6),
        confirmed(other, "gsm8k", "generation", -0.7, 1e-6),
    ]
    [sentence] = collapsed(some, {"arc": 0.25, "gsm8k": 0.0})
    assert sentence.startswith("0-2 keeps 98 % ")
    assert "its generation has collapsed" in sentence
    assert not list(collapsed(some[:1], {}))


def test_a_loss_that_may_be_chance_is_no_collapse():
    plan = Plan.parse("0-2", layers=4)
    some = [
        confirmed(plan, "arc", "choice", -0.01, 0.8),
        confirmed(plan, "gsm8k", "generation", -0.7, 0.2),
    ]
    assert not list(collapsed(some, {}))


def test_the_best_and_some_of_the_front_are_confirmed_but_not_the_full_model():
    front = [Plan.parse(f"0-{n}", layers=30) for n in range(1, 30)]
    some = some_of(front, front[10], Plan.identity(30), most=5)
    assert some[0] == front[10]
    assert len(some) == len(set(some)) == 5
    assert front[0] in some
    assert front[-2] in some
    assert Plan.identity(30) not in some
