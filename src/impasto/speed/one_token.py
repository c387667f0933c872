"""Paper C's measure (arXiv 2407.15516, tables 7 to 10): the time to one token.

Sequences of 50 and of 100 tokens are read one at a time, 1,000 of each, up to the token that
follows; the paper prints the mean in hundredths of a second, and by how many percent it is shorter
than the whole model's.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count
from math import sqrt
from statistics import fmean, stdev

from impasto.plan import Plan
from impasto.plan.cost import seconds
from impasto.run import Model
from impasto.run.batching.memory import Meter
from impasto.run.opening import opened
from impasto.speed.bench import (
    Plans,
    Settings,
    check_settings,
    expected_work,
    random_tokens,
    runs_of,
)
from impasto.speed.clock import in_turns
from impasto.speed.machine import measure_rates
from impasto.speed.ways import Way, run

LENGTHS = (50, 100)
SEQUENCES = 1000
_SURE = 1.96  # standard errors on either side of a mean, for 95 %


@dataclass(frozen=True, slots=True)
class OneToken:
    """One plan at one length.

    Attributes:
        label: The plan's.
        plan: The plan itself; empty for the bare model.
        tokens: How long the sequences are.
        seconds: The mean time from a sequence to its next token.
        seconds_error: Half of that mean's 95 % interval.
        improvement: By what share the mean is shorter than the baseline's.
        improvement_error: Half of that share's 95 % interval.
        expected: The improvement that operations and bytes moved let expect.
    """

    label: str
    plan: str
    tokens: int
    seconds: float
    seconds_error: float
    improvement: float
    improvement_error: float
    expected: float


def one_token(
    model: Model,
    plans: Plans,
    lengths: Sequence[int] = LENGTHS,
    sequences: int = SEQUENCES,
    way: Way = "apply",
    seed: int = 0,
    progress: Callable[[float], None] = lambda share: None,
) -> list[OneToken]:
    """Return the time to one token of the baseline, the bare model and every plan.

    Each sequence is read under all plans, in an order of its own, before the next one is.

    Raises:
        UserError: when a plan cannot be timed, or a length does not fit the model.
    """
    runs = runs_of(model, plans, way)
    check_settings(model, Settings(tokens=lengths, new_tokens=0))
    inner = opened(model.hf)
    rates = measure_rates(inner.device, model.hf.dtype, inner.hidden)
    warm_up = min(10, sequences)
    meter = Meter(progress, len(lengths) * (warm_up + sequences) * len(runs))
    found = []
    for tokens in lengths:
        works = {
            label: partial(_read_next, model, *each, tokens, count(seed))
            for label, each in runs.items()
        }
        taken = in_turns(works, sequences, warm_up, seed, partial(meter.add, 1))
        expected = {
            label: seconds(
                expected_work(model, *each, tokens, 1)["prefill"],
                rates.flops_per_second,
                rates.bytes_per_second,
            )
            for label, each in runs.items()
        }
        found += _compared(runs, taken, expected, tokens)
    return found


def _read_next(model: Model, way: Way, plan: Plan, tokens: int, seeds: "count[int]") -> float:
    ids = random_tokens(model, 1, tokens, next(seeds))
    return run(model, way, plan, ids, 0).prefill


def _compared(
    runs: Mapping[str, tuple[Way, Plan]],
    taken: Mapping[str, Sequence[float]],
    expected: Mapping[str, float],
    tokens: int,
) -> list[OneToken]:
    first = next(iter(runs))
    base = fmean(taken[first])
    found = []
    for label, (way, plan) in runs.items():
        improvement = 1 - fmean(taken[label]) / base
        rest = [a * (1 - improvement) - b for a, b in zip(taken[first], taken[label], strict=True)]
        found.append(
            OneToken(
                label,
                "" if way == "bare" else str(plan),
                tokens,
                fmean(taken[label]),
                _error(taken[label]),
                improvement,
                _error(rest) / base,
                1 - expected[label] / expected[first],
            )
        )
    return found


def _error(samples: Sequence[float]) -> float:
    """Return half of the 95 % interval of a mean; infinite for one sample."""
    return _SURE * stdev(samples) / sqrt(len(samples)) if len(samples) > 1 else float("inf")
