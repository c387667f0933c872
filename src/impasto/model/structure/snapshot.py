"""What a model consists of at some moment, so that it can be said later whether that has changed.

What is found out about a model when it is opened holds for the modules and settings that it had
then. Layers are pruned, parts are replaced and configurations are edited in place; whoever relies
on what was found compares first. Modules are compared by identity, weights by their shapes: they
may be trained, moved and offloaded, for their values are read anew by every call.
"""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from operator import is_
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel


@dataclass(frozen=True, eq=False)
class Snapshot:
    """A model's modules, the shapes of its weights, and its settings.

    The model itself is not held, only what is inside it.
    """

    inside: Sequence[tuple[nn.Module, tuple[Any, ...], tuple[Any, ...]]]
    children: tuple[nn.Module | None, ...]
    settings: dict[str, Any]
    number: tuple[torch.dtype, torch.device]

    @classmethod
    def of(cls, hf: PreTrainedModel) -> "Snapshot":
        """Return what a model consists of now."""
        inside = [
            (module, tuple(module._modules.values()), _shapes(module))
            for module in hf.modules()
            if module is not hf
        ]
        children = tuple(hf._modules.values())
        return cls(inside, children, deepcopy(_settings(hf.config)), (hf.dtype, hf.device))

    def is_of(self, hf: PreTrainedModel) -> bool:
        """Whether a model still consists of the same."""
        return (
            _are_same(hf._modules.values(), self.children)
            and all(
                _are_same(module._modules.values(), children) and _shapes(module) == shapes
                for module, children, shapes in self.inside
            )
            and (hf.dtype, hf.device) == self.number
            and _settings(hf.config) == self.settings
        )


def _shapes(module: nn.Module) -> tuple[Any, ...]:
    return tuple(None if w is None else w.shape for w in module._parameters.values())


def _are_same(modules: Any, others: tuple[Any, ...]) -> bool:
    return len(modules) == len(others) and all(map(is_, modules, others))


def _settings(config: PreTrainedConfig) -> dict[str, Any]:
    """Return a configuration's settings, those of the configurations within it included."""
    return {
        name: _settings(value) if isinstance(value, PreTrainedConfig) else value
        for name, value in vars(config).items()
    }
