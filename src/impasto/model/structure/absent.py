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
from transformers import PreTrainedModel

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


def begin_without(hf: PreTrainedModel, path: str, layers: Collection[int]) -> None:
    """Make every layer absent but some, in a model whose weights are yet to be read.

    Args:
        hf: The model.
        path: The name of its list of blocks.
        layers: The layers that are to be there.
    """
    blocks: Any = hf.get_submodule(path)
    empty_blocks(blocks, layers)
    tied = hf.all_tied_weights_keys
    hf.all_tied_weights_keys = {
        name: source
        for name, source in tied.items()
        if {_layer_of(name, path), _layer_of(source, path)} <= {None, *layers}
    }
    owner = hf.get_submodule(path.rpartition(".")[0])
    if isinstance(owner, PreTrainedModel):
        owner.__dict__["_init_weights"] = partial(_draw_present, owner, blocks)


def weights_are_read(hf: PreTrainedModel, path: str) -> None:
    """Let a model that :func:`begin_without` has begun be one of its family like any other."""
    hf.get_submodule(path.rpartition(".")[0]).__dict__.pop("_init_weights", None)


def with_tied(hf: PreTrainedModel, path: str, layers: Collection[int]) -> frozenset[int]:
    """Return layers, and those whose weights theirs are tied to (Zamba's attention, for one)."""
    pairs = [
        (_layer_of(name, path), _layer_of(source, path))
        for name, source in hf.all_tied_weights_keys.items()
    ]
    return frozenset(layers) | {at for layer, at in pairs if layer in layers and at is not None}


def _layer_of(name: str, path: str) -> int | None:
    number = name.removeprefix(f"{path}.").partition(".")[0]
    return int(number) if name.startswith(f"{path}.") and number.isdecimal() else None


def _draw_present(owner: PreTrainedModel, blocks: nn.ModuleList, module: nn.Module) -> None:
    """Draw a module's weights as its family does, whose code may go through all layers."""
    every = blocks._modules
    present = [block for block in blocks if not is_absent(block)]
    blocks._modules = {str(place): block for place, block in enumerate(present)}
    try:
        type(owner)._init_weights(owner, module)
    finally:
        blocks._modules = every


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
