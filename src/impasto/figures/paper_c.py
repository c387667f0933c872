"""Figure and tables of paper C (*Attention Is All You Need But You Don't Need All Of It*).

Figure 1 is the similarity of each depth with the one before. Tables 1 to 6 are the quality of what
is left when the last 10, 25 and 33 % of whole layers, attention or MLPs are dropped, without and
with keeping the last layer; 7 to 10 are the time to one token after 50 and 100, again without and
with the last layer. The paper has its tables for two models; here a study is one model, so a number
names what is dropped.
"""

from collections.abc import Iterator, Mapping, Sequence
from math import nan

import numpy as np

from impasto.analysis import metric_name
from impasto.analysis.costs import Timing
from impasto.analysis.curves import Row
from impasto.analysis.inside.saved import SIMILARITY
from impasto.analysis.scores import main_rows, signed
from impasto.analysis.series import Series, TaskSet, parameters_of, summed_series
from impasto.figures.chart import Chart, Line, Reference, draw_charts, percent_limits, references
from impasto.figures.found import Found, MissingError
from impasto.figures.paper_b import BANDS, TEXTS
from impasto.figures.picture import Picture
from impasto.figures.style import look_of
from impasto.look import BLUE, DASHED, PURPLE, Look
from impasto.strategies import STRATEGIES
from impasto.table import Table

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
EVERY_COUNT = "drop_last: {part: all, count: all, keep_last: all}"
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


def with_previous(found: Found) -> Iterator[Picture]:
    """Draw Figure 1: how like the depth before each depth is."""
    if SIMILARITY not in found.inside:
        raise MissingError(command=TEXTS)
    inside = found.inside[SIMILARITY]
    looks = {
        "tokens": Look("per token", PURPLE),
        "flattened": Look("texts flattened", BLUE, DASHED, "s"),
    }
    lines = []
    for measure, values in (inside.similarity or {}).items():
        half = np.nan_to_num(values.with_previous_half_width)
        pairs = enumerate(zip(values.with_previous, half, strict=True), 1)
        points = {depth: (mean, mean - width, mean + width) for depth, (mean, width) in pairs}
        lines.append(Line.of(looks[measure], points, 1))
    first = next(iter((inside.similarity or {}).values()))
    chart = Chart(
        title="Similarity with the previous layer",
        told=[
            f"{found.model}, {inside.layers} layers",
            f"{first.texts:,} texts, {first.tokens:,} tokens",
            BANDS,
        ],
        x_label="depth k, compared with depth k − 1 (what layer k − 1 reads)",
        y_label="mean cosine similarity",
        lines=lines,
        places=range(1, inside.layers + 1),
        references=[Reference("Nothing changed", 1.0)],
    )
    yield Picture("C1", draw_charts([chart]))


def quality(name: str, found: Found) -> Iterator[Picture]:
    """Make one of Tables 1 to 6."""
    part, keep_last = TABLES[name]
    rows = main_rows(found.frame, {}) if found.tasks else []
    if not rows:
        raise MissingError(TASKS, [ENTRY])
    layers = rows[0].layers
    counts = _counts(layers)
    by_count = _by_count(rows, part, keep_last)
    if any(count not in by_count for count in counts):
        raise MissingError(plans=[ENTRY])
    yield Picture(name, _quality_table(found, rows, counts, by_count, part, keep_last))


def times(name: str, found: Found) -> Iterator[Picture]:
    """Make one of Tables 7 to 10; raises MissingError unless every plan of it was timed."""
    tokens, keep_last = TIMES[name]
    rows = main_rows(found.frame, {}) if found.tasks else []
    if not rows:
        raise MissingError(TASKS, [ENTRY], BENCH)
    layers = rows[0].layers
    counts = _counts(layers)
    digests = {part: _digests(rows, part, keep_last) for part in WHAT}
    if any(count not in of_part for of_part in digests.values() for count in counts):
        raise MissingError([], [ENTRY], BENCH)
    measured = {timing.digest: timing for timing in found.timings if timing.tokens == tokens}
    needed = {of_part[count] for of_part in digests.values() for count in counts}
    if untimed := len(needed - measured.keys()):
        what = f"times to one token after {tokens}: of {untimed} of {len(needed)} plans"
        raise MissingError(command=BENCH, what=[what])
    timings = [[measured[of_part[count]] for of_part in digests.values()] for count in counts]
    kept = "the last layer kept" if keep_last else "the last layer among them"
    labels = [_dropped_of(count, layers) for count in counts]
    table = Table(
        title=f"{found.model}: time to one token after {tokens}, the last parts dropped, {kept}",
        columns=["dropped", *WHAT.values()],
        rows=[
            [label, *(_time(timing, is_full=not count) for timing in here)]
            for label, count, here in zip(labels, counts, timings, strict=True)
        ],
        numbers=[
            [label, *(getattr(timing, of) for timing in here for of in OF)]
            for label, here in zip(labels, timings, strict=True)
        ],
        note="Hundredths of a second, ± half of the 95 % interval of the mean; in brackets by how "
        "many percent it is shorter than the full model's. CSV: seconds and shares.",
        number_columns=[
            "dropped",
            *(f"{what} {of.replace('_', ' ')}" for what in WHAT.values() for of in OF),
        ],
    )
    yield Picture(name, table)


