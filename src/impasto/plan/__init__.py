"""Plans as values: the notation, its canonical spelling, digests, diagrams. No torch here.

``Plan`` is how one forward pass runs; ``steps`` holds what it is made of. Reading goes through
``tokens`` and ``notation``, printing through ``items`` (the compressed form) and then ``spelling``,
``diagram``, ``picture`` or ``words``.
"""

from impasto.plan.counted import count_of_plans
from impasto.plan.diagram import diagram
from impasto.plan.error import PlanError
from impasto.plan.picture import picture
from impasto.plan.plan import Occurrences, Plan
from impasto.plan.steps import (
    Freeze,
    Inject,
    Layer,
    Marker,
    Noise,
    NoiseKind,
    Parallel,
    Part,
    Reach,
    Step,
    walk,
)
from impasto.plan.words import in_words

__all__ = [
    "Freeze",
    "Inject",
    "Layer",
    "Marker",
    "Noise",
    "NoiseKind",
    "Occurrences",
    "Parallel",
    "Part",
    "Plan",
    "PlanError",
    "Reach",
    "Step",
    "count_of_plans",
    "diagram",
    "in_words",
    "picture",
    "walk",
]
