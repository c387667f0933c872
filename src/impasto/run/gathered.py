"""When the branches of a plan run side by side: which layers can, and where it pays.

A call of a layer on few rows costs about the same however few they are: its weights are read, its
operations begun one by one. So branches that are alike are faster in one call. Where rows are many,
a layer's own products fill the machine already. One call needs the weights side by side, and moving
them there and back takes a while; so it is done when as many forwards have run without it as would
have paid for it.

That layers are alike, and give in one call what each gives alone, is proved on the model at hand
before it is used; in a model where it is not so, branches run one after the other.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch

from impasto.model.block import Block
from impasto.model.check import allowed, difference
from impasto.model.opened import OpenedModel
from impasto.model.wide import WideBlocks, are_alike, are_watched
from impasto.plan.program import (
    Instruction,
    Occurrence,
    Program,
    RunBranches,
    RunLayer,
    Split,
)
from impasto.run.abreast import Abreast, Branch, alike, columns
from impasto.run.bundle import rows_per_call
from impasto.run.memory import is_out_of_memory
from impasto.run.passage import Passage
from impasto.run.rows import first_batch
from impasto.run.trie import chain
from impasto.run.walk import State, Walker

_TOKENS = ((3, 1, 4), (1, 5, 9))  # that it is tried on
_FEW = 64  # rows up to which a batched product is faster than products one after the other
# What a block raises that does with a weight what a stacked one does not know.
_UNKNOWN = (NotImplementedError, RuntimeError, TypeError, ValueError, IndexError, AttributeError)
_PAYS = 32  # forwards: each saves a fifth of a reading of the weights, moving takes six readings


class Gathered:
    """The layers that a plan's branches run side by side, once they have been gathered.

    Args:
        model: The model.
        program: What runs.
    """

    def __init__(self, model: OpenedModel, program: Program) -> None:
        self._model = model
        self._few = max(_FEW, rows_per_call(model) // 2)
        self._layers = sorted(_side_by_side(program.instructions))
        blocks = (model.blocks[layer].module for layer in self._layers)
        self._modules = [module for block in blocks for module in block.modules()]
        self._waits = _PAYS
        self._kinds: dict[int, WideBlocks] | None = None
        self._known: dict[Sequence[Branch], list[list[int]]] = {}

    def for_rows(self, count: int) -> Abreast | None:
        """Return the layers for a forward of so many rows; None where none is to run so.

        Gradients are each layer's own, and so is what hooks are to see.
        """
        if not self._layers or count > self._few or torch.is_grad_enabled():
            return None
        if are_watched(self._modules) or any(module.training for module in self._modules):
            return None
        self._waits -= 1
        if self._waits < 0:
            self.gather()
        counted = self._model.by_sequence
        return Abreast(self._kinds, counted, self._known) if self._kinds and counted else None

    @torch.no_grad()
    def gather(self) -> None:
        """Gather the layers, if they are not, or if somebody has replaced weights since."""
        kinds = set((self._kinds or {}).values())
        if self._kinds is None or not all(kind.is_gathered for kind in kinds):
            self.scatter()
            self._kinds = self._found()

    def scatter(self) -> None:
        """Give layers memory of their own again."""
        for kind in set((self._kinds or {}).values()):
            kind.scatter()
        self._kinds = None
        self._known.clear()

    def _found(self) -> dict[int, WideBlocks]:
        """Return, for each layer that can run beside others, the blocks of its kind."""
        found: dict[int, WideBlocks] = {}
        for layers in self._alike():
            blocks = {layer: self._model.blocks[layer] for layer in layers}
            pair = dict(list(blocks.items())[:2])
            # All together once more: any two of them may share a weight, and it cannot lie twice.
            every = {layer: block.module for layer, block in blocks.items()}
            if are_alike(every) and self._is_proved(pair):
                kind = WideBlocks(blocks)
                if _gather(kind):
                    found |= dict.fromkeys(layers, kind)
        return found

    def _alike(self) -> list[list[int]]:
        """Return the layers by kind, upwards, without those that are alone of theirs."""
        kinds: list[list[int]] = []
        for layer in self._layers:
            for kind in kinds:
                pair = {each: self._model.blocks[each].module for each in (kind[0], layer)}
                if are_alike(pair):
                    kind.append(layer)
                    break
            else:
                kinds.append([layer])
        return [kind for kind in kinds if len(kind) > 1]

    def _is_proved(self, pair: Mapping[int, Block]) -> bool:
        """Whether two layers give side by side what they give one after the other, whole or not."""
        counted = self._model.by_sequence
        if counted is None:
            return False
        ids = [[token % self._model.vocabulary for token in row] for row in _TOKENS]
        tries = [chain(row, Passage(each, range(1, 3), {})) for row, each in enumerate(ids)]
        apart = Walker(self._model, first_batch(tries, self._model.device), records=True)
        kind = WideBlocks(pair)
        together = replace(apart, abreast=Abreast(dict.fromkeys(pair, kind), counted, {}))
        if not _gather(kind):
            return False
        try:
            for part in ("block", "attention", "mlp"):
                for start in (apart.start(), apart.step(Split(), apart.start())):
                    rows = "joint" if start.current is None else "split"
                    layers = [
                        RunLayer(each, part, None if part == "mlp" else Occurrence(each, 0), rows)
                        for each in pair
                    ]
                    branches = RunBranches(tuple((each,) for each in layers), "mean", rows)
                    expected, found = apart.step(branches, start), together.step(branches, start)
                    if not self._are_equal(expected, found):
                        return False
        except _UNKNOWN:
            return False
        finally:
            kind.scatter()
        return True

    def _are_equal(self, expected: State, found: State) -> bool:
        """Whether two walks stand at the same states and have left the same keys and values."""
        pairs = [(expected.earlier, found.earlier), (expected.latest, found.latest)]
        for occurrence, one in expected.kept.items():
            pairs += zip(one, found.kept[occurrence], strict=True)
        limit = allowed(self._model)
        return all(difference(other, one) <= limit for one, other in pairs)


def _gather(kind: WideBlocks) -> bool:
    """Gather blocks; return whether there was room for it."""
    try:
        kind.gather()
    except RuntimeError as error:
        kind.scatter()
        if not is_out_of_memory(error):
            raise
        warnings.warn(
            "out of memory for laying the weights of parallel layers side by side: branches run "
            "one after the other",
            stacklevel=2,
        )
        return False
    return True


def _side_by_side(instructions: Sequence[Instruction]) -> set[int]:
    """Return the layers that stand beside others in a program's branches."""
    found: set[int] = set()
    for each in instructions:
        if isinstance(each, RunBranches):
            for run in alike(each.branches, _are_different):
                chains = [each.branches[place] for place in run] if len(run) > 1 else []
                found |= {one.layer for column in columns(chains) for one in column}
            for branch in each.branches:
                found |= _side_by_side(branch)
    return found


def _are_different(column: Sequence[RunLayer]) -> bool:
    return len({each.layer for each in column}) == len(column)
