"""Sweeps over depth that paper A does not have: attention narrowed, and only the prompt frozen.

They look as the paper's do. Beside each stands the paper's manipulation that goes further, where a
study has it: attention that is skipped, earlier tokens that are all frozen.
"""

import re
from collections.abc import Iterator, Sequence

from impasto.figures.found import Found
from impasto.figures.paper_a import Sweep, manipulated
from impasto.figures.picture import Picture
from impasto.strategies import STRATEGIES

EVERY = re.compile(r".*")
NARROWED = Sweep(
    {"reach": STRATEGIES["reach"].entry},
    "attention narrowed from layer k on",
    "narrowed from ",
    ("drop_attention_from",),
)
PROMPT = Sweep(
    {"freeze_prompt": STRATEGIES["freeze_prompt"].entry},
    "the prompt frozen from depth k on",
    "frozen from ",
    ("freeze",),
)


def narrowed(founds: Sequence[Found]) -> Iterator[Picture]:
    """Draw, for each task, attention that sees less from layer k on, for each reach."""
    return manipulated(founds, EVERY, "reach", ["capitals"], NARROWED)


def prompt(founds: Sequence[Found]) -> Iterator[Picture]:
    """Draw, for each task, the prompt frozen from depth k on."""
    return manipulated(founds, EVERY, "freeze_prompt", ["capitals"], PROMPT)
