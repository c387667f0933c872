"""Keys and values that layers hand on to others, where rows are not packed.

What an occurrence has written (:class:`impasto.model.sharing.Sharing`) is kept row by row of the
token tree, that of current rows apart, so that a layer that reads it may run in other stretches
than the one that wrote it. What was read before the tree lies in the state of the occurrence that
wrote it, and is taken from there.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from impasto.model.sharing import Sharing
from impasto.plan.program import Occurrence, RunLayer
from impasto.run.execute.stretch_calls import Path
from impasto.run.kv.states import CarriedState, LayerState

KeysValues = tuple[Tensor, ...]
"""Keys and values of rows: rows × heads × width each."""


@dataclass(frozen=True)
class Handed:
    """Keys and values that an occurrence has written.

    Attributes:
        by: The occurrence.
        earlier: Those of each row of the tree, joint or earlier.
        current: Those of each scored row as a current one, once rows are split.
    """

    by: Occurrence
    earlier: KeysValues
    current: KeysValues | None = None

    def split(self, scored: Int[Tensor, "scored"]) -> "Handed":
        """Return them once rows are split: current rows begin as copies of the joint ones."""
        current = tuple(each[scored.to(each.device)] for each in self.earlier)
        return Handed(self.by, self.earlier, current)


@dataclass
class Handing:
    """What one layer reads of the keys and values of others, and writes for others.

    Attributes:
        sharing: Which layers do.
        run: The layer.
        handed: What was written before, by name.
        past: The states before the tree; None where nothing was read before.
        counts: How many rows the tree has, and how many of them are scored.
    """

    sharing: Sharing
    run: RunLayer
    handed: Mapping[Any, Handed]
    past: Mapping[Occurrence, LayerState] | None
    counts: tuple[int, int]
    _new: dict[Any, tuple[KeysValues, KeysValues]] = field(default_factory=dict)

    def mapping(self, path: Path, device: torch.device) -> Any:
        """Return the mapping that a block is given, with what it reads of a path in it."""
        given = self.sharing.kind()
        for name in self.sharing.reads.get(self.run.layer, ()):
            handed = self.handed[name]
            each = (self._along(handed, place, path) for place in range(len(handed.earlier)))
            given[name] = tuple(one.transpose(1, 2).to(device) for one in each)
        return given

    def _along(self, handed: Handed, place: int, path: Path) -> Tensor:
        """Return the keys, or the values, of a path: sequences × rows × heads × width."""
        earlier = handed.earlier[place]
        device = earlier.device
        pieces = [earlier[path.rows.to(device)]]
        if self.past is not None:
            state = self.past[handed.by]
            assert isinstance(state, CarriedState), "models that share go on from their states"
            held = (state.layer.keys, state.layer.values)[place]
            assert held is not None, "keys and values were written"
            pieces.insert(0, held[path.roots.to(held.device)].transpose(1, 2).to(device))
        if path.scored is not None:
            assert handed.current is not None, "current rows were run"
            pieces.append(handed.current[place][path.scored.to(device)][:, None])
        return torch.cat(pieces, 1)

    def note(self, given: Any, path: Path) -> None:
        """Keep what a block has written of the new rows of a path."""
        for name in self.sharing.writes.get(self.run.layer, ()):
            new = [each.transpose(1, 2) for each in given[name]]
            if name not in self._new:
                kept = [
                    tuple(each.new_zeros(count, *each.shape[2:]) for each in new)
                    for count in self.counts
                ]
                self._new[name] = (kept[0], kept[1])
            for each, kept in zip(new, self._new[name][path.scored is not None], strict=True):
                rows, is_real = path.new, path.is_real
                own = each[:, -rows.shape[1] :].to(kept.device)
                kept[rows[is_real].to(kept.device)] = own[is_real.to(kept.device)]

    def after(self, is_split: bool) -> Mapping[Any, Handed]:
        """Return what is written by now."""
        by = self.run.occurrence
        if by is None or not self._new:
            return self.handed
        new = {
            name: Handed(by, earlier, current if is_split else None)
            for name, (earlier, current) in self._new.items()
        }
        return {**self.handed, **new}
