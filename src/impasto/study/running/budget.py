"""How much memory a study's batches may take: the same in every run of it, so that it runs alike.

What is free differs from run to run, and the last bits of a score depend on how large batches are.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from impasto.run.batching.memory import Free

FITS = 0.9  # of what is free


def budget(
    free: "Free | None", given: int | None, before: int | None
) -> tuple[int | None, str | None]:
    """Return the bytes that a batch may take, and what to tell the user about it, if anything.

    `free` is what is free, `given` what the user allows, `before` what the study ran with earlier.
    None: the model is none whose memory can be bounded.
    """
    if free is None:
        return None, None
    if given is not None:
        return given, None
    if before is None:
        return free.for_batches, None
    if before <= free.bytes * FITS:
        return before, None
    from impasto.run.batching.memory import readable

    return free.for_batches, (
        f"batches take {readable(free.for_batches)} where the study began with "
        f"{readable(before)}, which is not free now; the last digits of scores may differ from "
        "those of a run without a stop"
    )
