"""How many whole layers decode steps call."""

from impasto.plan.program import layers
from impasto.run.generate import decode_batch


class Called:
    """Counts the whole layers that decode steps call from now on.

    Attributes:
        blocks: How many so far.
    """

    def __init__(self, monkeypatch) -> None:
        self.blocks, run_call = 0, decode_batch._run_call

        def counted(executor, frames, call, *more):
            self.blocks += sum(1 for run in layers(call.instruction) if run.part == "block")
            run_call(executor, frames, call, *more)

        monkeypatch.setattr(decode_batch, "_run_call", counted)
