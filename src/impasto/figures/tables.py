"""Tables of paper C (*Attention Is All You Need But You Don't Need All Of It*).

1 to 6 are the quality of what is left when the last 10, 25 and 33 % of whole layers, attention or
MLPs are dropped, without and with keeping the last layer; 7 to 10 are the time to one token after
50 and 100, again without and with the last layer. The paper has each for two models; here a number
names what is dropped, and every model has a block of rows.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import nan

from impasto.analysis import metric_name
from impasto.analysis.costs import Timing, average_interval
from impasto.analysis.curves import Row
from impasto.analysis.scores import main_rows, mean_of, signed
from impasto.analysis.series import parameters_of
from impasto.analysis.table_changes import NO_CHANGE, Change, average_changes, change_said
from impasto.analysis.words import short
from impasto.figures.found import Found, MissingError
from impasto.figures.models import common
from impasto.figures.picture import Picture
from impasto.strategies import STRATEGIES
from impasto.table import Table
from impasto.tasks.metrics import metric_of

SHARES = (0.10, 0.25, 0.33)
WHAT = {"block": "whole layers", "mlp": "MLPs", "attention": "attention"}
TABLES = {
    "CT1": ("block", False),
    "CT2": ("mlp", False),
    "CT3": ("attention", False),
    "CT4": ("block", True),
    "CT5": ("mlp", True),
    "CT6": ("attention", True),
}
OF = ("seconds", "seconds_error", "improvement", "improvement_error")
TIMES = {"CT7": (50, False), "CT8": (100, False), "CT9": (50, True), "CT10": (100, True)}
BENCH = "impasto run {study} --out {out} --bench"
ENTRY = STRATEGIES["drop_last"].entry
TASKS = (
    "{name: arc_challenge, num_fewshot: 25}",
    "{name: hellaswag, num_fewshot: 10}",
    "{name: truthfulqa_mc2, num_fewshot: 0}",
    "{name: mmlu, num_fewshot: 5}",
)
ByCount = Mapping[int, Mapping[str, Row]]  # then the task


@dataclass(frozen=True)
class _Kind:
    """Tasks that are averaged together: shares, or those of one metric without a range."""

    name: str
    tasks: tuple[str, ...]
    by_ratio: bool


def quality(name: str, founds: Sequence[Found]) -> Iterator[Picture]:
    """Make one of Tables 1 to 6; raises MissingError where no model has every count."""
    part, keep_last = TABLES[name]
    having = [found for found in founds if found.tasks]
    if not having:
        raise MissingError(TASKS, [ENTRY])
    rows = {found.model: main_rows(found.frame, {}) for found in having}
    drops = {found.model: _by_count(rows[found.model], part, keep_last) for found in having}
    able = [f for f in having if all(n in drops[f.model] for n in _counts(f.layers))]
    if not able:
        raise MissingError(plans=[ENTRY])
    notes = [f"{found.model} lacks plans of {name}" for found in founds if found not in able]
    tasks, said = common({f.model: [r.task for r in rows[f.model]] for f in able})
    every = {row.task: row for found in able for row in rows[found.model]}
    kinds = _kinds([every[task] for task in tasks])
    text, numbers, blocks = [], [], []
    for found in able:
        own = list(_quality_rows(found, drops[found.model], kinds))
        text += [cells for cells, _ in own]
        numbers += [[found.model, *values] for _, values in own]
        blocks.append((found.named, len(own)))
    kept = "the last layer kept" if keep_last else "the last layer among them"
    title = f"the last {WHAT[part]} dropped, {kept}"
    first = {task: every[task] for task in tasks}
    table = Table(
        title=f"{able[0].model}: {title}" if len(able) == 1 else title.capitalize(),
        columns=["dropped", *_columns(kinds, first)],
        rows=text,
        numbers=numbers,
        number_columns=["model", "dropped", *_number_columns(kinds, first)],
        note=_note(kinds, first),
        blocks=blocks if len(able) > 1 else (),
    )
    yield Picture(name, table, [*notes, *said])


def _kinds(rows: Sequence[Row]) -> list[_Kind]:
    names: dict[str, list[str]] = {}
    for row in rows:
        kind = metric_of(row.metric)
        names.setdefault("" if kind.is_bounded else kind.title, []).append(row.task)
    return [_Kind(name, tuple(names[name]), bool(name)) for name in sorted(names, key=bool)]


def _columns(kinds: Sequence[_Kind], first: Mapping[str, Row]) -> Iterator[str]:
    for kind in kinds:
        yield from (first[task].title for task in kind.tasks)
        if not kind.by_ratio or len(kind.tasks) > 1:
            yield _average(kind)
        yield "change" if not kind.by_ratio else f"change of {kind.name}"


def _average(kind: _Kind) -> str:
    return f"geometric mean of {kind.name}" if kind.by_ratio else "average"


def _number_columns(kinds: Sequence[_Kind], first: Mapping[str, Row]) -> Iterator[str]:
    for kind in kinds:
        change = "change" if not kind.by_ratio else f"change of {kind.name}"
        for name in (*(first[task].title for task in kind.tasks), _average(kind), change):
            yield from (name, f"{name} low", f"{name} high")


def _quality_rows(
    found: Found, by_count: ByCount, kinds: Sequence[_Kind]
) -> Iterator[tuple[list[str], list[object]]]:
    """Yield a model's rows: the cells that people read, and the numbers."""
    counts = _counts(found.layers)
    digests = [row.digest for n in counts if n for row in by_count[n].values()]
    changes = [_changes(found, kind, digests) for kind in kinds]
    for count in counts:
        label = _dropped_of(count, found.layers)
        cells: list[str] = [label]
        numbers: list[object] = [label]
        for kind, changed in zip(kinds, changes, strict=True):
            rows = [by_count[count].get(task) for task in kind.tasks]
            there = [row for row in rows if row is not None]
            ends = [(nan, nan, nan) if row is None else (row.value, *row.interval) for row in rows]
            average = (nan, nan, nan)
            if len(there) == len(rows):
                value = mean_of(there[0].metric, (row.value for row in there))
                average = (value, *average_interval(there))
            whole = count and len(there) == len(rows)
            change = changed.get(there[0].digest, NO_CHANGE) if whole else NO_CHANGE
            cells += [_with_interval(*each, kind.by_ratio) for each in ends]
            if not kind.by_ratio or len(rows) > 1:
                cells.append(_with_interval(*average, kind.by_ratio))
            cells.append(change_said(change, kind.by_ratio))
            numbers += [end for each in (*ends, average) for end in each]
            numbers += [change.value, change.low, change.high]
        yield cells, numbers


