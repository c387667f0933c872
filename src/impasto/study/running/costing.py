"""Measuring what a study's plans cost, once its questions are answered.

The measure is paper C's (:mod:`impasto.speed.one_token`). All plans are timed in one session, in
turns; where one of them is missing from what the folder holds, all are measured anew, for times of
two sessions do not compare.
"""

import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from math import isfinite
from typing import TYPE_CHECKING, Any

from impasto.error import UserError
from impasto.plan import Plan
from impasto.study.database.costs import cost_rows, save_costs
from impasto.study.work.asking import KnownModel

if TYPE_CHECKING:
    from impasto.run import Model
    from impasto.speed import Costs

SEQUENCES = 100  # of each length, where nobody says how many


def check_model(model: KnownModel) -> "Model":
    """Return the model if plans can be timed on it, else raise UserError."""
    from impasto.run import Model

    if not isinstance(model, Model):
        raise UserError(
            f"--bench times decoders that run in this process, and {model.name} is none"
        )
    return model


def measure(
    connection: sqlite3.Connection,
    study: int,
    model: "Model",
    plans: Sequence[Plan],
    sequences: int,
    progress: Callable[[float], None],
) -> bool:
    """Measure what plans cost and keep it; False where all of it was there already.

    Plans that inject have no time of their own and are left out: they run the layers of the plan
    without the injection.
    """
    timed = {plan.digest: plan for plan in plans if not plan.injections}
    there = cost_rows(connection, study)
    enough = {row["digest"] for row in there if row["sequences"] >= sequences}
    if enough >= set(timed):
        return False
    from impasto.speed import costs_of

    found = costs_of(model, timed, sequences, progress=progress)
    save_costs(connection, study, list(_rows(found, timed)))
    return True


def _rows(
    found: "Sequence[Costs]", timed: Mapping[str, Plan]
) -> Iterator[tuple[str, dict[str, Any]]]:
    now = time.time()
    for each in found:
        time_of, held = each.time, each.held
        yield (
            each.label,
            {
                "tokens": time_of.tokens,
                "sequences": each.sequences,
                "seconds": time_of.seconds,
                "seconds_error": _known(time_of.seconds_error),
                "improvement": time_of.improvement,
                "improvement_error": _known(time_of.improvement_error),
                "expected": time_of.expected,
                "flops": each.work.flops,
                "bytes_moved": each.work.bytes,
                "kept_bytes": held.kept_bytes,
                "parameters": held.parameters,
                "peak_bytes": held.peak_bytes,
                "machine": each.machine,
                "measured": now,
            },
        )


def _known(error: float) -> float | None:
    return error if isfinite(error) else None
