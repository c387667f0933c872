"""Families by two of their parameters: by how much each plan changes what tasks come to.

A cell is a plan: its average over the tasks against the full model's. Tasks whose full model is not
above chance tell nothing of a plan, and are left out. `repeat_block` is drawn by the ends of the
block, `pairs_parallel` by where the pairs begin and how many they are, `half_step` by turns and
scale for each block, or by the block's ends for each of these, whichever are fewer pictures.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import isfinite
from typing import Any

import numpy as np

from impasto.analysis.changes import Changes
from impasto.analysis.confidence import corrected
from impasto.analysis.curves import Row
from impasto.analysis.items import item_scores
from impasto.analysis.scores import main_rows, signed, tasks_above_chance
from impasto.analysis.series import TaskSet, averaged_sets
from impasto.analysis.table_changes import MOST_RECORDS
from impasto.figures.found import Found, MissingError
from impasto.figures.matrix import Matrix
from impasto.figures.middles import WANTED
from impasto.figures.models import asked
from impasto.figures.picture import Picture, file_name
from impasto.figures.scale import Scale
from impasto.plan import Plan
from impasto.plan.steps import spelled_scale
from impasto.strategies import STRATEGIES
from impasto.tasks.metrics import Metric, metric_of

FEWEST = 2  # plans: of fewer there is nothing to compare
MOST = 6  # pictures of one family and set of tasks
FORMS = {
    "parts": "both attentions, then both MLPs",
    "sum": "whole layers, summed up",
    "mean": "whole layers, averaged",
}

Cell = tuple[int, int]  # row, column
Plans = Mapping[str, Mapping[str, Any]]  # a family's plans: their parameters, by these as JSON


@dataclass(frozen=True)
class Grid:
    """Where the plans of a picture stand: of each a cell of these rows and columns.

    `ending` tells its name from others of the family. `mark` is what the best cell is: where that
    is `highest`, of equal ones in the highest row. Rows and columns of layers count alike.
    """

    ending: str
    title: str
    x_label: str
    y_label: str
    rows: Sequence[object]
    columns: Sequence[object]
    cells: Mapping[str, Cell]
    mark: str
    highest: bool = False
    of_layers: bool = False


def blocks(found: Found) -> Iterator[Picture]:
    """Draw by how much each block that is run twice changes the average over the tasks."""
    title = "A block of layers run twice"
    return _pictures(found, "repeat_block", lambda plans, T: [_by_ends(plans, T, "", title)])


def damped_loops(found: Found) -> Iterator[Picture]:
    """Draw by how much each damped loop changes the average over the tasks."""
    return _pictures(found, "half_step", _loops)


def pairs(found: Found) -> Iterator[Picture]:
    """Draw by how much neighbours that run side by side change the average over the tasks."""
    return _pictures(found, "pairs_parallel", _pairs)


# ---------------------------------------------------------------------- where plans stand


def _by_ends(plans: Plans, layers: int, ending: str, title: str) -> Grid:
    cells = {name: (own["j"] - 1, own["i"]) for name, own in plans.items()}
    x, y = "first layer of the block (i)", "first layer after the block (j)"
    rows = range(1, layers + 1)
    return Grid(ending, title, x, y, rows, range(layers), cells, "best block", of_layers=True)


def _loops(plans: Plans, layers: int) -> list[Grid]:
    by_block: dict[tuple[int, int], dict[str, Mapping[str, Any]]] = {}
    by_step: dict[tuple[int, float], dict[str, Mapping[str, Any]]] = {}
    for name, own in plans.items():
        by_block.setdefault((own["i"], own["j"]), {})[name] = own
        by_step.setdefault((own["times"], own["scale"]), {})[name] = own
    if len(by_block) <= len(by_step):
        return [_by_steps(own, *block) for block, own in sorted(by_block.items())]
    grids = []
    for (times, scale), own in sorted(by_step.items()):
        said = spelled_scale(float(scale))
        title = f"A block of layers as a damped loop: {times} × {said}"
        grids.append(_by_ends(own, layers, f"-{times}x{said}", title))
    return grids


def _by_steps(plans: Plans, i: int, j: int) -> Grid:
    times = sorted({own["times"] for own in plans.values()})
    scales = sorted({float(own["scale"]) for own in plans.values()})
    cells = {
        name: (times.index(own["times"]), scales.index(own["scale"])) for name, own in plans.items()
    }
    named = f"Layers {i}–{j - 1}" if j - i > 1 else f"Layer {i}"
    return Grid(
        ending=f"-{i}-{j - 1}",
        title=f"{named} as a damped loop",
        x_label="scale of what a turn adds",
        y_label="turns",
        rows=times,
        columns=list(map(spelled_scale, scales)),
        cells=cells,
        mark="best loop",
    )


def _pairs(plans: Plans, layers: int) -> list[Grid]:
    grids = []
    for form, said in FORMS.items():
        own = {name: each for name, each in plans.items() if each["form"] == form}
        if not own:
            continue
        counts = {name: (each["to"] - each["from"] + 1) // 2 for name, each in own.items()}
        firsts = [each["from"] for each in own.values()]
        columns = range(min(firsts), max(firsts) + 1)
        rows = range(min(counts.values()), max(counts.values()) + 1)
        cells = {
            name: (counts[name] - rows[0], each["from"] - columns[0]) for name, each in own.items()
        }
        title = f"Neighbours side by side: {said}"
        x, y = "first layer of the pairs", "pairs"
        mark = "best; of equal ones the most pairs"
        grids.append(Grid(f"-{form}", title, x, y, rows, columns, cells, mark, highest=True))
    return grids


# ---------------------------------------------------------------------- what plans come to


def _pictures(
    found: Found, family: str, grids_of: Callable[[Plans, int], list[Grid]]
) -> Iterator[Picture]:
    """Draw the grids of a family's plans, for each set of tasks."""
    entry = STRATEGIES[family].entry
    if family not in found.strategies:
        raise MissingError([] if found.tasks else ["capitals"], [entry])
    drawn, at_chance = 0, []
    for tasks in averaged_sets(found.frame):
        rows = main_rows(tasks.frame, {})
        above = tasks_above_chance(rows)
        judged = [row for row in rows if above.get(row.task)]
        out = list(dict.fromkeys(row.title for row in rows if not above.get(row.task)))
        at_chance += out
        digests = {row.parameters: row.digest for row in judged if row.strategy == family}
        if len(digests) < FEWEST:
            continue
        grids = grids_of({name: json.loads(name) for name in digests}, found.layers)
        several = f"{family}: {len(grids)} pictures, of which the first {MOST} are drawn"
        ending = f"-{file_name(tasks.title)}" if drawn else ""
        drawn += 1
        of_set = _OfSet(found, tasks, judged, out, digests)
        for grid in grids[:MOST]:
            name = f"{family}{grid.ending * (len(grids) > 1)}{ending}"
            yield Picture(name, of_set.matrix(grid), [several] * (len(grids) > MOST))
    if not drawn and at_chance:
        titles = ", ".join(dict.fromkeys(at_chance))
        reason = f"the full model is not above chance on {titles}, so no plan can be judged by that"
        raise MissingError(WANTED, reason=reason)
    if not drawn:
        raise MissingError([], [entry])