def _digests(rows: Sequence[Row], part: str, keep_last: bool) -> Mapping[int, str]:
    """Return the plans' digests by how many are dropped."""
    by_count = _by_count(rows, part, keep_last)
    return {count: next(iter(of_tasks.values())).digest for count, of_tasks in by_count.items()}


def _counts(layers: int) -> list[int]:
    """Return how many are dropped in the paper's tables: none, and its shares."""
    return [0, *sorted({round(share * layers) for share in SHARES} - {0})]


def _time(timing: Timing, is_full: bool) -> str:
    time = f"{100 * timing.seconds:.2f} ± {100 * timing.seconds_error:.2f}"
    improvement = f"{signed(100 * timing.improvement)} ± {100 * timing.improvement_error:.1f}"
    return time if is_full else f"{time} ({improvement} %)"


def _dropped_of(count: int, layers: int) -> str:
    share = f"{100 * count / layers:.0f} %"
    return f"{count} of {layers} ({share})" if count else "0 (full model)"


def dropping(found: Found) -> Iterator[Picture]:
    """Draw the average over tasks by how many of the last layers are dropped."""
    series = [
        s
        for s in (summed_series(found.frame, "count", "average") if found.tasks else [])
        if s.strategy == "drop_last" and len(s.points) > 1
    ]
    if not series:
        raise MissingError([] if found.tasks else TASKS, [EVERY_COUNT])
    rows = main_rows(found.frame, {})
    tasks = len({row.task for row in rows})
    full = TaskSet("", found.frame, "average").reference("baseline")
    charts = []
    for keep_last in (False, True):
        lines = [_dropped(s, full) for s in series if s.parameters["keep_last"] is keep_last]
        if lines:
            how = "the last layer is kept" if keep_last else "up to the last layer"
            charts.append(
                Chart(
                    title=f"Dropping the last layers: {how}",
                    told=[
                        f"{found.model}, {rows[0].layers} layers",
                        f"average of {tasks} tasks",
                        BANDS,
                    ],
                    x_label="layers dropped, or run without this part",
                    y_label="average score (%)",
                    lines=lines,
                    places=range(int(max(max(line.x) for line in lines)) + 1),
                    references=references([("Full model", full)]),
                    limits=percent_limits(lines),
                )
            )
    yield Picture("drop_last", draw_charts(charts))


def _dropped(series: Series, full: float) -> Line:
    """Return a part's line, which begins at the full model: there nothing is dropped."""
    points = {0: (full, full, full)}
    points |= {place: (at.value, at.low, at.high) for place, at in series.points.items()}
    return Line.of(look_of(f"drop_last {series.parameters['part']}"), points, 100)


def _by_count(rows: Sequence[Row], part: str, keep_last: bool) -> Mapping[int, Mapping[str, Row]]:
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


def _quality_table(
    found: Found,
    rows: Sequence[Row],
    counts: Sequence[int],
    by_count: Mapping[int, Mapping[str, Row]],
    part: str,
    keep_last: bool,
) -> Table:
    layers, tasks = rows[0].layers, list(dict.fromkeys(row.task for row in rows))
    first = {row.task: row for row in reversed(rows)}
    columns = ["dropped", *(first[task].title for task in tasks), "average", "change"]
    full = float(np.mean([by_count[0][task].value for task in tasks]))
    text, numbers = [], []
    for count in counts:
        here = [by_count[count].get(task) for task in tasks]
        values = [nan if row is None else row.value for row in here]
        average = float(np.mean(values))
        label = _dropped_of(count, layers)
        cells = ["" if row is None else _with_interval(row) for row in here]
        change = "" if not count else signed(100 * (average - full))
        text.append([label, *cells, f"{100 * average:.1f}", change])
        numbers.append([label, *values, average, average - full])
    kept = "the last layer kept" if keep_last else "the last layer among them"
    metrics = ", ".join(
        f"{first[task].title} {metric_name(first[task].metric)}, n = {first[task].n:,}"
        for task in tasks
    )
    return Table(
        title=f"{found.model}: the last {WHAT[part]} dropped, {kept}",
        columns=columns,
        rows=text,
        numbers=numbers,
        note=f"Percent, ± half of the 95 % interval over questions; change in points. {metrics}.",
    )


def _with_interval(row: Row) -> str:
    low, high = row.interval
    half = 100 * (high - low) / 2
    return f"{100 * row.value:.1f} ± {half:.1f}" if half == half else f"{100 * row.value:.1f}"
