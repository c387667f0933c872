"""Running a program: one instruction after another, on the rows of a batch.

Each instruction says what it does to which rows (:mod:`impasto.plan.program`). States are values,
so that a run can part anywhere. ``tests/reference.py`` is the same in its naive form.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from impasto.model.decoder import OpenedModel
from impasto.model.structure.anatomy import ModelError
from impasto.plan.program import (
    InjectDonor,
    Instruction,
    Occurrence,
    ReplaceByNoise,
    RunBranches,
    RunLayer,
    Split,
)
from impasto.run.attention.choice import own_attention
from impasto.run.batching.donors import Splice
from impasto.run.execute.frames import Frames
from impasto.run.execute.layers import LayerRunner, State
from impasto.run.execute.rows import replaced
from impasto.run.kv.buffers import trim_heap
from impasto.run.kv.cache import BufferRows
from impasto.run.noise import NoiseSource, noise


@dataclass(frozen=True)
class Executor(LayerRunner):
    """Runs the instructions of a program on one batch."""

    prefix: "Executor | None" = None

    def part(
        self,
        frames: Frames,
        past: Mapping[Occurrence, BufferRows],
        frozen: Bool[Tensor, "batch"] | None,
    ) -> "Executor":
        """Return the executor of some of the sequences, and where their keys and values go."""
        executor = Executor(self.model, frames.batch, past, frozen=frozen)
        executor.__dict__["frames"] = frames
        return executor

    def start(self) -> State:
        """Return the state at depth 0: the embeddings."""
        limit, batch = self.model.length_limit, self.batch
        if limit is not None and batch.ids.shape[1] + batch.past.shape[1] > limit.tokens:
            refuse_changing_tables(self.model, int(batch.positions[batch.is_real].max()) + 1)
        prefix = None if self.prefix is None else self.prefix.start()
        return State(self.frames.joint.entered.states, prefix=prefix)

    def step(self, instruction: Instruction, state: State) -> State:
        """Run one instruction of a program; injections have :meth:`inject`."""
        return self.follow(instruction, self.ahead(instruction, state))

    def ahead(self, instruction: Instruction, state: State) -> State:
        """Run an instruction on the prefix, if there is one."""
        if self.prefix is None:
            return state
        assert state.prefix is not None, "it has run with the others"
        return state._replace(prefix=self.prefix.step(instruction, state.prefix))

    def follow(self, instruction: Instruction, state: State) -> State:
        """Run an instruction that the prefix has run already."""
        match instruction:
            case RunLayer() | RunBranches():
                if not self.frames.are_long:
                    return self.run(instruction, state)
                trim_heap()  # what the last block worked on, lest the heap grow around what stays
                with own_attention(self.model):
                    return self.run(instruction, state)
            case Split():
                return state._replace(current=self.batch.pick(state.earlier))
            case ReplaceByNoise():
                return self._noised(instruction, state)
            case InjectDonor():
                raise TypeError("an injection is run by Executor.inject, with its donor's state")

    def finish(self, state: State) -> Float[Tensor, "predictions hidden"]:
        """Return the last states, from which predictions are made, sequence by sequence."""
        rows = self.batch.pick(state.earlier) if state.current is None else state.current
        return self.batch.predictions(rows)

    def inject(
        self,
        instruction: InjectDonor,
        state: State,
        splice: Splice,
        donor: "Executor",
        given: State,
    ) -> State:
        """Set target rows to the donor's rows at the same depth."""
        rows = given.earlier
        if given.current is not None:  # the donor prompt's last token is its current one
            last, current = donor.batch.scored.to(rows.device), given.current.to(rows.device)
            rows = rows.scatter(1, last[..., None].expand_as(current), current)
        source = splice.source
        if instruction.holds_prompt:
            source = source.masked_fill(self.batch.is_prompt, -1)
        if state.current is not None:
            of_scored = self.batch.pick(source)
            state = state._replace(current=replaced(state.current, of_scored, rows))
        if instruction.rows == "kv-only":
            return state
        return state._replace(earlier=replaced(state.earlier, source, rows))

    def _noised(self, instruction: ReplaceByNoise, state: State) -> State:
        keys = self.batch.hashed[0].to(state.earlier.device)
        drawn = noise(state.earlier, keys, source_of(instruction))
        spared = self.batch.index < instruction.keep
        if instruction.whose != "all":
            spared = spared | (self.batch.is_prompt ^ (instruction.whose == "prompt"))
        spared = spared[..., None].to(drawn.device)
        return state._replace(earlier=torch.where(spared, state.earlier, drawn))


def refuse_changing_tables(model: OpenedModel, length: int) -> None:
    """Raise where a model's rotary tables would be others than for the beginning of a text."""
    limit = model.length_limit
    if limit is not None and length > limit.tokens:
        raise ModelError(
            f"a text of {length} tokens is too long for plans on this model: beyond "
            f"{limit.tokens} tokens its rotary tables change with the length of the text "
            f"(rope_type {limit.rope_type!r}), so what it makes of a token depends on how many "
            "follow; shorten the text"
        )


def source_of(instruction: ReplaceByNoise) -> NoiseSource:
    """Return what an instruction's noise is drawn from."""
    return NoiseSource(instruction.kind, instruction.seed, instruction.depth, instruction.number)
