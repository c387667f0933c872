"""What a search found: single edits, pairs of them, and the front of plans that no other beats.

Objectives are what the search made small, so that less is better and on top. `scan` and `pairs`
show what was measured on the items that chose; the front is measured on the others, but for the
ground of all plans that were tried.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from math import comb, inf, isfinite

import numpy as np

from impasto.analysis.costs import Priced
from impasto.analysis.curves import BASELINE
from impasto.figures.chart import Chart, Charts, Line, Panel, Places, references
from impasto.figures.found import Found, MissingError, short_name
from impasto.figures.front import Cloud, Front, Fronts
from impasto.figures.matrix import Matrix
from impasto.figures.picture import Picture
from impasto.figures.scale import Scale
from impasto.look import (
    BLUE,
    DASH_DOT,
    DASHED,
    DOTTED,
    GREEN,
    GREY,
    INK,
    LONG_DASHED,
    ORANGE,
    PURPLE,
    SHORT_DASHED,
    SKY,
    SOLID,
    VERMILION,
    Look,
    numbered,
)
from impasto.searching.budget import MEASURES
from impasto.searching.edits import MOVES, Edit, Move
from impasto.searching.found import Found as Search
from impasto.searching.found import FoundPlan, Value

COMMAND = "impasto search SPEC.yaml --out {out}"
TRIED, FRONT, BEST = "tried", "front", "Best"
LOOKS: Mapping[str, Look] = {
    "attention": Look("Attention left out", PURPLE, SOLID, "D"),
    "mlp": Look("MLP left out", ORANGE, DASHED, "s"),
    "layer": Look("Layer left out", BLUE, DOTTED, ">"),
    "parallel": Look("Beside the next layer", SKY, SHORT_DASHED, "h"),
    "swap": Look("Swapped with the next", GREEN, DASH_DOT, "X"),
    "repeat": Look("Run twice", VERMILION, LONG_DASHED, "v"),
}
GROUPS: Mapping[Move, str] = {"mlp": "MLP"}  # what a move is called beside an axis
SPREAD = 20.0  # times: from there on values are drawn by their ratios
FAR = 1.0  # times the others' range: what was tried and is farther below is left out
FEWEST_PAIRS = 0.5  # of all: not every two edits can be made together
LEAST_SHARE = 25  # percent of the values of a matrix whose colours are even


def scan(found: Found) -> Iterator[Picture]:
    """Draw what each edit by itself comes to, by layer, a line for each move."""
    search = _search(found)
    single = {edit: one for edit, one in _singles(search).items() if isfinite(one.objective)}
    moves = [move for move in MOVES if len([e for e in single if e.move == move]) > 1]
    if not moves:
        raise MissingError(
            command=COMMAND, what=["every edit by itself: method: scan, pairs or greedy"]
        )
    values = [search.full.objective, *(one.objective for one in single.values())]
    scale = _scale(search, values)
    lines = []
    for move in moves:
        own = {edit.layer: one for edit, one in single.items() if edit.move == move}
        objectives = [scale.factor * one.objective for one in own.values()]
        lines.append(Line(LOOKS[move], list(own), objectives))
    paired = any(move in moves for move in ("parallel", "swap"))
    chart = Chart(
        title="What each edit by itself comes to",
        told=[*_about(search), _asked(search, list(single.values()))],
        x=Places(
            "layer i" + (", with layer i + 1 where two are edited" if paired else ""),
            range(search.layers),
        ),
        y=scale,
        panels=[Panel(lines, references([("Full model", search.full.objective)], scale))],
    )
    yield Picture("scan", Charts([chart]))


def pairs(found: Found) -> Iterator[Picture]:
    """Draw by how much two edits together are worse than the sum of what each does alone."""
    search = _search(found)
    every = _singles(search)
    single = {edit: one for edit, one in every.items() if one.asked == 1}
    together = {
        tuple(sorted(one.edits, key=_by_move)): one
        for one in search.tried
        if len(one.edits) == 2 and one.asked == 1 and all(edit in single for edit in one.edits)
    }
    if not together or len(together) < FEWEST_PAIRS * comb(len(every), 2):
        raise MissingError(command=COMMAND, what=["every two edits together: method: pairs"])
    edits = sorted({edit for pair in together for edit in pair}, key=_by_move)
    full = search.full.objective
    harm = {edit: single[edit].objective - full for edit in edits}
    values = np.full((len(edits), len(edits)), np.nan)
    for at, edit in enumerate(edits):
        values[at, at] = harm[edit]
    for (one, other), plan in together.items():
        row, column = edits.index(one), edits.index(other)
        value = plan.objective - full - harm[one] - harm[other]
        values[row, column] = values[column, row] = value
    values[~np.isfinite(values)] = np.nan
    size = np.abs(values[np.isfinite(values) & (values != 0)])
    moves = [move for move in MOVES if any(edit.move == move for edit in edits)]
    layers = [edit.layer for edit in edits]
    matrix = Matrix(
        title="Two edits together against the sum of both",
        told=[
            *_about(search),
            _asked(search, list(together.values())),
            "diagonal: one edit alone against the full model",
        ],
        x_label=f"layer and {'move' if len(moves) > 1 else moves[0]}",
        y_label=f"layer and {'move' if len(moves) > 1 else moves[0]}",
        scale=Scale(
            f"worse than the sum of both alone ({search.unit})",
            turned=True,
            number="{:.2g}",
        ),
        values=values,
        rows=layers,
        columns=layers,
        limits=(0.0, float(size.max(initial=1e-12))),
        groups=_groups(edits) if len(moves) > 1 else (),
        least=float(np.percentile(size, LEAST_SHARE)) if len(size) else 1e-12,
    )
    yield Picture("pairs", matrix)


def front(found: Found) -> Iterator[Picture]:
    """Draw plans by cost and objective: the front, the references, and all that was tried."""
    search = _search(found)
    measure = search.measures[0]
    unit = f"{MEASURES.get(measure, measure)} (% of the full model's)"

    def priced(family: str, one: FoundPlan) -> Priced:
        value, low, high = one.objective, np.nan, np.nan
        if family != TRIED and one.held_out is not None:
            value, (low, high) = one.held_out.value, interval_of(search, one.held_out)
        if family == BASELINE:
            low = high = np.nan
        name, digest = str(one.plan), one.plan.digest
        return Priced(family, name, digest, value, 100 * one.cost[measure], unit, low, high)

    of_front = [priced(FRONT, one) for one in search.front if one.plan != search.full.plan]
    full = priced(BASELINE, search.full)
    best = [] if search.best.plan in {one.plan for one in search.front} else [search.best]
    loud = [
        *of_front,
        *(priced(FRONT, one) for one in best),
        *(priced(name, one) for name, plans in search.references.items() for one in plans),
        full,
    ]
    tried = [priced(TRIED, one) for one in search.tried if isfinite(one.objective)]
    scale = _scale(search, [plan.average for plan in loud])
    shown = tried if scale.form == "ratio" else _near(tried, loud)
    cloud = Cloud(
        "",
        [*shown, *loud],
        [*of_front, full],
        [],
        _looks(search),
        faint=TRIED,
        marked=(BEST, search.best.plan.digest),
    )
    picture = Front(
        title="Plans that the search found, by cost",
        told=[
            *_about(search),
            f"budget {search.budget}",
            f"{len(search.tried):,} plans tried on {search.items:,} items that choose",
            f"measured on {search.held_out:,} others, 95 % intervals",
            *(
                [f"{far:,} of the plans tried are far below"]
                if (far := len(tried) - len(shown))
                else []
            ),
        ],
        x_label=unit,
        y=scale,
        clouds=[cloud],
    )
    yield Picture("front", Fronts([picture]))


def interval_of(search: Search, value: Value) -> tuple[float, float]:
    """Return an objective's 95 % interval; that of a divergence is never below 0."""
    low, high = value.interval
    return (max(low, 0.0) if search.full.objective == 0 else low), high


