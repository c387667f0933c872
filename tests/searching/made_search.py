"""What a search found of a made-up model, by the real methods over values that are known."""

import numpy as np

from impasto import strategies
from impasto.plan import Plan
from impasto.searching.budget import Bound, Budget
from impasto.searching.edits import DROPS, Space
from impasto.searching.found import Confirmed, Found, FoundPlan, Value
from impasto.searching.judging import Judge
from impasto.searching.methods import METHODS, Task

ITEMS = 16


def objective(plan, layers, base=0.0):
    """Return what a plan comes to: the more is left out the worse, and some by chance."""
    runs = plan.occurrences
    missing = [2 * layers - runs.attention - runs.mlp, layers - runs.attention]
    drawn = int(plan.digest[:8], 16) / 16**8
    return base + (missing[0] ** 1.5 * 0.02 + missing[1] * 0.01) * (0.2 + 3 * drawn**3)


def searched(
    method="pairs",
    layers=6,
    moves=DROPS[:2],
    base=0.0,
    title="KL divergence on Texts (notes)",
    confirmed=True,
    **more,
):
    """Return what a search found; `base` is the full model's objective."""
    space = Space(layers, moves)
    value = lambda plan: objective(plan, layers, base=base) if plan != full else base  # noqa: E731
    full = Plan.identity(layers)

    def ask(plans, share):
        items = max(1, round(share * ITEMS))
        return np.array([[value(plan)] * items for plan in plans]), np.ones(items)

    parts = lambda plan: float(plan.occurrences.attention + plan.occurrences.mlp)  # noqa: E731
    budget = Budget((Bound("parts", 1.5 * layers, 2.0 * layers, parts),))
    judge = Judge(space, ask)
    task = Task(space, budget, judge)
    judge.measure([frozenset()])
    chosen = METHODS[method](task)
    edits = {one.plan.digest: one.candidate for one in judge.tried}

    def found(plan, held_out=True):
        known = Value(1.1 * value(plan), 0.1 * abs(value(plan))) if held_out else None
        own = edits.get(plan.digest, frozenset())
        return FoundPlan(plan, own, value(plan), known, budget.costs(plan))

    best = found(judge.plan(chosen))
    rows = [
        Confirmed(best.plan, "capitals", "Capitals", "exact_match", 0.9, 0.95, 500,
                  -0.05, -0.09, -0.01, 0.004, 0.012, "generation"),
    ] if confirmed else []  # fmt: skip
    values = {
        "search": "thinner", "model": "org/demo", "layers": layers, "objective": title,
        "unit": "nats per token", "budget": str(budget), "method": method, "items": ITEMS,
        "held_out": ITEMS, "full": found(full), "best": best,
        "front": [found(plan) for plan in front_of(task)],
        "references": {
            "drop the last layers": [found(strategies.drop_last(layers, "block", 1))],
            "greedy": [best],
        },
        "tried": [found(one.plan, held_out=False) for one in judge.tried],
        "confirmed": rows, "sentences": ["The best plan runs three quarters."],
        "layer_rows": 1_234_567.0, "layer_rows_alone": 7_654_321.0, "moves": moves,
    }  # fmt: skip
    return Found(**values | more)


def front_of(task):
    """Return the plans that were asked all items and that no other beats, the cheapest first."""
    whole = [one for one in task.judge.tried if one.share == 1]
    whole.sort(key=lambda one: (task.budget.cost(one.plan), one.objective))
    best, front = np.inf, []
    for one in whole:
        if one.objective < best:
            best = one.objective
            front.append(one.plan)
    return front
