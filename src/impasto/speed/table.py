"""What was timed, as rows for other programs and as lines for a terminal."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from impasto.speed.bench import Bench, Held, Settings, Time
from impasto.speed.one_token import OneToken
from impasto.speed.profile import PARTS, Profile
from impasto.speed.spread import SURE_FROM, Interval
from impasto.table import FORMS as FORMS
from impasto.table import Table, aligned

Row = dict[str, Any]


def bench_rows(found: Bench) -> Table:
    """Return a row for each plan and kind of work, with all that is known of it."""
    held = {each.label: each for each in found.held}
    return Table.of_records([_time_row(found, time, held.get(time.label)) for time in found.times])


def one_token_rows(found: Sequence[OneToken]) -> Table:
    """Return a row for each plan and length."""
    return Table.of_records([asdict(each) for each in found])


def show_bench(found: Bench, settings: Settings) -> Iterator[str]:
    """Yield the lines of tables: one for each setting, then what each plan holds."""
    yield f"model    {found.model}"
    yield f"machine  {found.machine}"
    rates = found.rates
    yield (
        f"         reaches {rates.flops_per_second / 1e9:,.0f} GFLOP/s in products and "
        f"{rates.bytes_per_second / 1e9:,.1f} GB/s in copies"
    )
    how = {"apply": "the Hugging Face model under impasto.apply", "engine": "impasto's generate"}
    yield f"way      {how.get(found.way, found.way)}"
    sure = "95 % interval" if settings.rounds >= SURE_FROM else "least and most"
    yield f"         medians of {settings.rounds} rounds, in [ ]: {sure}; expected: by operations"
    yield "         and bytes moved"
    for batch in settings.batches:
        for tokens in settings.tokens:
            here = [time for time in found.times if (time.tokens, time.batch) == (tokens, batch)]
            yield ""
            yield f"prompt of {tokens} tokens, batch {batch}"
            yield from aligned(_setting_lines(here, found))
    yield ""
    yield from aligned(_held_lines(found.held))
    for note in found.notes:
        yield f"note     {note}"


def show_one_token(found: Sequence[OneToken]) -> Iterator[str]:
    """Yield the lines of paper C's tables: hundredths of a second, and improvement in percent."""
    lengths = list(dict.fromkeys(each.tokens for each in found))
    head = ["plan"]
    for tokens in lengths:
        head += [f"{tokens} tokens: s × 10²", "improvement %", "expected %"]
    lines = [head]
    for label in dict.fromkeys(each.label for each in found):
        line = [label]
        for each in (one for tokens in lengths for one in found if one.tokens == tokens):
            if each.label == label:
                line += [
                    f"{100 * each.seconds:.3f} ± {100 * each.seconds_error:.3f}",
                    f"{100 * each.improvement:.1f} ± {100 * each.improvement_error:.1f}",
                    f"{100 * each.expected:.1f}",
                ]
        lines.append(line)
    yield from aligned(lines)


def show_profile(label: str, profiles: Sequence[Profile]) -> Iterator[str]:
    """Yield the lines of a plan's profile."""
    yield f"profile  {label}"
    head = [
        "",
        *(f"{each.work} ms" if part == 0 else "share" for each in profiles for part in (0, 1)),
    ]
    lines = [head]
    for part in PARTS:
        lines.append([part, *_shares([(each.parts[part], each.seconds) for each in profiles])])
    for layer in sorted({layer for each in profiles for layer in each.layers}):
        pairs = [(each.layers.get(layer, 0.0), each.seconds) for each in profiles]
        lines.append([f"layer {layer}", *_shares(pairs)])
    yield from aligned(lines)


def _setting_lines(times: Sequence[Time], found: Bench) -> list[list[str]]:
    works = list(dict.fromkeys(time.work for time in times))
    head = ["plan"]
    for work in works:
        name = "prefill" if work == "prefill" else "a token more"
        head += [f"{name}, ms", "of baseline", "expected", "spread"]
    if "token" in works:
        head += ["tokens/s", "of copy rate"]
    lines = [head]
    for label in dict.fromkeys(time.label for time in times):
        line = [label]
        for time in (each for each in times if each.label == label):
            line += [
                _interval(time.seconds, 1e3, 2),
                _interval(time.ratio, 1, 3),
                f"{time.expected:.3f}",
                f"{100 * time.spread:.0f} %",
            ]
            if time.work == "token":
                line += [f"{time.per_second:.1f}", f"{100 * _of_copy_rate(time, found):.0f} %"]
        lines.append(line)
    return lines


def _held_lines(held: Sequence[Held]) -> list[list[str]]:
    lines = [["plan", "KV bytes per token", "expected", "parameters", "peak above the weights"]]
    for each in held:
        peak = "not known" if each.peak_bytes is None else f"{each.peak_bytes / 2**20:,.1f} MiB"
        kept = (f"{each.kept_bytes:,}", f"{each.expected_kept_bytes:,}")
        lines.append([each.label, *kept, f"{each.parameters:,}", peak])
    return lines


def _time_row(found: Bench, time: Time, held: Held | None) -> Row:
    return {
        "model": found.model,
        "machine": found.machine,
        "way": "bare" if not time.plan else found.way,
        "label": time.label,
        "plan": time.plan,
        "work": time.work,
        "tokens": time.tokens,
        "batch": time.batch,
        **_named("seconds", time.seconds),
        **_named("ratio", time.ratio),
        "expected_ratio": time.expected,
        "spread": time.spread,
        "tokens_per_second": time.per_second,
        "flops": time.flops,
        "bytes": time.bytes,
        "share_of_copy_rate": _of_copy_rate(time, found),
        "kept_bytes": held.kept_bytes if held else None,
        "parameters": held.parameters if held else None,
        "peak_bytes": held.peak_bytes if held else None,
    }


def _of_copy_rate(time: Time, found: Bench) -> float:
    """Return the bytes that a plan moves in a second, as a share of what copying reaches."""
    return time.bytes / time.seconds.middle / found.rates.bytes_per_second


def _named(name: str, interval: Interval) -> Row:
    return {name: interval.middle, f"{name}_low": interval.low, f"{name}_high": interval.high}


def _interval(interval: Interval, scale: float, digits: int) -> str:
    low, middle, high = (
        f"{scale * value:.{digits}f}" for value in (interval.low, interval.middle, interval.high)
    )
    return f"{middle} [{low}, {high}]"


def _shares(pairs: Sequence[tuple[float, float]]) -> Iterator[str]:
    for seconds, whole in pairs:
        yield f"{1e3 * seconds:.3f}"
        yield f"{100 * seconds / whole:.1f} %"
