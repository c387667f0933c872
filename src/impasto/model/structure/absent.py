"""Absent layers: blocks without weights, for models that are loaded for one plan.

An absent layer keeps its place in the list of blocks, its class and its plain attributes (the kind
of mask it reads, for instance), so the model's own forward works as ever around it. It has neither
parameters nor parts: they are not read from disk and take no memory.
"""

from collections.abc import Collection, Iterable
from functools import partial
from itertools import groupby
from typing import Any

from torch import nn

from impasto.error import UserError


def empty_blocks(blocks: nn.ModuleList, layers: Collection[int]) -> None:
    """Make every block absent whose index is not among ``layers``."""
    for index, block in enumerate(blocks):
        if index not in layers:
            block._modules.clear()
            block._parameters.clear()
            block._buffers.clear()
            block.__dict__["forward"] = partial(_refuse, index)
            block.__dict__["_is_hf_initialized"] = True  # some families' own code asks for weights


def is_absent(block: nn.Module) -> bool:
    """Whether a block is an absent layer."""
    return not block._modules


def first_present(blocks: Iterable[nn.Module]) -> nn.Module | None:
    """Return the first block that is loaded; None where none is."""
    return next((block for block in blocks if not is_absent(block)), None)


def spans(layers: Iterable[int]) -> str:
    """Return layers as text: ``0-2, 5``."""
    runs = groupby(enumerate(sorted(layers)), key=lambda pair: pair[1] - pair[0])
    ends = [(run[0][1], run[-1][1]) for run in (list(group) for _, group in runs)]
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in ends)


def _refuse(index: int, *args: Any, **kwargs: Any) -> Any:
    raise UserError(
        f"layer {index} is not loaded: the model was loaded for a plan that does not name it; "
        "load it without plan= for all layers"
    )
