"""Layers that are not there: emptied blocks that keep a model's shape and cost nothing.

An absent layer keeps its place in the list of blocks, its class and its plain attributes (what kind
of mask it reads, for instance), so that the model's own forward goes on as ever around it. Its
parameters and parts are gone: they are neither read from disk nor held in memory.
"""

from collections.abc import Collection, Iterable
from functools import partial
from itertools import groupby
from typing import Any

from torch import nn

from impasto.error import UserError


def empty_blocks(blocks: nn.ModuleList, kept: Collection[int]) -> None:
    """Make every block absent whose number is not among ``kept``."""
    for index, block in enumerate(blocks):
        if index not in kept:
            block._modules.clear()
            block._parameters.clear()
            block._buffers.clear()
            block.__dict__["forward"] = partial(_refuse, index)


def is_absent(block: nn.Module) -> bool:
    """Whether a block of a model is an absent layer."""
    return not block._modules


def first_present(blocks: Iterable[nn.Module]) -> nn.Module | None:
    """Return the first block that is there."""
    return next((block for block in blocks if not is_absent(block)), None)


def spans(layers: Iterable[int]) -> str:
    """Return layers as a reader would list them: 0-2, 5."""
    runs = groupby(enumerate(sorted(layers)), key=lambda pair: pair[1] - pair[0])
    ends = [(run[0][1], run[-1][1]) for run in (list(group) for _, group in runs)]
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in ends)


def _refuse(index: int, *args: Any, **kwargs: Any) -> Any:
    raise UserError(
        f"layer {index} is not loaded: the model was loaded for a plan that does not name it; "
        "load it without plan= for all layers"
    )
