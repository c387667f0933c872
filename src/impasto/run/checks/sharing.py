"""Whether layers share keys and values, and which: tried, layer by layer, when a model is opened.

Each layer runs on the states that it reads in the model's own forward, on a mapping that notes what
it reads from it and writes to it. What is written must be the keys and values that the layer gives
its cache, for from there they are taken later, when a text goes on.
"""

from collections.abc import MutableMapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from impasto.model.checks.decoder import BareReading
from impasto.model.decoder import OpenedModel
from impasto.model.sharing import Sharing
from impasto.model.structure.block import Arguments
from impasto.model.structure.failing import RAISED, is_out_of_memory
from impasto.run.kv.states import CarriedState


@dataclass(frozen=True, slots=True)
class Shared:
    """Which layers of a model share keys and values, and what those of a text are.

    Attributes:
        sharing: The layers.
        written: All keys and values that are written, by name.
    """

    sharing: Sharing
    written: dict[Any, tuple[Tensor, ...]]

    def given(self, arguments: Arguments) -> Arguments:
        """Return a block's arguments with a mapping of its own, in which all is written."""
        mapping = self.sharing.kind()
        mapping.update(self.written)
        return arguments | {self.sharing.argument: mapping}


def shared_keys(model: OpenedModel, own: BareReading) -> Shared | None:
    """Return which layers share keys and values; None where none do, or something else as well."""
    ids = torch.tensor([own.ids], device=model.device)
    positions = torch.arange(ids.shape[1], device=model.device)[None]
    calls = model.enter(ids, positions).arguments
    argument = _shared_mapping([calls[layer] for layer in model.present])
    if argument is None:
        return None
    kind = type(calls[model.present[0]][argument])
    writes, reads = dict[int, tuple[Any, ...]](), dict[int, tuple[Any, ...]]()
    written: dict[Any, tuple[Tensor, ...]] = {}
    for layer in model.present:
        state = CarriedState.empty(model.hf.config.get_text_config(decoder=True))
        noting = _noting(kind)(written)
        noting.read, noting.wrote = [], []  # by what it runs from here on
        given = {argument: noting, model.habits.cache_argument: state}
        try:
            model.blocks[layer](own.before[layer], calls[layer] | given)
        except RAISED as error:
            if is_out_of_memory(error):
                raise
            return None
        writes[layer] = tuple(dict.fromkeys(noting.wrote))
        reads[layer] = tuple(name for name in dict.fromkeys(noting.read) if name in written)
        written |= {name: noting[name] for name in writes[layer]}
        if not all(_are_cached(written[name], state) for name in writes[layer]):
            return None
    if not any(reads.values()):
        return None
    return Shared(Sharing(argument, kind, writes, reads), written)


def _shared_mapping(calls: list[Arguments]) -> str | None:
    """Return the argument that is one empty mapping, the same for every layer; None for none."""
    for name, value in calls[0].items():
        is_mapping = isinstance(value, MutableMapping) and not value
        if is_mapping and all(call.get(name) is value for call in calls):
            return name
    return None


def _noting(kind: type[Any]) -> type[Any]:
    """Return a class of mappings that note which names are read and written."""

    class Noting(kind):
        read: list[Any]
        wrote: list[Any]

        def __init__(self, *args: Any) -> None:
            self.read, self.wrote = [], []
            super().__init__(*args)

        def __getitem__(self, name: Any) -> Any:
            self.read.append(name)
            return super().__getitem__(name)

        def __setitem__(self, name: Any, value: Any) -> None:
            self.wrote.append(name)
            super().__setitem__(name, value)

    return Noting


def _are_cached(written: object, state: CarriedState) -> bool:
    """Whether what was written are the keys and values in a layer's state."""
    held = (state.layer.keys, state.layer.values)
    return (
        isinstance(written, tuple)
        and len(written) == len(held)
        and all(
            isinstance(one, Tensor)
            and isinstance(other, Tensor)
            and one.ndim == 4
            and torch.equal(one, other)
            for one, other in zip(written, held, strict=True)
        )
    )
