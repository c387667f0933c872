"""Several batches that follow one prefix run together, so that the prefix runs once for all.

A few-shot prompt stands before thousands of questions, which are too many rows for one call of a
block. The prefix runs an instruction first, then each batch, with the prefix's keys and values as
its past. Only the states of all batches are in memory at once; what a block needs is one batch's.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from impasto.model.decoder import OpenedModel
from impasto.plan.program import InjectDonor, Instruction, Occurrence, layers
from impasto.plan.tree import DonorRun, Executes
from impasto.run.batching.batches import BatchGroup, prefix_length, rows_per_call
from impasto.run.batching.donors import Splice, splice
from impasto.run.batching.prefix_tree import PrefixTree, chain, shared_length
from impasto.run.batching.request import TokenRequest, Transplant
from impasto.run.batching.stretches import TokenTree
from impasto.run.execute.executor import Executor
from impasto.run.execute.frames import Frame
from impasto.run.execute.layers import State
from impasto.run.execute.rows import first_batch, following_batch
from impasto.run.execute.sequential import SequentialExecutor
from impasto.run.execute.stretch_calls import TreeSplice
from impasto.run.kv.buffers import KeysValues, merge_batches


@runtime_checkable
class Predicts(Executes[Any], Protocol):
    """What runs instructions on a group, and gives the states that predictions are made from."""

    def finish(self, state: Any) -> Float[Tensor, "predictions hidden"]:
        """Return the states that predictions are made from, in the order of the group's."""
        ...


class GroupState(NamedTuple):
    """The rows of some batches after the same instructions.

    Attributes:
        each: The state of each batch.
        keys_values: The keys and values of all batches' earlier tokens at each attention, where
            they are recorded; the first batch's sequences come first.
        common: Those of the tokens before these, of which all sequences have the same.
    """

    each: tuple[State, ...]
    keys_values: Mapping[Occurrence, KeysValues] = MappingProxyType({})
    common: Mapping[Occurrence, KeysValues] = MappingProxyType({})


@dataclass(frozen=True)
class GroupExecutor:
    """The executors of some batches, all of one prefix or all of none.

    Where ``lets_masks_go``, masks are there for one step of one batch. Keys and values of so many
    tokens of the prefix as are ``in_common`` are recorded once, not for every sequence; except at
    attentions under a reach, which hold what they still see.
    """

    executors: Sequence[Executor]
    lets_masks_go: bool = False
    in_common: int = 0

    def start(self) -> GroupState:
        """Return the state at depth 0."""
        return GroupState(tuple(executor.start() for executor in self.executors))

    def step(self, instruction: Instruction, state: GroupState) -> GroupState:
        """Run one instruction, on the prefix once."""
        before = self.executors[0].ahead(instruction, state.each[0]).prefix
        common = self._in_common(instruction, before)
        each, left = [], []
        without = None if before is None else before._replace(keys_values={})
        for executor, own in self._each(state):
            after = executor.follow(instruction, own._replace(prefix=before))
            if self.lets_masks_go:
                _let_masks_go(executor)
            left.append({
                occurrence: own.behind(self.in_common) if occurrence in common else own
                for occurrence, own in after.keys_values.items()
            })  # fmt: skip
            each.append(after._replace(keys_values={}, prefix=without))
        recorded = {
            occurrence: merge_batches([one[occurrence] for one in left]) for occurrence in left[0]
        }
        return GroupState(
            tuple(each), {**state.keys_values, **recorded}, {**state.common, **common}
        )

    def _in_common(
        self, instruction: Instruction, prefix: State | None
    ) -> dict[Occurrence, KeysValues]:
        """Return the keys and values in common at the attentions of an instruction just run."""
        if prefix is None or not self.in_common:
            return {}
        unbound = [run.occurrence for run in layers(instruction) if run.reach is None]
        return {
            occurrence: merge_batches([prefix.keys_values[occurrence].first(self.in_common)])
            for occurrence in unbound
            if occurrence is not None and occurrence in prefix.keys_values
        }

    def inject(
        self,
        instruction: InjectDonor,
        state: GroupState,
        splice: Sequence[Splice],
        donor: "GroupExecutor",
        given: GroupState,
    ) -> GroupState:
        """Set target rows of each batch to its donors' rows at the same depth."""
        parts = zip(self._each(state), splice, donor.executors, given.each, strict=True)
        each = tuple(
            executor.inject(instruction, own, rows, other, theirs)
            for (executor, own), rows, other, theirs in parts
        )
        return state._replace(each=each)

    def finish(self, state: GroupState) -> Float[Tensor, "predictions hidden"]:
        """Return the states that predictions are made from, batch by batch."""
        return torch.cat([executor.finish(own) for executor, own in self._each(state)])

    def _each(self, state: GroupState) -> Iterator[tuple[Executor, State]]:
        return zip(self.executors, state.each, strict=True)


