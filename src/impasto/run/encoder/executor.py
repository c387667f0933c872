"""Running a program on an encoder: one instruction after another, on all rows of some sentences.

An encoder has no current token and no earlier ones, so there is one kind of row, and neither a
cache nor a marker but ``inject``. Rows whose final states nobody wants are what the earlier rows of
a decoder are: behind the last attention they are not run. ``tests/encoder_reference.py`` is the
same in its naive form.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from impasto.model.encoder import OpenedEncoder, Prepared, Sentences
from impasto.plan.program import (
    InjectDonor,
    Instruction,
    Run,
    RunBranches,
    RunLayer,
    Split,
    attends,
)
from impasto.run.execute.branches import Merge
from impasto.run.execute.executor import Splice


class EncoderState(NamedTuple):
    """Where a walk stands.

    Attributes:
        latest: The states of all rows; once ``few``, of the wanted rows only.
        few: Whether rows that nothing reads any more were left behind.
    """

    latest: Float[Tensor, "batch rows hidden"]
    few: bool = False


@dataclass(frozen=True)
class EncoderExecutor:
    """Runs steps on one batch.

    Attributes:
        model: The model.
        sentences: Its sentences.
        wanted: The rows whose final states are wanted, by index, padded on the right.
        is_wanted: Where they are no padding.
        given: What the model's own forward prepared, where that is under way.
    """

    model: OpenedEncoder
    sentences: Sentences
    wanted: Int[Tensor, "batch wanted"]
    is_wanted: Bool[Tensor, "batch wanted"]
    given: Prepared | None = None

    @cached_property
    def _prepared(self) -> Prepared:
        return self.model.prepare(self.sentences) if self.given is None else self.given

    def start(self) -> EncoderState:
        """Return the state at depth 0: the embeddings."""
        return EncoderState(self._prepared.states)

    def step(self, instruction: Instruction, state: EncoderState) -> EncoderState:
        """Run a layer or branches.

        Behind the last attention only wanted rows go on. A convolution mixes rows too, so beside
        one all do.
        """
        if isinstance(instruction, Split):
            return state
        if not isinstance(instruction, RunLayer | RunBranches):
            raise TypeError(f"{instruction!r} does not run on an encoder")
        state = state._replace(latest=self._advance(instruction, state.latest))
        is_last = instruction.rows == "kv-only" and self.model.convolution is None
        if is_last and not state.few and attends(instruction):
            return state._replace(latest=self._pick(state.latest), few=True)
        return state

    def inject(
        self,
        instruction: InjectDonor,
        state: EncoderState,
        splice: Splice,
        donor: "EncoderExecutor",
        given: EncoderState,
    ) -> EncoderState:
        """Set target rows to the donor's rows at the same depth."""
        at = splice.is_real.nonzero(as_tuple=True)
        index, rows = splice.target[at], given.latest[at[0], splice.source[at]]
        if not state.few:
            replaced = state.latest.clone()
            replaced[at[0], index] = rows.to(replaced.device)
            return state._replace(latest=replaced)
        size = (*self.sentences.ids.shape, state.latest.shape[2])
        replaced = state.latest.new_zeros(size)
        replaced[at[0], index] = rows.to(replaced.device)
        hit = torch.zeros(size[:2], dtype=torch.bool, device=replaced.device)
        hit[at[0], index] = True
        wanted = torch.where(self._pick(hit[..., None]), self._pick(replaced), state.latest)
        return state._replace(latest=wanted)

    def finish(self, state: EncoderState) -> Float[Tensor, "wanted hidden"]:
        """Return the states of depth T of the wanted rows, sentence by sentence."""
        rows = state.latest if state.few else self._pick(state.latest)
        return rows[self.is_wanted.to(rows.device)]

    def _advance(self, instruction: Run, rows: Tensor) -> Tensor:
        if isinstance(instruction, RunLayer):
            return self.model.run(instruction.layer, instruction.part, rows, self._prepared)
        merge = Merge(instruction.combine, rows)
        for branch in instruction.branches:
            end = rows
            for inner in branch:
                end = self._advance(inner, end)
            merge.add(end)
        return merge.result()

    def _pick(self, rows: Tensor) -> Tensor:
        index = self.wanted.to(rows.device)[..., None]
        return rows.gather(1, index.expand(-1, -1, rows.shape[2]))
