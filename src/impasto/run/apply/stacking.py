"""Parallel layers whose weights are stacked, so that one call runs them all.

A call of a layer on few rows costs about the same however few they are: its weights are read, its
operations started one by one. So parallel layers that are alike are faster in one call. Where rows
are many, a layer's own products fill the machine already.

One call needs the layers' weights side by side in memory. They move there once, when a plan is
applied with ``stack=True``, and back when it is removed. Layers that cannot be stacked are refused
with the reason before any weight has moved: whether they are alike, and give in one call what each
gives alone, is checked on the model itself.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace

import torch
from torch import nn

from impasto.error import UserError
from impasto.model.checks.decoder import allowed, difference
from impasto.model.decoder import OpenedModel
from impasto.model.structure.anatomy import ModelError
from impasto.model.structure.stacked_blocks import StackedBlocks, are_alike, are_hooked, why_fixed
from impasto.plan import Plan
from impasto.plan.lowering import lower
from impasto.plan.program import Occurrence, RowMode, RunBranches, RunLayer, Split, all_branches
from impasto.plan.steps import Part
from impasto.run.batching.batches import rows_per_call
from impasto.run.batching.memory import is_out_of_memory
from impasto.run.batching.prefix_tree import chain
from impasto.run.batching.request import TokenRequest
from impasto.run.execute.branches import Branch, Column, SideBySide, alike, columns
from impasto.run.execute.executor import Executor
from impasto.run.execute.layers import State
from impasto.run.execute.rows import first_batch
from impasto.run.tuning import FEW_STACKED_ROWS

_TOKENS = ((3, 1, 4), (1, 5, 9))  # on which stacked layers are checked
_PARTS: tuple[Part, ...] = ("block", "attention", "mlp")
# What a block raises when it calls an operation on a weight that a stacked one lacks.
_UNSUPPORTED = (
    NotImplementedError,
    RuntimeError,
    TypeError,
    ValueError,
    IndexError,
    AttributeError,
)


class StackedLayers:
    """The layers of a plan whose weights are stacked, from its construction until ``unstack``.

    Args:
        model: The model, to which no plan is applied.
        plan: The plan.

    Raises:
        UserError: when the plan has no parallel layers that one call could run, or the model is
            being trained, or hooks are registered on these layers.
        ModelError: when the model's layers cannot be stacked, or memory does not suffice.
    """

    def __init__(self, model: OpenedModel, plan: Plan) -> None:
        self._model, self._plan = model, plan
        self._max_rows = max(FEW_STACKED_ROWS, rows_per_call(model) // 2)
        self._branches = [each.branches for each in all_branches(lower(plan).instructions)]
        candidates = {each.layer for column in _columns(self._branches) for each in column}
        self._blocks = {layer: model.blocks[layer].module for layer in sorted(candidates)}
        self._modules: list[nn.Module] = []
        self._kinds: dict[int, StackedBlocks] = {}
        self._runs: dict[Sequence[Branch], list[list[int]]] = {}
        _refuse(plan, self._blocks)
        counted = model.by_sequence
        if counted is None:
            raise ModelError(
                f"stack=True: what {type(model.hf).__name__} calls its layers with cannot be put "
                "together for several of them"
            )
        self._counted = counted
        self._stack()

    @property
    def layers(self) -> tuple[int, ...]:
        """The layers whose weights are stacked, upwards."""
        return tuple(sorted(self._kinds))

    def for_rows(self, count: int) -> SideBySide | None:
        """Return the layers for a forward of ``count`` rows; None where each is to run alone.

        With many rows one call gains nothing; gradients, and what hooks expect, are each layer's
        own. Weights that somebody has replaced since are stacked first.

        Raises:
            ModelError: when those cannot be stacked.
        """
        if count > self._max_rows or torch.is_grad_enabled():
            return None
        if not self._kinds or not all(kind.is_stacked for kind in set(self._kinds.values())):
            self.unstack()
            self._stack()
        if are_hooked(self._modules) or any(module.training for module in self._modules):
            return None
        return SideBySide(self._kinds, self._counted, self._runs)

    def unstack(self) -> None:
        """Give every layer's weights memory of their own again."""
        for kind in set(self._kinds.values()):
            kind.unstack()
        self._kinds = {}
        self._runs.clear()

    @torch.no_grad()
    def _stack(self) -> None:
        """Stack what can be stacked.

        Raises:
            ModelError: when nothing can be, before anything has moved.
        """
        self._modules, kinds = _modules(self._blocks), {}
        with ExitStack() as undo:
            for layers in self._stackable():
                kind = StackedBlocks({layer: self._model.blocks[layer] for layer in layers})
                undo.callback(kind.unstack)
                _in_memory(kind)
                kinds |= dict.fromkeys(layers, kind)
            undo.pop_all()
        self._kinds = kinds

    def _stackable(self) -> list[list[int]]:
        """Return the layers that can be stacked with each other, by kind.

        Raises:
            ModelError: when there are none.
        """
        stackable, reasons = [], []
        kinds = _by_kind(self._blocks)
        single = [layer for layers in kinds if len(layers) == 1 for layer in layers]
        if single:
            reasons.append(f"{_named(single)}: no other is alike in all but its weights")
        for layers in kinds:
            if len(layers) > 1:
                reason = self._why_not(layers)
                if reason is None:
                    stackable.append(layers)
                else:
                    reasons.append(f"{_named(layers)}: {reason}")
        if not stackable:
            raise ModelError(
                f"stack=True: no parallel layers of {self._plan} can be stacked; layers "
                f"{'; '.join(reasons)}"
            )
        return stackable

    def _why_not(self, layers: Sequence[int]) -> str | None:
        """Return why layers of one kind cannot be stacked; None where they can."""
        reason = why_fixed({layer: self._blocks[layer] for layer in layers})
        if reason is not None:
            return reason
        kind = StackedBlocks({layer: self._model.blocks[layer] for layer in layers})
        side_by_side = SideBySide(dict.fromkeys(layers, kind), self._counted, {})
        runs = (run for each in self._branches for run in alike(each, side_by_side.may_run))
        if not any(len(run) > 1 for run in runs):
            return "none stand beside each other upwards at equal distances"
        return self._why_unequal(layers[:2])

    def _why_unequal(self, pair: Sequence[int]) -> str | None:
        """Return why two layers do not give in one call what each gives alone; None if they do.

        They run on few tokens, whole and each part, on a copy of their weights.
        """
        ids = [[token % self._model.vocabulary for token in row] for row in _TOKENS]
        prefix_trees = [
            chain(row, TokenRequest(each, range(1, 3), {})) for row, each in enumerate(ids)
        ]
        alone = Executor(self._model, first_batch(prefix_trees, self._model.device), records=True)
        kind = StackedBlocks({layer: self._model.blocks[layer] for layer in pair})
        side_by_side = SideBySide(dict.fromkeys(pair, kind), self._counted, {})
        together = replace(alone, side_by_side=side_by_side)
        _in_memory(kind, copies=True)
        try:
            for part in _PARTS:
                for start in (alone.start(), alone.step(Split(), alone.start())):
                    rows: RowMode = "joint" if start.current is None else "split"
                    branches = _branches_of(pair, part, rows)
                    expected, stacked = alone.step(branches, start), together.step(branches, start)
                    if not self._are_equal(expected, stacked):
                        return "one call gives other numbers than each of them alone"
        except _UNSUPPORTED as error:
            if is_out_of_memory(error):
                raise _too_little_memory() from error
            return f"one call cannot run them ({error})"
        finally:
            has_run = kind.has_run
            kind.unstack()
        return None if has_run else "they are called with different things"

    def _are_equal(self, expected: State, stacked: State) -> bool:
        """Whether two runs have the same states and have recorded the same keys and values."""
        pairs = [(expected.earlier, stacked.earlier), (expected.latest, stacked.latest)]
        for occurrence, keys_values in expected.keys_values.items():
            pairs += zip(keys_values, stacked.keys_values[occurrence], strict=True)
        limit = allowed(self._model)
        return all(difference(mine, own) <= limit for own, mine in pairs)