def _near(tried: Sequence[Priced], loud: Sequence[Priced]) -> list[Priced]:
    """Return the plans tried that lie where the others do, or not far below: see ``FAR``."""
    values = [plan.average for plan in loud]
    worst = max(values) + FAR * (max(values) - min(values))
    return [plan for plan in tried if plan.average <= worst]


def _search(found: Found) -> Search:
    if found.search is None:
        raise MissingError(command=COMMAND)
    return found.search


def _singles(search: Search) -> dict[Edit, FoundPlan]:
    """Return what each edit by itself came to, by layer and move."""
    alone = {next(iter(one.edits)): one for one in search.tried if len(one.edits) == 1}
    return dict(sorted(alone.items(), key=lambda each: _by_move(each[0])))


def _by_move(edit: Edit) -> tuple[int, int]:
    return MOVES.index(edit.move), edit.layer


def _groups(edits: Sequence[Edit]) -> list[tuple[str, range]]:
    """Return the runs of edits of one move, by what that is called."""
    runs: dict[Move, range] = {}
    for at, edit in enumerate(edits):
        runs[edit.move] = range(runs[edit.move].start if edit.move in runs else at, at + 1)
    return [(GROUPS.get(move, move), run) for move, run in runs.items()]


def _about(search: Search) -> list[str]:
    return [f"{short_name(search.model)}, {search.layers} layers", search.objective]


def _asked(search: Search, plans: Sequence[FoundPlan]) -> str:
    """Say how many of the items that choose the plans were asked."""
    shares = sorted({one.asked for one in plans})
    ends = " to ".join(dict.fromkeys(f"{100 * share:.3g}" for share in (shares[0], shares[-1])))
    part = f"{ends} % of " if shares[0] < 1 else ""
    return f"{part}{search.items:,} items that choose"


def _scale(search: Search, values: Sequence[float]) -> Scale:
    """Return how objectives are drawn: less is better, by ratios where they spread far."""
    above = [value for value in values if value > 0]
    ratios = min(values, default=-inf) >= 0 and above and max(above) > SPREAD * min(above)
    said = f"{'log scale, ' if ratios else ''}lower is better"
    label = f"{search.objective}, {search.unit} ({said})"
    return Scale(label, "ratio" if ratios else "plain", "{:.3g}", turned=True)


def _looks(search: Search) -> dict[str, Look]:
    """Return how the families of a front's plans are drawn."""
    looks = {
        TRIED: Look("Tried, on the items that choose", GREY),
        FRONT: Look("Front of the search", INK, marker="o"),
        BASELINE: Look("Full model", INK, marker="o"),
    }
    for number, name in enumerate(search.references):
        look = numbered(number, name[:1].upper() + name[1:])
        looks[name] = replace(look, marker="sD^vP*"[number % 6])
    return looks