def _changes(found: Found, kind: _Kind, digests: Sequence[str]) -> dict[str, Change]:
    """Return how plans change the average over the tasks of a kind, by digest."""
    tasks = {row.task: row.metric for row in main_rows(found.frame, {}) if row.task in kind.tasks}
    answers = found.results.answers if found.results else ()
    return average_changes(found.frame, answers, digests, tasks)


def _note(kinds: Sequence[_Kind], first: Mapping[str, Row]) -> str:
    said = []
    if not all(kind.by_ratio for kind in kinds):
        said.append(
            "Percent, ± half of the 95 % interval over questions; change in points, in brackets "
            "its interval, item by item where answers are known."
        )
    if any(kind.by_ratio for kind in kinds):
        said.append(
            "What has no range, such as a perplexity, is averaged by the geometric mean; there the "
            "change is in percent of the full model's, or how many times as much; less is better."
        )
    metrics = (
        f"{row.title} {metric_name(row.metric)}, n = {row.n:,}"
        for kind in kinds
        for row in (first[task] for task in kind.tasks)
    )
    return f"{' '.join(said)} {', '.join(metrics)}."


def times(name: str, founds: Sequence[Found]) -> Iterator[Picture]:
    """Make one of Tables 7 to 10; raises MissingError unless every plan of it was timed."""
    tokens, keep_last = TIMES[name]
    founds = [found for found in founds if found.tasks]
    if not founds:
        raise MissingError(TASKS, [ENTRY], BENCH)
    made, missing = [], []
    for found in founds:
        try:
            made.append((found, _timings(found, tokens, keep_last)))
        except MissingError as error:
            missing.append((found, error))
    if not made:
        raise missing[0][1]
    kept = "the last layer kept" if keep_last else "the last layer among them"
    title = f"time to one token after {tokens}, the last parts dropped, {kept}"
    rows, numbers = [], []
    for found, timings in made:
        for count, here in zip(_counts(found.layers), timings, strict=True):
            label = _dropped_of(count, found.layers)
            rows.append([label, *(_time(timing, is_full=not count) for timing in here)])
            values = (getattr(timing, of) for timing in here for of in OF)
            numbers.append([found.model, label, *values])
    table = Table(
        title=f"{made[0][0].model}: {title}" if len(made) == 1 else title.capitalize(),
        columns=["dropped", *WHAT.values()],
        rows=rows,
        numbers=numbers,
        note="Hundredths of a second, ± half of the 95 % interval of the mean; in brackets by how "
        "many percent it is shorter than the full model's. CSV: seconds and shares.",
        number_columns=[
            "model",
            "dropped",
            *(f"{what} {of.replace('_', ' ')}" for what in WHAT.values() for of in OF),
        ],
        blocks=[(f.named, len(here)) for f, here in made] if len(made) > 1 else (),
    )
    yield Picture(name, table, [f"{found.model} lacks times of {name}" for found, _ in missing])


