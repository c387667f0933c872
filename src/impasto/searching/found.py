"""What a search came to, as a value that is written to `search/` in its folder and read again.

`found.json` has the plans that a reader is told of, `tried.csv` every plan that was asked anything.
"""

import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, get_type_hints

import pandas as pd

from impasto.analysis.confidence import Z_95
from impasto.error import UserError, shown
from impasto.paths import path_of
from impasto.plain_data import of_type, read_json_file, typed
from impasto.plan import Plan
from impasto.searching.edits import MOVES, Candidate, Edit, named
from impasto.study.database.searches import FOLDER, FOUND, TRIED
from impasto.study.folder.files import write_files

_EDIT = re.compile(rf"({'|'.join(MOVES)}) (\d+)(?:–\d+)?")


@dataclass(frozen=True, slots=True)
class Value:
    """A mean over items with its standard error."""

    value: float
    stderr: float

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval."""
        return self.value - Z_95 * self.stderr, self.value + Z_95 * self.stderr


@dataclass(frozen=True, slots=True)
class FoundPlan:
    """A plan that a search measured.

    Attributes:
        plan: The plan.
        edits: What it changes; empty for the full model and for plans from elsewhere.
        objective: The objective on the items that chose.
        held_out: The objective on the other items; None where it was not asked them.
        cost: What share of the full model's cost it costs, by each measure of the budget.
        asked: What share of the items that choose it was asked.
    """

    plan: Plan
    edits: Candidate
    objective: float
    held_out: Value | None
    cost: Mapping[str, float]
    asked: float = 1.0

    @property
    def what(self) -> str:
        """Its edits in words."""
        return named(self.edits)


@dataclass(frozen=True, slots=True)
class Confirmed:
    """A plan on a task, on questions that the search never saw, against the full model's answers.

    Attributes:
        plan: The plan.
        task, title: The task's name, and what figures call it.
        metric: What it is measured by; `value` and `baseline` are the plan's and the full model's.
        n: How many questions.
        difference, low, high: By how much the plan is better (negative: worse) and the 95 %
            interval, by the sign that makes more better.
        p: The probability of such a difference if both were equally good.
        corrected: The same, corrected for all that was compared (Holm).
        kind: `choice` for tasks that score given answers, `generation` for those that are written.
    """

    plan: Plan
    task: str
    title: str
    metric: str
    value: float
    baseline: float
    n: int
    difference: float
    low: float
    high: float
    p: float
    corrected: float
    kind: str


@dataclass(frozen=True, slots=True)
class Timed:
    """A plan that was timed, under a budget of seconds.

    Attributes:
        plan: The plan.
        estimated: Its seconds by what its parts take, as a share of the full model's.
        measured: Its seconds by a clock, as a share of the full model's.
        keeps: Whether these keep the budget.
    """

    plan: Plan
    estimated: float
    measured: float
    keeps: bool


@dataclass(frozen=True)
class Found:
    """What a search came to.

    Attributes:
        search, model: The names of the search and of the model; it has `layers` layers.
        objective, unit: What was made small, and what it is counted in.
        budget: The bounds that the best plan keeps, in words.
        method: How it was looked for.
        items, held_out: How many items chose, and how many judged.
        full: The full model.
        best: The plan that was chosen.
        front: The plans that no other beats on the items that chose, the cheapest first.
        references: What other ways to choose come to, by their names, measured on the same items.
        tried: Every plan that was asked anything.
        confirmed: The best plan and the front on tasks.
        sentences: What all that says, in words.
        layer_rows: What the search's questions cost, in tokens through one whole layer; None where
            nobody could count it.
        layer_rows_alone: What the same questions cost plan by plan and text by text.
        timed: The plans that were timed, from the best on to the first that keeps the budget.
    """

    search: str
    model: str
    layers: int
    objective: str
    unit: str
    budget: str
    method: str
    items: int
    held_out: int
    full: FoundPlan
    best: FoundPlan
    front: Sequence[FoundPlan]
    references: Mapping[str, Sequence[FoundPlan]]
    tried: Sequence[FoundPlan]
    confirmed: Sequence[Confirmed] = ()
    sentences: Sequence[str] = ()
    layer_rows: float | None = None
    layer_rows_alone: float | None = None
    moves: Sequence[str] = field(default=())
    timed: Sequence[Timed] = ()

    @property
    def measures(self) -> list[str]:
        """What costs are counted in, as the budget has it; fronts are drawn by the first."""
        return list(self.full.cost)

    def frame(self) -> pd.DataFrame:
        """Return every plan that was tried: plan, edits, objective, share asked, costs."""
        rows = [
            {
                "plan": str(one.plan),
                "edits": one.what,
                "objective": one.objective,
                "asked": one.asked,
                **one.cost,
            }
            for one in self.tried
        ]
        return pd.DataFrame(rows)

    def files(self) -> dict[str, str]:
        """Return what `search/found.json` and `search/tried.csv` hold, by their names."""
        content = {name: _written(value) for name, value in vars(self).items() if name != "tried"}
        text = io.StringIO()
        self.frame().to_csv(text, index=False)
        return {FOUND: json.dumps(content, indent=1, ensure_ascii=False), TRIED: text.getvalue()}

    def write(self, out: Path) -> None:
        """Write the files to `search/` in a folder, both or none of them."""
        write_files(out / FOLDER, self.files())

    @classmethod
    def read(cls, out: str | Path) -> "Found":
        """Return what the search in a folder found; raises UserError where none has ended."""
        folder = path_of(out, "a search's folder") / FOLDER
        if not (folder / FOUND).exists():
            raise UserError(f"{out} holds no finished search")
        try:
            content = read_json_file(folder / FOUND)
            hints = get_type_hints(cls)
            plain = {name: of_type(hints[name], content[name], name) for name in PLAIN}
            layers = plain["layers"]
            table = pd.read_csv(folder / TRIED, keep_default_na=False)
            return cls(
                **plain,
                full=_plan(content["full"], layers),
                best=_plan(content["best"], layers),
                front=[_plan(one, layers) for one in content["front"]],
                references={
                    str(name): [_plan(one, layers) for one in some]
                    for name, some in content["references"].items()
                },
                confirmed=[
                    typed(Confirmed, one, plan=Plan.parse(one["plan"], layers=layers))
                    for one in content["confirmed"]
                ],
                timed=[
                    typed(Timed, one, plan=Plan.parse(one["plan"], layers=layers))
                    for one in content["timed"]
                ],
                tried=[_tried(row, layers) for row in table.to_dict("records")],
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(
                f"{folder} cannot be read ({error}): run the search again, which asks nothing anew"
            ) from None


PLAIN = (
    "search", "model", "layers", "objective", "unit", "budget", "method", "items", "held_out",
    "sentences", "layer_rows", "layer_rows_alone", "moves",
)  # fmt: skip


def has_search(out: Path) -> bool:
    """Say whether a folder holds a finished search."""
    return (out / FOLDER / FOUND).exists()


def _written(value: Any) -> Any:
    """Return a value of `Found` as JSON has it."""
    if isinstance(value, FoundPlan):
        held_out = None if value.held_out is None else asdict(value.held_out)
        return {
            "plan": str(value.plan),
            "edits": value.what,
            "objective": value.objective,
            "held_out": held_out,
            "cost": dict(value.cost),
            "asked": value.asked,
        }
    if isinstance(value, Confirmed | Timed):
        row = {each.name: getattr(value, each.name) for each in fields(value)}
        return row | {"plan": str(value.plan)}
    if isinstance(value, Mapping):
        return {str(key): _written(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_written(each) for each in value]
    return value


def _plan(content: Mapping[str, Any], layers: int) -> FoundPlan:
    held_out = content["held_out"]
    return FoundPlan(
        Plan.parse(content["plan"], layers=layers),
        _edits(content["edits"], layers),
        of_type(float, content["objective"], "objective"),
        None if held_out is None else typed(Value, held_out),
        of_type(dict[str, float], content["cost"], "cost"),
        of_type(float, content["asked"], "asked"),
    )


def _tried(row: Mapping[Any, Any], layers: int) -> FoundPlan:
    cost = {
        str(name): float(share)
        for name, share in row.items()
        if name not in ("plan", "edits", "objective", "asked")
    }
    plan, objective, asked = (row[name] for name in ("plan", "objective", "asked"))
    edits = _edits(row["edits"], layers)
    return FoundPlan(
        Plan.parse(plan, layers=layers), edits, float(objective), None, cost, float(asked)
    )


def _edits(text: str, layers: int) -> Candidate:
    """Return the edits that `named` calls so; raises UserError for those of no layer."""
    edits = frozenset(Edit(move, int(layer)) for move, layer in _EDIT.findall(text))
    if any(edit.layer >= layers for edit in edits):
        raise UserError(f"there are {layers} layers, and not those of {shown(text)}")
    return edits
