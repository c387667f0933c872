"""What plans cost in time and memory: measured beside what is predicted.

``ways`` run a plan, ``clock`` times them in turns, ``spread`` says how sure the times are;
``bench`` puts all of it together for prompts and tokens, ``one_token`` for paper C's measure,
``costs`` for a study. ``profile`` splits one plan's time. ``table`` makes rows of what was found.
``shapes`` are models with random weights.
"""

from impasto.speed.bench import Bench, Held, Plans, Settings, Time, bench
from impasto.speed.costs import Costs, costs_of
from impasto.speed.one_token import OneToken, one_token
from impasto.speed.profile import Profile, profile
from impasto.speed.shapes import SHAPES, random_model

__all__ = [
    "SHAPES",
    "Bench",
    "Costs",
    "Held",
    "OneToken",
    "Plans",
    "Profile",
    "Settings",
    "Time",
    "bench",
    "costs_of",
    "one_token",
    "profile",
    "random_model",
]
