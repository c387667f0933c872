"""Critical depths: as measured, between which depths they lie, and how often that is right."""

from typing import Any

import numpy as np
import pytest

from analysis.tables import records, table
from impasto.analysis import Changes, critical_depths, depth_curves, item_scores
from impasto.analysis.critical import critical_of
from thinning import thinned

RNG = np.random.default_rng(4)
N = 200
RIGHT = RNG.random(N) < 0.9


def study(items, right=RIGHT, seeds=None, metric="exact_match"):
    """Return the table and the records of a manipulation's items by depth."""
    kept = records("capitals", "b", **{metric: right.astype(float).tolist()})
    common = {"metric": metric, "n": len(right), "baseline": right.mean()}
    rows = [common | {"strategy": "baseline", "digest": "b", "value": right.mean()}]
    for k, given in items.items():
        for seed, values in enumerate(given if seeds else [given]):
            digest = "b" if np.array_equal(values, right) and k == 4 else f"{k} {seed}"
            if digest != "b":
                kept += records("capitals", digest, **{metric: values.astype(float).tolist()})
            own = {"strategy": "gaussian", "k": k, "seed": seed if seeds else None}
            rows.append(common | own | {"digest": digest, "value": values.mean()})
    return table(*rows), kept


def spared(shares, right=RIGHT, rng=RNG):
    drawn = rng.random(len(right))
    return {k: right & (drawn < share) for k, share in enumerate(shares)}


def critical(items, **more) -> Any:
    frame, kept = study(items, **more)
    [curve] = depth_curves(frame)
    return critical_of(Changes(frame, item_scores(kept)), curve)


def test_the_critical_depth_lies_in_its_interval_and_a_clear_curve_leaves_one_depth():
    found = critical(spared((0.1, 0.5, 0.94, 1.0, 1.0)))
    assert found.low <= found.critical <= found.high
    clear = critical({0: RIGHT & False, 1: RIGHT, 2: RIGHT})
    assert (clear.low, clear.critical, clear.high) == (1, 1, 1)
    assert set(clear.matters) == {0}
    assert clear.within == {1, 2}
    assert critical({0: RIGHT & False}).low is None


def test_few_questions_leave_it_open():
    few = np.array([True] * 3)
    found = critical({0: few & False, 1: few, 2: few}, right=few)
    assert found.critical == 1
    assert found.high is None
    assert not found.is_told


def test_a_depth_at_which_nothing_is_left_is_the_baseline_and_says_nothing():
    few = np.array([True] * 10)
    found = critical({3: few, 4: few}, right=few)
    assert found.idle == {4}
    assert (found.high, found.sure_high) == (4, None)


@pytest.mark.parametrize("n", thinned([3, 10, 40, 300], 4))
def test_of_a_manipulation_that_costs_too_much_at_every_depth_it_is_seldom_said_to_stop(n):
    """Every depth loses 5.1 points more or less, so that no depth is the critical one."""
    rng, wrong = np.random.default_rng(n), 0
    for _ in range(200):
        right = np.ones(n, bool)
        found = critical({k: right & (rng.random(n) < 0.949) for k in range(13)}, right=right)
        wrong += found.high is not None
    assert wrong <= 0.05 * 200


@pytest.mark.parametrize("n", thinned([10, 300], 2))
def test_of_a_manipulation_that_costs_little_it_is_seldom_said_to_matter(n):
    rng, wrong = np.random.default_rng(n), 0
    for _ in range(200):
        right = np.ones(n, bool)
        wrong += bool(
            critical({k: right & (rng.random(n) < 0.951) for k in range(13)}, right=right).matters
        )
    assert wrong <= 0.05 * 200


def test_the_interval_covers_the_true_critical_depth():
    shares = (0.2, 0.6, 0.9, 0.93, 0.96, 0.99, 1.0)  # of what is right: from depth 4 on within
    rng, missed = np.random.default_rng(9), 0
    for _ in range(150):
        right = np.ones(400, bool)
        found = critical(spared(shares, right, rng), right=right)
        low, high = (9 if end is None else end for end in (found.low, found.high))
        missed += not low <= 4 <= high
    assert missed <= 0.05 * 150


def test_the_table_has_a_row_for_each_curve_and_seeds_are_averaged():
    drawn = spared((0.1, 0.5, 0.99, 1.0))
    items = {k: [values, RIGHT & (RNG.random(N) < 0.99) & values] for k, values in drawn.items()}
    frame, kept = study(items, seeds=2)
    [found] = critical_depths(frame, kept).to_dict(orient="records")
    assert (found["strategy"], found["n"]) == ("gaussian", N)
    assert found["low"] <= found["critical"] <= found["high"]
    missing = frame.assign(value=frame["value"].where(frame["k"].ne(2).fillna(True)))
    assert critical_depths(missing, kept).empty


def test_items_that_cannot_be_paired_leave_more_open():
    items = {0: RIGHT & False, 1: RIGHT, 2: RIGHT}
    frame, _ = study(items)
    [curve] = depth_curves(frame)
    unpaired: Any = critical_of(Changes(frame, {}), curve)
    assert (unpaired.low, unpaired.high) == (1, None)


def test_a_perplexity_may_be_five_percent_more():
    log_p = RNG.normal(-2, 0.5, size=80)
    moved = {0: log_p - 1, 1: log_p - 0.045, 2: log_p - 0.001 * RNG.random(80)}
    kept, rows = records("t", "b", perplexity=log_p.tolist()), []
    base = np.exp(-log_p.mean())
    for k, values in moved.items():
        kept += records("t", f"{k}", perplexity=values.tolist())
        rows.append({"strategy": "freeze", "k": k, "digest": f"{k}"})
        rows[-1]["value"] = np.exp(-values.mean())
    rows.append({"strategy": "baseline", "digest": "b", "value": base})
    frame = table(*(row | {"task": "t", "metric": "perplexity", "baseline": base} for row in rows))
    [curve] = depth_curves(frame)
    assert curve.critical_depth() == 1
    found: Any = critical_of(Changes(frame, item_scores(kept)), curve)
    assert (found.low, found.critical, found.high) == (1, 1, 1)
