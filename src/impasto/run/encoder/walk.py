"""Walking a plan on an encoder: one step after another, on all rows of a batch of sentences.

An encoder has no current token and no earlier ones, so there is one kind of row, and neither a
cache nor a marker but ``inject``. DESIGN's section 3 without its markers is the specification;
``tests/encoder_reference.py`` is the same in its naive form.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from impasto.model.encoder import OpenedEncoder, Prepared, Sentences
from impasto.plan import Layer, Parallel, Step
from impasto.plan.attending import attends
from impasto.run.merge import Merge
from impasto.run.walk import Splice


class EncoderState(NamedTuple):
    """Where a walk stands.

    Attributes:
        latest: The states of all rows; once ``few``, of the wanted rows only.
        few: Whether rows that nothing reads any more were left behind.
        is_last: Whether the next attention is the last of every plan ahead.
    """

    latest: Float[Tensor, "batch rows hidden"]
    few: bool = False
    is_last: bool = False


@dataclass(frozen=True)
class EncoderWalker:
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

    def step(self, step: Step, state: EncoderState) -> EncoderState:
        """Run a layer or a parallel group."""
        state = state._replace(latest=self._advance(step, state.latest))
        if state.is_last and not state.few and attends(step):
            return state._replace(latest=self._pick(state.latest), few=True)
        return state

    def inject(
        self, state: EncoderState, splice: Splice, donor: "EncoderWalker", given: EncoderState
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

    def retire(self, state: EncoderState) -> EncoderState:
        """Let only wanted rows go further than the next attention, which is the last.

        A convolution mixes rows too, so beside one all go on.
        """
        return state._replace(is_last=self.model.convolution is None)

    def finish(self, state: EncoderState) -> Float[Tensor, "wanted hidden"]:
        """Return the states of depth T of the wanted rows, sentence by sentence."""
        rows = state.latest if state.few else self._pick(state.latest)
        return rows[self.is_wanted.to(rows.device)]

    def _advance(self, step: Step, rows: Tensor) -> Tensor:
        match step:
            case Layer():
                return self.model.run(step, rows, self._prepared)
            case Parallel():
                merge = Merge(step.combine, rows)
                for branch in step.branches:
                    end = rows
                    for inner in branch:
                        end = self._advance(inner, end)
                    merge.add(end)
                return merge.result()
            case _:
                raise TypeError(f"{step!r} does not run on an encoder")

    def _pick(self, rows: Tensor) -> Tensor:
        index = self.wanted.to(rows.device)[..., None]
        return rows.gather(1, index.expand(-1, -1, rows.shape[2]))
