"""Branches: their mean or sum, and layers of several that run side by side, in one call.

Branches read the same states. Where weights are stacked, those whose layers are alike run on them
in one call, each layer's rows behind the other's (:mod:`impasto.model.structure.stacked_blocks`).
Which layers can is :mod:`impasto.run.apply.stacking`'s to say.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from impasto.model.arguments.counted import ArgumentsDiffer, CountedAxes, stacked_arguments
from impasto.model.structure.block import Arguments
from impasto.model.structure.stacked_blocks import StackedBlocks
from impasto.plan.program import Run, RunBranches, RunLayer
from impasto.run.execute.frames import Frame

Branch = tuple[Run, ...]
Column = tuple[RunLayer, ...]  # the layers of chains side by side, at one place of each


def alike(branches: Sequence[Branch], may_run: Callable[[Column], bool]) -> list[list[int]]:
    """Return which branches, by index, can run side by side: chains of layers that are alike."""
    runs: list[list[int]] = []
    for place, branch in enumerate(branches):
        for run in runs:
            together = [*(branches[each] for each in run), branch]
            if _are_chains(together) and all(map(may_run, columns(together))):
                run.append(place)
                break
        else:
            runs.append([place])
    return runs


def columns(chains: Sequence[Branch]) -> Iterator[Column]:
    """Yield what chains of layers run at the same place, of one after the other."""
    for column in zip(*chains, strict=True):
        yield tuple(each for each in column if isinstance(each, RunLayer))


def _are_chains(branches: Sequence[Branch]) -> bool:
    """Whether branches are as many layers one after the other, and the same parts of them.

    Each as the model itself runs it: scaled layers, or those that see less, run alone.
    """
    if any(not _is_plain(each) for branch in branches for each in branch):
        return False
    if len({len(branch) for branch in branches}) > 1:
        return False
    return all(len({layer.part for layer in column}) == 1 for column in columns(branches))


def _is_plain(run: Run) -> bool:
    return isinstance(run, RunLayer) and run.scale == 1 and run.reach is None


@dataclass(frozen=True)
class SideBySide:
    """Layers that can run side by side, during one forward.

    Attributes:
        kinds: For each such layer, the blocks of its kind.
        counted: Where blocks' arguments count sequences.
        known: Which branches can run side by side, for groups of branches that came before.
    """

    kinds: Mapping[int, StackedBlocks]
    counted: CountedAxes
    known: dict[Sequence[Branch], list[list[int]]]
    _made: dict[tuple[int, Column], Arguments] = field(default_factory=dict)

    def runs(self, branches: Sequence[Branch], frame: Frame) -> list[list[int]]:
        """Part branches, by index, into runs that go side by side on the rows of a frame."""
        if branches not in self.known:
            self.known[branches] = alike(branches, self.may_run)
        runs: list[list[int]] = []
        for run in self.known[branches]:
            is_one_call = self._is_one_call([branches[place] for place in run], frame)
            runs += [run] if is_one_call else [[place] for place in run]
        return runs

    def call(
        self, column: Column, states: Float[Tensor, "batch rows hidden"], arguments: Arguments
    ) -> Float[Tensor, "batch rows hidden"]:
        """Run layers on states, the first layer's batch entries first."""
        layers = [each.layer for each in column]
        return self.kinds[layers[0]](layers, states, arguments, column[0].part)

    def arguments(self, column: Column, frame: Frame) -> Arguments:
        """Return what layers are called with together on the rows of a frame.

        Raises:
            ArgumentsDiffer: when they cannot be.
        """
        key = (id(frame), column)
        if key not in self._made:
            calls = [frame.arguments(each.layer) for each in column]
            counted = self.counted.layers[column[0].layer]
            self._made[key] = stacked_arguments(calls, counted, len(frame.batch.ids))
        return self._made[key]

    def may_run(self, column: Column) -> bool:
        """Whether layers can run in one call, whatever each is called with."""
        kinds = [self.kinds.get(each.layer) for each in column]
        first = kinds[0]
        if first is None or any(kind is not first for kind in kinds):
            return False
        return first.may_run([each.layer for each in column])

    def _is_one_call(self, chains: Sequence[Branch], frame: Frame) -> bool:
        """Whether chains' layers can be called together with what each is called with."""
        try:
            for column in columns(chains) if len(chains) > 1 else ():
                self.arguments(column, frame)
        except ArgumentsDiffer:
            return False
        return True


def scaled(
    scale: float, before: Float[Tensor, "*any hidden"], after: Float[Tensor, "*any hidden"]
) -> Float[Tensor, "*any hidden"]:
    """Return x + scale · (f(x) − x), given x and f(x)."""
    before = before.to(after.device)
    return before + scale * (after - before)


class Merge:
    """The mean of branches, or x + scale · Σ(branch(x) − x), taken one branch at a time.

    Args:
        branches: Which of the two, and the scale.
        before: x, the states that all branches read.
    """

    def __init__(self, branches: RunBranches, before: Float[Tensor, "batch rows hidden"]) -> None:
        self._combine, self._scale, self._before = branches.combine, branches.scale, before
        self._total = torch.zeros_like(before) if self._combine == "mean" else before
        self._count = 0

    def add(self, end: Float[Tensor, "sequences rows hidden"], branches: int = 1) -> None:
        """Add the last states of a branch, or of several, one's sequences behind the other's."""
        end = end.to(self._before.device)
        if branches > 1:
            ends = end.unflatten(0, (branches, -1))
            added = (ends if self._combine == "mean" else ends - self._before).sum(0)
        else:
            added = end if self._combine == "mean" else end - self._before
        self._total = self._total + (added if self._scale == 1 else self._scale * added)
        self._count += branches

    def result(self) -> Float[Tensor, "batch rows hidden"]:
        """Return the merged state."""
        return self._total / self._count if self._combine == "mean" else self._total