def _refuse(plan: Plan, blocks: Mapping[int, nn.Module]) -> None:
    """Raise UserError where there are no blocks to stack, or training or hooks forbid it."""
    if not blocks:
        raise UserError(
            f"stack=True: {plan} has no parallel layers that one call could run: branches that "
            "are as many layers each, at every place the same part of different layers"
        )
    modules = _modules(blocks)
    weights = [weight for block in blocks.values() for weight in block.parameters()]
    is_training = any(module.training for module in modules)
    if is_training or any(weight.grad is not None for weight in weights):
        raise UserError(
            "stack=True: the model is being trained (it is in training mode, or its weights hold "
            "gradients), and gradients are each layer's own; call eval() and zero_grad(), or "
            "leave stack out"
        )
    if are_hooked(modules):
        raise UserError(
            f"stack=True: hooks are registered on layers {_named(blocks)} or within, and would "
            "not see a layer that runs in one call with others; remove them, or leave stack out"
        )


def _in_memory(kind: StackedBlocks, copies: bool = False) -> None:
    """Stack blocks' weights, or copies of them; raise ModelError where memory does not suffice."""
    try:
        kind.stack(copies)
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise _too_little_memory() from error
        raise


def _too_little_memory() -> ModelError:
    """Return the error for weights that do not fit into memory a second time."""
    return ModelError(
        "stack=True: out of memory for stacking the weights of parallel layers, which takes memory "
        "for another two layers; free some, or leave stack out"
    )


def _modules(blocks: Mapping[int, nn.Module]) -> list[nn.Module]:
    return [module for block in blocks.values() for module in block.modules()]


def _by_kind(blocks: Mapping[int, nn.Module]) -> list[list[int]]:
    """Return layers by kind: those of one differ in nothing but their weights."""
    kinds: list[list[int]] = []
    for layer, block in blocks.items():
        for kind in kinds:
            if are_alike({kind[0]: blocks[kind[0]], layer: block}):
                kind.append(layer)
                break
        else:
            kinds.append([layer])
    return kinds


def _branches_of(layers: Sequence[int], part: Part, rows: RowMode) -> RunBranches:
    """Return the instruction that runs a part of each of some layers, each a branch."""
    branches = [
        (RunLayer(layer, part, None if part == "mlp" else Occurrence(layer, 0), rows),)
        for layer in layers
    ]
    return RunBranches(tuple(branches), "mean", rows)


def _columns(groups: Iterable[Sequence[Branch]]) -> Iterator[Column]:
    """Yield the columns of parallel branches whose layers could run in one call."""
    for branches in groups:
        for run in alike(branches, _are_different):
            if len(run) > 1:
                yield from columns([branches[place] for place in run])


def _are_different(column: Column) -> bool:
    return len({each.layer for each in column}) == len(column)


def _named(layers: Mapping[int, object] | Sequence[int]) -> str:
    return ", ".join(map(str, layers))
