"""How modules of an exported model are called, and what they return; copied with its modeling file.

Part of impasto, Apache-2.0.
"""

from __future__ import annotations

import inspect
from typing import Any

import torch


def named(module: Any, args: Any, kwargs: Any) -> dict[str, Any]:
    """Return a module's call arguments by name."""
    names = list(inspect.signature(type(module).forward).parameters)[1:]
    return dict(zip(names, args, strict=False)) | kwargs


def takes_positions(module: Any) -> bool:
    """Whether a module's forward is told the positions of tokens."""
    return "position_ids" in inspect.signature(type(module).forward).parameters


def silent(module: Any, outputs: int) -> Any:
    """Return a forward that adds nothing to the residual stream."""
    names = list(inspect.signature(type(module).forward).parameters)[1:]

    def forward(*args: Any, **kwargs: Any) -> Any:
        given = dict(zip(names, args, strict=False)) | kwargs
        adds_itself = "residual" in names
        states = given["residual"] if adds_itself else torch.zeros_like(given[names[0]])
        return wrapped(states, outputs)

    return forward


def wrapped(states: Any, outputs: int) -> Any:
    """Return states as a module does that returns so many ``outputs``.

    0 is a bare tensor, −n a list of so many.
    """
    values = (states, *([None] * (abs(outputs) - 1)))
    return list(values) if outputs < 0 else values if outputs else states


def leave_out(model: Any, path: str, held: set[int]) -> None:
    """Empty the blocks of a model's layers that are not held, and forget what was tied to them."""
    for index, block in enumerate(model.get_submodule(path)):
        if index not in held:
            for contents in (block._modules, block._parameters, block._buffers):
                contents.clear()

    def is_there(name: str) -> bool:
        number = name.removeprefix(f"{path}.").partition(".")[0]
        return not (name.startswith(f"{path}.") and number.isdecimal()) or int(number) in held

    model.all_tied_weights_keys = {
        name: source
        for name, source in model.all_tied_weights_keys.items()
        if is_there(name) and is_there(source)
    }
