"""Seconds of plans, put together from what their parts take.

A search asks what thousands of plans take, far more than can be timed. So the full model's parts
are timed once, layer by layer, and a plan takes what its parts do. What a search chooses is timed
itself.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import TYPE_CHECKING

from impasto.plan import Plan
from impasto.plan.steps import Layer, walk
from impasto.searching.budget import TOKENS

if TYPE_CHECKING:
    from jaxtyping import Int
    from torch import Tensor

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


def time_parts(model: "Model") -> PartTimes:
    """Time the parts of a model, reading a prompt and one token behind it."""
    from impasto.speed.profile import REST, profile

    ids, plan = _prompt(model), Plan.identity(model.num_layers)
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


def time_plan(model: "Model", plan: Plan) -> float:
    """Time a plan and the full model in turns; return its seconds as a share of the full model's.

    Both read a prompt and one token behind it. It is the median over rounds.
    """
    from impasto.speed.clock import in_turns
    from impasto.speed.ways import run

    ids, full = _prompt(model), Plan.identity(model.num_layers)

    def seconds(plan: Plan) -> float:
        timed = run(model, "apply", plan, ids, 1)
        return timed.prefill + (timed.token or 0.0)

    works = {"plan": partial(seconds, plan), "full": partial(seconds, full)}
    found = in_turns(works, ROUNDS)
    return median(a / b for a, b in zip(found["plan"], found["full"], strict=True))


def _prompt(model: "Model") -> "Int[Tensor, '1 tokens']":
    """Return a prompt as long as the model reads, with room for two tokens behind it."""
    from impasto.speed.bench import random_tokens

    longest = model.max_positions
    return random_tokens(model, 1, TOKENS if longest is None else min(TOKENS, longest - 2), 0)
