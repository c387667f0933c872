"""What plans cost, beside their quality: paper C's time to one token, and what they hold."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from impasto.plan import Plan
from impasto.plan.cost import Work
from impasto.run import Model
from impasto.run.opening import opened
from impasto.speed.bench import (
    BARE,
    BASELINE,
    Held,
    Plans,
    Settings,
    expected_work,
    held_by,
    runs_of,
)
from impasto.speed.machine import machine
from impasto.speed.one_token import LENGTHS, OneToken, one_token


@dataclass(frozen=True, slots=True)
class Costs:
    """What a plan costs with sequences of one length.

    Attributes:
        label: The plan's.
        sequences: How many sequences were timed.
        time: How long it takes to their next token.
        work: The operations and bytes moved that this takes.
        held: What the plan holds in memory.
        machine: What it ran on.
    """

    label: str
    sequences: int
    time: OneToken
    work: Work
    held: Held
    machine: str


def costs_of(
    model: Model,
    plans: Plans,
    sequences: int,
    lengths: Sequence[int] = LENGTHS,
    progress: Callable[[float], None] = lambda share: None,
) -> list[Costs]:
    """Measure what plans cost under :func:`impasto.apply`, all of them in turns.

    Raises:
        UserError: when a plan cannot be timed, or a length does not fit the model.
    """
    times = one_token(model, plans, lengths, sequences, progress=progress)
    own = {str(plan): label for label, plan in plans.items()}  # the baseline, too, by its own label
    where = machine(opened(model.hf).device)
    settings = Settings(tokens=lengths, new_tokens=1)
    held = {
        label: held_by(model, label, plan, settings)
        for label, (_, plan) in runs_of(model, plans, "apply").items()
        if label != BARE
    }
    found = []
    for each in times:
        if each.label == BARE or (each.label == BASELINE and each.plan not in own):
            continue
        parts = expected_work(model, "apply", Plan.parse(each.plan), each.tokens, 1)["prefill"]
        work = sum(parts, Work())
        found.append(Costs(own[each.plan], sequences, each, work, held[each.label], where))
    return found
