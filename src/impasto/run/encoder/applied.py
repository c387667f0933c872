"""A plan run in place of the blocks within an encoder's own forward pass."""

import torch
from jaxtyping import Float
from torch import Tensor

from impasto.model.encoder import OpenedEncoder, Prepared, Sentences
from impasto.plan.program import Program
from impasto.run.apply.outputs import OutputCollector
from impasto.run.encoder.executor import EncoderExecutor


def run_applied(
    model: OpenedEncoder, program: Program, prepared: Prepared, outputs: OutputCollector
) -> Float[Tensor, "batch tokens hidden"]:
    """Return the states of depth T of all rows, from what the model's own forward prepared.

    The states of every depth are handed to ``outputs``, which collects those that the caller wants.
    """
    blank = torch.zeros(prepared.states.shape[:2], dtype=torch.long, device=prepared.states.device)
    none = blank[:, :0]
    executor = EncoderExecutor(model, Sentences(blank, blank == 0), none, none.bool(), prepared)
    state = executor.start()
    with outputs:
        outputs.add_depth(state.latest)
        for instruction in program.instructions:
            state = executor.step(instruction, state)
            outputs.add_depth(state.latest)
    return state.latest
