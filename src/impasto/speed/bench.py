"""Timing plans against the baseline.

All plans run in turns, round by round in an order drawn anew, so that drift of the machine falls on
all of them; what is compared is each plan's time with the baseline's of the same round. Beside each
measurement stands what the plan's operations and bytes let expect (:mod:`impasto.plan.cost`).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import torch
from jaxtyping import Int
from torch import Tensor

from impasto.error import UserError
from impasto.plan import Plan
from impasto.plan.cost import Call, Work, forward_work, seconds
from impasto.run import Model
from impasto.run.batching.batches import rows_per_call
from impasto.run.batching.memory import Meter
from impasto.run.opening import admit, opened
from impasto.speed.clock import in_turns
from impasto.speed.machine import Rates, load, machine, measure_rates
from impasto.speed.memory import peak_memory
from impasto.speed.spread import BUSY, Interval, spread
from impasto.speed.ways import Timed, Way, can_stack, kept_bytes, run

BARE = "bare"  # the label of the model without impasto
BASELINE = "baseline"
STACKED = ", stacked"  # behind the label of a plan whose parallel layers are stacked

Plans = Mapping[str, Plan]  # by label


@dataclass(frozen=True)
class Settings:
    """What is timed, and how often.

    Attributes:
        tokens: Lengths of the prompt.
        batches: Numbers of sequences.
        new_tokens: How many tokens are read behind the prompt, one by one, each timed.
        rounds: How often each plan runs.
        warm_up: Rounds before those, which do not count.
        way: ``apply`` or ``engine``.
        seed: What tokens and orders are drawn from.
    """

    tokens: Sequence[int] = (128,)
    batches: Sequence[int] = (1,)
    new_tokens: int = 16
    rounds: int = 9
    warm_up: int = 1
    way: Way = "apply"
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Time:
    """What one kind of work took under one plan.

    Attributes:
        label: The plan's.
        way: How it ran.
        plan: The plan itself, spelled out; empty for the bare model.
        work: ``prefill``: a prompt, up to its first new token. ``token``: one more token behind it.
        tokens: How long the prompt is.
        batch: How many sequences there are.
        seconds: How long it took.
        ratio: The same as a share of the baseline's time in the same round.
        expected: The ratio that operations and bytes moved let expect.
        spread: How far apart the quartiles of the time are, as a share of its median.
        flops: The operations that it takes.
        bytes: The bytes that it moves.
    """

    label: str
    way: Way
    plan: str
    work: str
    tokens: int
    batch: int
    seconds: Interval
    ratio: Interval
    expected: float
    spread: float
    flops: float
    bytes: float

    @property
    def per_second(self) -> float:
        """Tokens read in a second, all sequences together."""
        return self.batch * (self.tokens if self.work == "prefill" else 1) / self.seconds.middle


@dataclass(frozen=True, slots=True)
class Held:
    """What a plan holds in memory.

    Attributes:
        label: The plan's.
        plan: The plan itself.
        kept_bytes: Bytes of keys and values that a token leaves, read off the cache.
        expected_kept_bytes: The same, from the attention occurrences and the layers' widths.
        parameters: The parameters in memory, once only the plan's layers are loaded.
        peak_bytes: How far memory rises above the weights in the largest setting; None where that
            cannot be read.
    """

    label: str
    plan: str
    kept_bytes: int
    expected_kept_bytes: int
    parameters: int
    peak_bytes: int | None


@dataclass(frozen=True)
class Bench:
    """What was found.

    Attributes:
        model: The model's name.
        machine: What it ran on.
        way: How plans ran.
        rates: What the machine reaches on its own.
        times: Every kind of work, setting by setting, the baseline first.
        held: What each plan holds.
        notes: What a reader should know before trusting the times.
    """

    model: str
    machine: str
    way: Way
    rates: Rates
    times: Sequence[Time]
    held: Sequence[Held]
    notes: Sequence[str] = field(default=())


def bench(
    model: Model,
    plans: Plans,
    settings: Settings,
    progress: Callable[[float], None] = lambda share: None,
) -> Bench:
    """Time plans, the baseline and the bare model in turns.

    Under :func:`impasto.apply`, a plan with parallel layers that can be stacked is timed twice: as
    it is, and with their weights stacked.

    Args:
        model: The model.
        plans: The plans by label; the baseline is added in front.
        settings: What is timed.
        progress: Called with the share that is done, 0 to 1.

    Raises:
        UserError: when a plan cannot be timed, or a prompt does not fit the model.
    """
    runs = _with_stacked(model, runs_of(model, plans, settings.way))
    check_settings(model, settings)
    loaded = load()
    inner = opened(model.hf)
    rates = measure_rates(inner.device, model.hf.dtype, inner.hidden)
    pairs = [(tokens, batch) for batch in settings.batches for tokens in settings.tokens]
    meter = Meter(progress, len(pairs) * (settings.warm_up + settings.rounds) * len(runs))
    done = partial(meter.add, 1)
    times: list[Time] = []
    for tokens, batch in pairs:
        ids = random_tokens(model, batch, tokens, settings.seed)
        works = {
            label: partial(run, model, way, plan, ids, settings.new_tokens)
            for label, (way, plan) in runs.items()
        }
        rounds = in_turns(works, settings.rounds, settings.warm_up, settings.seed, done)
        times += _times(model, runs, rounds, tokens, batch, rates)
    held = [
        held_by(model, label, plan, replace(settings, way=way))
        for label, (way, plan) in runs.items()
        if way != "bare"
    ]
    notes = list(_notes(times, loaded))
    where = machine(inner.device)
    return Bench(model.name, where, settings.way, rates, times, held, notes)


def runs_of(model: Model, plans: Plans, way: Way) -> dict[str, tuple[Way, Plan]]:
    """Return what runs, by label: the bare model, the baseline, and the plans.

    A model that was loaded for some plan has no baseline; its first plan takes that place.
    """
    for label, plan in plans.items():
        admit(opened(model.hf), plan)
        if plan.injections:
            raise UserError(
                f"{label} injects: it needs a donor, and runs the layers of the plan without the "
                "injection; time that plan"
            )
    if not plans:
        raise UserError("there is no plan to time")
    found: dict[str, tuple[Way, Plan]] = {}
    if model.plan is None:
        identity = Plan.identity(model.num_layers)
        found[BASELINE], found[BARE] = (way, identity), ("bare", identity)
        plans = {label: plan for label, plan in plans.items() if plan != identity}
    for label, plan in plans.items():
        found[label] = way, plan
    return found


def _with_stacked(
    model: Model, runs: Mapping[str, tuple[Way, Plan]]
) -> dict[str, tuple[Way, Plan]]:
    """Return what runs, behind each plan the same plan stacked where that can be."""
    found: dict[str, tuple[Way, Plan]] = {}
    for label, (way, plan) in runs.items():
        found[label] = way, plan
        if way == "apply" and can_stack(model, plan):
            found[label + STACKED] = "stacked", plan
    return found


def check_settings(model: Model, settings: Settings) -> None:
    """Raise UserError unless every prompt fits the model, with what is read behind it."""
    longest = max(settings.tokens) + settings.new_tokens
    if model.max_positions is not None and longest > model.max_positions:
        raise UserError(
            f"a prompt of {max(settings.tokens)} tokens and {settings.new_tokens} more exceed the "
            f"model's {model.max_positions} positions"
        )


def random_tokens(model: Model, batch: int, tokens: int, seed: int) -> Int[Tensor, "batch tokens"]:
    """Return sequences of tokens drawn at random, the same on every machine."""
    generator = torch.Generator().manual_seed(seed)
    inner = opened(model.hf)
    drawn = torch.randint(inner.vocabulary, (batch, tokens), generator=generator)
    return drawn.to(inner.device)


def expected_work(
    model: Model, way: Way, plan: Plan, tokens: int, batch: int
) -> dict[str, list[Work]]:
    """Return what a prefill and a token more behind it cost, part by part."""
    engine = way == "engine"
    packs = batch <= rows_per_call(opened(model.hf)) or engine
    calls = {"prefill": Call(tokens, batch=batch), "token": Call(1, tokens, batch, packs=packs)}
    return {
        work: list(forward_work(plan, model.shape, call, engine).values())
        for work, call in calls.items()
    }


def _times(
    model: Model,
    runs: Mapping[str, tuple[Way, Plan]],
    rounds: Mapping[str, Sequence[Timed]],
    tokens: int,
    batch: int,
    rates: Rates,
) -> Iterator[Time]:
    works = {label: expected_work(model, *each, tokens, batch) for label, each in runs.items()}
    first = next(iter(runs))
    for work in ("prefill", "token"):
        samples = {label: _samples(found, work) for label, found in rounds.items()}
        if not samples[first]:
            continue
        for label, (way, plan) in runs.items():
            ratios = [a / b for a, b in zip(samples[label], samples[first], strict=True)]
            own, base = (_seconds(works[name][work], rates) for name in (label, first))
            cost = sum(works[label][work], Work())
            yield Time(
                label,
                way,
                "" if way == "bare" else str(plan),
                work,
                tokens,
                batch,
                Interval.of(samples[label]),
                Interval.of(ratios),
                own / base,
                spread(samples[label]),
                cost.flops,
                cost.bytes,
            )


def _samples(found: Sequence[Timed], work: str) -> list[float]:
    taken = [each.prefill if work == "prefill" else each.token for each in found]
    return [each for each in taken if each is not None]


def _seconds(work: Sequence[Work], rates: Rates) -> float:
    return seconds(work, rates.flops_per_second, rates.bytes_per_second)


def held_by(model: Model, label: str, plan: Plan, settings: Settings) -> Held:
    """Return what a plan holds in memory, at its peak in the largest of the settings."""
    ids = random_tokens(model, max(settings.batches), max(settings.tokens), settings.seed)
    largest = partial(run, model, settings.way, plan, ids, min(1, settings.new_tokens))
    return Held(
        label,
        str(plan),
        kept_bytes(model, plan),
        model.shape.kept_bytes(plan),
        model.shape.parameters(plan),
        peak_memory(largest, ids.device),
    )


def _notes(times: Sequence[Time], loaded: float | None) -> Iterator[str]:
    """Yield what speaks against trusting the times."""
    worst = max((time for time in times if time.label == times[0].label), key=lambda t: t.spread)
    if worst.spread > BUSY:
        yield (
            f"the machine was not quiet: the quartiles of the {worst.label}'s own times lie "
            f"{100 * worst.spread:.0f} % apart ({worst.work}, {worst.tokens} tokens, batch "
            f"{worst.batch}); differences smaller than that are not to be trusted"
        )
    if loaded is not None and loaded > 0.5:
        yield f"before the first round, other work took {100 * loaded:.0f} % of the processor"
