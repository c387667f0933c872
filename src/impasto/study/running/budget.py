"""How much memory a study's batches may take: the same in every run of it, so that it runs alike.

What is free differs from run to run, and the last bits of a score depend on how large batches are.
"""

from typing import Any

FITS = 0.9  # of what is free


def budget(model: Any, given: int | None, before: int | None) -> tuple[int | None, str | None]:
    """Return the bytes that a batch may take, and what to tell the user about it, if anything.

    `given` is what the user allows, `before` what the study ran with earlier. None: the model is
    none whose memory can be bounded.
    """
    from impasto.run import Encoder, Model
    from impasto.run.memory import free_bytes, readable

    if not isinstance(model, Model | Encoder):
        return None, None
    own = given if given is not None else model.memory
    if own is not None:
        return own, None
    half = free_bytes(model.hf.device)
    if before is None:
        return half, None
    if before <= 2 * half * FITS:
        return before, None
    return half, (
        f"batches take {readable(half)} where the study began with {readable(before)}, which is "
        "not free now; the last digits of scores may differ from those of a run without a stop"
    )
