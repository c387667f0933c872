"""One layer of a plan on stretches of tokens, each from the state that was left to it.

For the executor of sequences that run as they are (:mod:`impasto.run.execute.sequential`).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from impasto.model.decoder import OpenedModel
from impasto.model.structure.block import Entered
from impasto.plan.program import RunLayer
from impasto.run.execute.branches import scaled
from impasto.run.execute.handed import Handing
from impasto.run.execute.stretch_calls import Path, StretchCall, habits_of
from impasto.run.kv.states import CarriedState, LayerState, RowsRead


@dataclass(frozen=True)
class StretchLayer:
    """A layer, and what it reads and writes beside its states.

    Attributes:
        model: The model.
        run: The layer.
        handing: The keys and values that it shares with others; None where no layers do.
    """

    model: OpenedModel
    run: RunLayer
    handing: Handing | None

    def through(
        self, rows: Tensor, call: StretchCall, state: LayerState | None
    ) -> tuple[Tensor, LayerState | None]:
        """Run it on the rows of a stretch; return them, and the state that it leaves."""
        by_token = isinstance(state, CarriedState) and state.length > 0 and rows.shape[1] > 1
        if not by_token or habits_of(self.model).goes_on == "stretches":
            return self._block(rows, call.entered, state, self._path(call, 0, rows.shape[1]))
        after = []
        for place, row in enumerate(rows.split(1, 1)):
            path = self._path(call, place, place + 1)
            row, state = self._block(row, call.entered_at(place), state, path)
            after.append(row)
        return torch.cat(after, 1), state

    def through_current(self, rows: Tensor, call: StretchCall, state: LayerState | None) -> Tensor:
        """Run it on the scored first rows of a stretch, as current ones, from a copy of a state."""
        own = None if state is None else state.select(call.current)
        path = None if self.handing is None else call.path_of_current
        return self._block(rows, call.entered_current, own, path)[0]

    def _path(self, call: StretchCall, begin: int, end: int) -> Path | None:
        return None if self.handing is None else call.path(begin, end)

    def _block(
        self, rows: Tensor, entered: Entered, state: LayerState | None, path: Path | None
    ) -> tuple[Tensor, LayerState | None]:
        """Run the block on the next rows of sequences; return them, and the state that it leaves.

        What it adds counts as often as its scale says.
        """
        after, left = self._called(rows, entered, state, path)
        return (after if self.run.scale == 1 else scaled(self.run.scale, rows, after)), left

    def _called(
        self, rows: Tensor, entered: Entered, state: LayerState | None, path: Path | None
    ) -> tuple[Tensor, LayerState | None]:
        run = self.run
        block, arguments = self.model.blocks[run.layer], entered.arguments[run.layer]
        if isinstance(state, RowsRead):
            every = torch.cat([state.rows.to(rows.device), rows], 1)
            return block(every, arguments, run.part)[:, -rows.shape[1] :], RowsRead(every)
        given = None
        if self.handing is not None and path is not None and run.part != "mlp":
            given = self.handing.mapping(path, rows.device)
            arguments = arguments | {self.handing.sharing.argument: given}
        if isinstance(state, CarriedState):
            arguments = arguments | {self.model.habits.cache_argument: state}
            if "use_cache" in arguments:
                arguments["use_cache"] = True
        after = block(rows, arguments, run.part)
        if self.handing is not None and path is not None and given is not None:
            self.handing.note(given, path)
        if isinstance(state, CarriedState):
            state.layer.length += rows.shape[1]
            return after, state
        return after, None
