"""A plan in the place of the blocks of an encoder's own forward."""

import torch
from jaxtyping import Float
from torch import Tensor

from impasto.model.encoder import OpenedEncoder, Prepared, Sentences
from impasto.plan.program import Program
from impasto.run.encoder.walk import EncoderWalker
from impasto.run.watch import Watch


def run_applied(
    model: OpenedEncoder, program: Program, prepared: Prepared, watch: Watch
) -> Float[Tensor, "batch tokens hidden"]:
    """Return the states of depth T of what the model's own forward prepared; all rows go on."""
    blank = torch.zeros(prepared.states.shape[:2], dtype=torch.long, device=prepared.states.device)
    none = blank[:, :0]
    walker = EncoderWalker(model, Sentences(blank, blank == 0), none, none.bool(), prepared)
    state = walker.start()
    with watch:
        watch.passed(state.latest)
        for instruction in program.instructions:
            state = walker.step(instruction, state)
            watch.passed(state.latest)
    return state.latest
