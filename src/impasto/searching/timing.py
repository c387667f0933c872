"""Seconds of plans, put together from what their parts take.

A search asks what thousands of plans take, far more than can be timed. So the full model's parts
are timed once, layer by layer, and a plan takes what its parts do. `impasto bench` times a plan
itself.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

from impasto.plan import Plan
from impasto.plan.steps import Layer, walk
from impasto.searching.budget import TOKENS

if TYPE_CHECKING:
    from impasto.run import Model

ROUNDS = 9
FIXED = "fixed"


@dataclass(frozen=True)
class PartTimes:
    """Seconds of the parts of a model, by name: `attention 3`, `mlp 3`, and what is left of it.

    Both of a prompt and of a token behind it; `fixed` is what every plan takes.
    """

    seconds: Mapping[str, float]

    def of(self, plan: Plan) -> float:
        """Return what a plan takes, as far as it takes what its parts do."""
        total = self.seconds[FIXED]
        for step in walk(plan.steps):
            if isinstance(step, Layer):
                total += sum(
                    self.seconds.get(f"{part} {step.index}", 0.0) / (2 if part == "rest" else 1)
                    for part in PARTS_OF[step.part]
                )
        return total


PARTS_OF = {
    "block": ("attention", "mlp", "rest", "rest"),
    "attention": ("attention", "rest"),
    "mlp": ("mlp", "rest"),
}


def time_parts(model: "Model", tokens: int = TOKENS) -> PartTimes:
    """Time the parts of a model, reading a prompt and one token behind it."""
    from impasto.speed.bench import random_tokens
    from impasto.speed.profile import REST, profile

    longest = model.max_positions
    length = tokens if longest is None else min(tokens, longest - 2)
    ids = random_tokens(model, 1, length, 0)
    plan = Plan.identity(model.num_layers)
    found: dict[str, list[float]] = defaultdict(list)
    for _ in range(ROUNDS):
        seconds: dict[str, float] = defaultdict(float)
        for work in profile(model, plan, ids, "apply", new_tokens=2, rounds=1):
            for (part, layer), taken in work.pieces.items():
                seconds[f"{'rest' if part == REST else part} {layer}"] += taken
            seconds[FIXED] += work.seconds - sum(work.pieces.values())
        for name, taken in seconds.items():
            found[name].append(taken)
    return PartTimes({name: median(taken) for name, taken in sorted(found.items())})
