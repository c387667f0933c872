"""Several batches that follow one prefix run together, so that the prefix runs once for all.

A few-shot prompt stands before thousands of questions, which are too many rows for one call of a
block. The prefix runs an instruction first, then each batch, with the prefix's keys and values as
its past. Only the states of all batches are in memory at once; what a block needs is one batch's.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from impasto.plan.program import InjectDonor, Instruction, Occurrence
from impasto.run.execute.executor import Executor, Splice
from impasto.run.execute.layers import State
from impasto.run.kv.buffers import KeysValues, merge_batches


class GroupState(NamedTuple):
    """The rows of some batches after the same instructions.

    Attributes:
        each: The state of each batch.
        keys_values: The keys and values of all batches' earlier tokens at each attention, where
            they are recorded; the first batch's sequences come first.
    """

    each: tuple[State, ...]
    keys_values: Mapping[Occurrence, KeysValues] = MappingProxyType({})


@dataclass(frozen=True)
class GroupExecutor:
    """The executors of some batches, all of one prefix or all of none."""

    executors: Sequence[Executor]

    def start(self) -> GroupState:
        """Return the state at depth 0."""
        return GroupState(tuple(executor.start() for executor in self.executors))

    def step(self, instruction: Instruction, state: GroupState) -> GroupState:
        """Run one instruction, on the prefix once."""
        before = self.executors[0].ahead(instruction, state.each[0]).prefix
        each, left = [], []
        for executor, own in self._each(state):
            after = executor.follow(instruction, own._replace(prefix=before))
            left.append(after.keys_values)
            each.append(after._replace(keys_values={}))
        recorded = {
            occurrence: merge_batches([one[occurrence] for one in left]) for occurrence in left[0]
        }
        return GroupState(tuple(each), {**state.keys_values, **recorded})

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