def _let_masks_go(executor: Executor) -> None:
    """Forget the masks of all rows; they are made anew where they are asked for."""
    for frame in vars(executor.frames).values():
        if isinstance(frame, Frame):
            for name in ("_arguments", "_masks", "_masks_within"):
                vars(frame).pop(name, None)


def group_executor(
    model: OpenedModel,
    requests: Sequence[TokenRequest],
    group: BatchGroup,
    donors: Collection[str],
    records: bool = False,
    in_common: int = 0,
) -> tuple[Predicts, dict[str, DonorRun]]:
    """Return what runs instructions on a group, and what runs the donors of these names beside it.

    Args:
        model: The model.
        requests: All requests; the group names some of them by index.
        group: The group.
        donors: The names that plans inject.
        records: Whether keys and values are recorded, for tokens that will follow.
        in_common: Of how many tokens of the prefix they are recorded once for all sequences.
    """
    if model.sequential is not None:
        return sequential_group(model, requests, group, donors, records)
    prefix = _prefix_executor(model, group.prefix)
    executors = [_executor(model, batch, prefix, records) for batch in group.batches]
    lets_go = group.lets_masks_go(model.device)
    return GroupExecutor(executors, lets_go, in_common), {
        name: _donor_run(model, requests, group, name) for name in donors
    }


def _donor_run(
    model: OpenedModel, requests: Sequence[TokenRequest], group: BatchGroup, name: str
) -> DonorRun:
    """Return what runs a group's donors of one name, batch by batch, and the rows that they give.

    A beginning that all these donor prompts share is a prefix of theirs, read once.
    """
    transplants = [
        [requests[prefix_tree.requests[0]].transplants[name] for prefix_tree in batch]
        for batch in group.batches
    ]
    batches = [
        [chain(row, _donor_request(name, each)) for row, each in enumerate(batch)]
        for batch in transplants
    ]
    trees = [tree for batch in batches for tree in batch]
    shared = shared_length([tree.ids for tree in trees], min(tree.shareable for tree in trees))
    shared = prefix_length(shared, len(trees), rows_per_call(model))
    prefix = _prefix_executor(model, trees[0].ids[:shared])
    executors = [
        _executor(model, [tree.without_prefix(shared) for tree in batch], prefix, records=False)
        for batch in batches
    ]
    before, device = len(group.prefix), model.device
    splices = [
        splice(given, shared, before, len(batch[0].ids), device)
        for given, batch in zip(transplants, group.batches, strict=True)
    ]
    return DonorRun(GroupExecutor(executors), splices)


def _donor_request(name: str, transplant: Transplant) -> TokenRequest:
    """Return a donor prompt as a request; its last token is current, as in any prompt."""
    last = len(transplant.ids) - 1
    return TokenRequest(list(transplant.ids), range(last, last + 1), {name: transplant.mirrored()})


def _prefix_executor(model: OpenedModel, ids: list[int]) -> Executor | None:
    """Return what runs a prefix, of which no token is scored; None if it is empty."""
    if not ids:
        return None
    batch = first_batch([chain(0, TokenRequest(ids, range(0), {}))], model.device)
    return Executor(model, batch, records=True)


def _executor(
    model: OpenedModel, prefix_trees: Sequence[PrefixTree], prefix: Executor | None, records: bool
) -> Executor:
    """Return what runs a batch of prefix trees, behind a prefix where there is one."""
    if prefix is None:
        return Executor(model, first_batch(prefix_trees, model.device), records=records)
    batch = following_batch(prefix.batch, prefix_trees)
    return Executor(model, batch, records=records, prefix=prefix)


def sequential_group(
    model: OpenedModel,
    requests: Sequence[TokenRequest],
    group: BatchGroup,
    donors: Collection[str],
    records: bool = False,
) -> tuple[SequentialExecutor, dict[str, DonorRun]]:
    """Return the same where rows are not packed: the group is one tree of tokens."""
    tree = TokenTree.of_group(group)
    executor = SequentialExecutor(model, tree, records)
    runs = {}
    for name in donors:
        owners = [requests[each.requests[0]] for each in group.prefix_trees]
        transplants = [owner.transplants[name] for owner in owners]
        prompts = [chain(row, _donor_request(name, each)) for row, each in enumerate(transplants)]
        donor = SequentialExecutor(model, TokenTree.of([], prompts))
        begins = (tree.begins, donor.tree.begins)
        splices = TreeSplice.of(transplants, begins, (len(group.prefix), 0), model.device)
        runs[name] = DonorRun(donor, splices)
    return executor, runs
