"""Running a program on an encoder: one instruction after another, on all rows of a batch.

An encoder has no current token and no earlier ones, so it has one kind of row, no KV cache, and no
marker but ``inject``. Rows whose final states are not wanted are needed as keys and values only:
after the last attention they are not run. ``tests/encoder_reference.py`` does the same naively.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from jaxtyping import Bool, Float, Int, Shaped
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
from impasto.run.batching.donors import Splice
from impasto.run.execute.branches import Merge, scaled
from impasto.run.execute.rows import picked, replaced


class EncoderState(NamedTuple):
    """The hidden states of a batch at some depth.

    Attributes:
        latest: The states of all rows; of the wanted rows only, if ``few``.
        few: Whether rows that nothing reads any more have been dropped.
    """

    latest: Float[Tensor, "batch rows hidden"]
    few: bool = False


@dataclass(frozen=True)
class EncoderExecutor:
    """Runs instructions on one batch.

    Attributes:
        model: The encoder.
        sentences: The sentences of the batch.
        wanted: The rows (by index) whose final states are wanted, padded on the right.
        is_wanted: Where ``wanted`` is not padding.
        given: What the model's own forward has prepared, within which the program runs; else None.
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
        """Return the state after a layer or branches.

        After the last attention only wanted rows remain. A convolution mixes rows as well, so in a
        model that has one all rows remain.
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
        """Return the state with target rows replaced by the donor's rows at the same depth."""
        source = picked(splice.source, self.wanted) if state.few else splice.source
        return state._replace(latest=replaced(state.latest, source, given.latest))

    def finish(self, state: EncoderState) -> Float[Tensor, "predictions hidden"]:
        """Return the states of depth T of the wanted rows, sentence by sentence."""
        rows = state.latest if state.few else self._pick(state.latest)
        return rows.flatten(0, 1).index_select(0, self._places.to(rows.device))

    @cached_property
    def _places(self) -> Int[Tensor, "predictions"]:
        """Where the wanted rows of all sentences lie, asked of the device once for all plans."""
        return self.is_wanted.flatten().nonzero()[:, 0]

    def _advance(
        self, instruction: Run, rows: Float[Tensor, "batch rows hidden"]
    ) -> Float[Tensor, "batch rows hidden"]:
        """Return the states after a layer, or after branches and their merge."""
        if isinstance(instruction, RunLayer):
            after = self.model.run(instruction.layer, instruction.part, rows, self._prepared)
            return after if instruction.scale == 1 else scaled(instruction.scale, rows, after)
        merge = Merge(instruction, rows)
        for branch in instruction.branches:
            end = rows
            for inner in branch:
                end = self._advance(inner, end)
            merge.add(end)
        return merge.result()

    def _pick(self, rows: Shaped[Tensor, "batch rows _"]) -> Shaped[Tensor, "batch wanted _"]:
        """Return the wanted ones of all rows."""
        return picked(rows, self.wanted)