@dataclass(frozen=True)
class _OfSet:
    """A family's plans on one set of tasks, of which some are not above chance and left out."""

    found: Found
    tasks: TaskSet
    judged: Sequence[Row]
    left_out: Sequence[str]
    digests: Mapping[str, str]

    @cached_property
    def changes(self) -> dict[str, tuple[float, float, float]]:
        """By how many points, or percent, each plan changes the average, with its interval."""
        answers = self.found.results.answers if self.found.results else ()
        scores = item_scores(answers) if 0 < len(answers) <= MOST_RECORDS else {}
        metrics = {row.task: row.metric for row in self.judged}
        members = [(digest,) for digest in self.digests.values()]
        changes = Changes(self.tasks.frame, scores)
        lost = changes.average(metrics, members, corrected(len(members)))
        sign = 100 if self.kind.lower_is_better else -100
        low, high = sign * lost.low, sign * lost.high
        every = zip(sign * lost.lost, np.minimum(low, high), np.maximum(low, high), strict=True)
        return dict(zip(self.digests, every, strict=True))

    @property
    def kind(self) -> Metric:
        """What the tasks are measured in."""
        return metric_of(self.judged[0].metric)

    def matrix(self, grid: Grid) -> Matrix:
        """Return the changes where the grid has them, the best that changes anything framed."""
        values = np.full((len(grid.rows), len(grid.columns)), np.nan)
        for name, cell in grid.cells.items():
            values[cell] = self.changes[name][0]
        best, told = self._best(grid)
        finite = values[np.isfinite(values)]
        return Matrix(
            title=grid.title,
            told=[*self._told(grid), *told],
            x_label=grid.x_label,
            y_label=grid.y_label,
            scale=self._scale,
            values=values,
            rows=grid.rows,
            columns=grid.columns,
            limits=(0.0, float(np.abs(finite).max(initial=0)) or 1.0),
            marked=(grid.mark, best) if best else None,
            least=0.0,
            alike=grid.of_layers,
        )

    def _best(self, grid: Grid) -> tuple[list[Cell], list[str]]:
        """Return the cells of the best plans of a grid, and their change in words."""
        same = Plan.identity(self.found.layers).digest
        changed = {n: self.changes[n] for n in grid.cells if self.digests[n] != same}
        known = {name: at for name, at in changed.items() if isfinite(at[0])}
        if not known:
            return [], []
        best = (min if self.kind.lower_is_better else max)(at[0] for at in known.values())
        names = [name for name, at in known.items() if at[0] == best]
        _, low, high = known[names[0]]
        told = (
            f"best {signed(best)}, 95 % interval {signed(low)} to {signed(high)}, "
            f"corrected for {len(self.digests)} plans"
        )
        cells = [grid.cells[name] for name in names]
        top = max(row for row, _ in cells) if grid.highest else 0
        marked = [cell for cell in cells if cell[0] >= top]
        return marked, [told] if isfinite(low + high) else []

    def _told(self, grid: Grid) -> list[str]:
        """Return what was run, in words."""
        titles = list(dict.fromkeys(row.title for row in self.judged))
        asked_of = asked([(self.found, self.judged[0].n)], self.kind.items)
        return [
            self.found.named,
            f"average of {len(titles)} tasks" if len(titles) > 2 else ", ".join(titles),
            asked_of if len(titles) == 1 else f"{len(grid.cells)} plans",
            *([f"not above chance, left out: {', '.join(self.left_out)}"] if self.left_out else []),
        ]

    @property
    def _scale(self) -> Scale:
        """How changes are coloured and said: those of a perplexity are worse where they rise."""
        kind = self.kind
        unit = "points" if kind.is_bounded else f"% of the full model's {kind.title}"
        better = "higher" if not kind.lower_is_better else "lower"
        label = f"change against the full model ({unit}; {better} is better)"
        return Scale(label, number="{:+.1f}", turned=kind.lower_is_better)
