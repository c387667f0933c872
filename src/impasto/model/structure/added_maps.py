"""Maps behind modules: what a module gives, s, becomes s + B·s.

A plan's healing puts one where no weight of a layer can take it. It is a child of its module, so
it is copied, stored and moved with the model, and every call of the module runs it. The
configuration says where maps are, so that whatever builds the model anew can put them back. An
exported folder has a copy of this file, which needs torch alone.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

CHILD = "added_map"  # what the map is called in its module
CONFIGURED = "impasto_maps"  # in the configuration: the width of each, by its module's name


def put_maps(model: Any, maps: Mapping[str, int]) -> None:
    """Put maps behind some modules of a model; they add nothing until their weights are read.

    Args:
        model: The model.
        maps: The width of what each module gives, by its name.
    """
    for name, width in maps.items():
        module = model.get_submodule(name)
        child = nn.Linear(width, width, bias=False, device="meta")  # so that no chance is drawn
        child.weight = nn.Parameter(torch.zeros(width, width))
        setattr(module, CHILD, child)
        module.register_forward_hook(_mapped)


@torch.no_grad()
def add_map(model: Any, name: str, weight: Tensor) -> None:
    """Put a map behind a module of a Hugging Face model, or behind the map that is there.

    Args:
        model: The model; its configuration is told.
        name: The module's name.
        weight: The map's matrix B.
    """
    module = model.get_submodule(name)
    some = next(module.parameters(), next(model.parameters()))
    before = getattr(module, CHILD, None)
    if before is None:
        put_maps(model, {name: len(weight)})
        setattr(model.config, CONFIGURED, maps_of(model.config) | {name: len(weight)})
    else:  # (1 + B)(1 + A) = 1 + A + B + B·A
        old = before.weight.double()
        weight = old + weight.double() + weight.double() @ old
    own = weight.to(some.device, some.dtype).contiguous()
    getattr(module, CHILD).weight = nn.Parameter(own, requires_grad=False)


def maps_of(config: Any) -> dict[str, Any]:
    """Return the width of each map, by its module's name, as a configuration says it."""
    found = getattr(config, CONFIGURED, None)
    return dict(found) if isinstance(found, Mapping) else {}


def _mapped(module: nn.Module, args: Any, output: Any) -> Any:
    """Return a module's output with the map of it added; of several outputs that of the first."""
    states = output[0] if isinstance(output, tuple) else output
    states = states + getattr(module, CHILD)(states)
    return (states, *output[1:]) if isinstance(output, tuple) else states