def _timings(found: Found, tokens: int, keep_last: bool) -> list[list[Timing]]:
    """Return a model's times, by how many are dropped and which part; raises MissingError."""
    rows, counts = main_rows(found.frame, {}), _counts(found.layers)
    drops = {part: _by_count(rows, part, keep_last) for part in WHAT}
    if any(count not in of_part for of_part in drops.values() for count in counts):
        raise MissingError([], [ENTRY], BENCH)
    digests = [[next(iter(of[n].values())).digest for of in drops.values()] for n in counts]
    measured = {timing.digest: timing for timing in found.timings if timing.tokens == tokens}
    needed = {digest for here in digests for digest in here}
    if untimed := len(needed - measured.keys()):
        what = f"times to one token after {tokens}: of {untimed} of {len(needed)} plans"
        raise MissingError(command=BENCH, what=[what])
    return [[measured[digest] for digest in here] for here in digests]


def _by_count(rows: Sequence[Row], part: str, keep_last: bool) -> ByCount:
    """Return the rows by how many are dropped and by task; none dropped is the baseline."""
    found: dict[int, dict[str, Row]] = {}
    for row in rows:
        parameters = parameters_of(row)
        if row.strategy == "baseline":
            found.setdefault(0, {})[row.task] = row
        elif (
            row.strategy == "drop_last"
            and parameters["part"] == part
            and parameters["keep_last"] is keep_last
        ):
            found.setdefault(parameters["count"], {})[row.task] = row
    return found


def _counts(layers: int) -> list[int]:
    """Return how many are dropped in the paper's tables: none, and its shares."""
    return [0, *sorted({round(share * layers) for share in SHARES} - {0})]


def _dropped_of(count: int, layers: int) -> str:
    share = f"{100 * count / layers:.0f} %"
    return f"{count} of {layers} ({share})" if count else "0 (full model)"


def _time(timing: Timing, is_full: bool) -> str:
    time = f"{100 * timing.seconds:.2f} ± {100 * timing.seconds_error:.2f}"
    improvement = f"{signed(100 * timing.improvement)} ± {100 * timing.improvement_error:.1f}"
    return time if is_full else f"{time} ({improvement} %)"


def _with_interval(value: float, low: float, high: float, by_ratio: bool) -> str:
    """Return a value with half of its interval; nothing where it is not known."""
    if value != value:
        return ""
    if by_ratio:
        half = f" ± {short((high - low) / 2, 2)}" if high == high else ""
        return short(value) + half
    return f"{100 * value:.1f}" + (f" ± {50 * (high - low):.1f}" if high == high else "")
