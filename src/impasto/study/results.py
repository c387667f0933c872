"""`Results`: what a study found, as one tidy table and every single answer.

The table has one row per plan, task and metric. Plans that run alike share their answers, but each
label keeps its row: freezing at the last depth is a point of the freeze curve, whatever it equals.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from impasto.error import UserError
from impasto.study.collecting import Collection, Said
from impasto.study.entries import LabelledPlan
from impasto.study.folder import ANSWERS, RESULTS, STUDY, write_files
from impasto.study.study import Study
from impasto.tasks import Suite

COLUMNS: dict[Any, Any] = {
    "study": "str",
    "model": "str",
    "layers": "int64",
    "task": "str",
    "title": "str",
    "part_of": "str",
    "strategy": "str",
    "k": "Int64",
    "seed": "Int64",
    "parameters": "str",
    "plan": "str",
    "digest": "str",
    "metric": "str",
    "value": "float64",
    "stderr": "float64",
    "n": "int64",
    "chance": "float64",
    "baseline": "float64",
    "truncated": "int64",
}
_NUMBERS_NA = {name: [""] for name, kind in COLUMNS.items() if kind != "str"}


@dataclass(frozen=True, slots=True)
class Seconds:
    """How long a study's questions were expected to take (None: nobody knew), and took."""

    expected: float | None
    taken: float


@dataclass(frozen=True)
class Results:
    """A study as it was run, its table, and a record of every task, plan and item."""

    study: Study
    table: pd.DataFrame
    answers: tuple[Mapping[str, Any], ...] = ()
    seconds: "Seconds | None" = field(default=None, compare=False)

    def frame(self) -> pd.DataFrame:
        """Return the table: one row per plan, task and metric; shares are from 0 to 1."""
        return self.table.copy()

    def write(self, out: Path) -> None:
        """Write `results.csv`, `answers.jsonl` and `study.yaml`, all or none of them."""
        lines = [json.dumps(answer, ensure_ascii=False) + "\n" for answer in self.answers]
        write_files(
            out,
            {
                ANSWERS: "".join(lines),
                RESULTS: self.table.to_csv(index=False, lineterminator="\n"),
                STUDY: "# The study as it was run.\n" + self.study.to_yaml(),
            },
        )

    @classmethod
    def read(cls, out: str | Path) -> "Results":
        """Return the results that a folder holds; raises UserError where it holds none."""
        out = Path(out)
        if not (out / RESULTS).is_file() or not (out / STUDY).is_file():
            raise UserError(f"{out} holds no results: a study writes {STUDY} and {RESULTS} there")
        try:
            table = pd.read_csv(
                out / RESULTS,
                dtype=COLUMNS,
                keep_default_na=False,
                na_values=_NUMBERS_NA,
                float_precision="round_trip",
            )
            if list(table.columns) != list(COLUMNS):
                raise ValueError(f"{RESULTS} has other columns")
            with (out / ANSWERS).open(encoding="utf-8") as lines:
                answers = tuple(json.loads(line) for line in lines)
        except (OSError, ValueError) as error:
            raise UserError(f"{out} holds results that cannot be read: {error}") from None
        return cls(Study.from_yaml(out / STUDY, checked=True), table, answers)


def collect(
    study: Study,
    layers: int,
    suite: Suite,
    plans: Sequence[LabelledPlan],
    said: Mapping[str, Said],
) -> Results:
    """Return the results of what a model said, by task name; the first plan is the baseline."""
    found = Collection(suite, plans, said)
    labels = {"study": study.name, "model": study.model, "layers": layers}
    rows = [labels | row for row in found.rows()]
    table = pd.DataFrame(rows, columns=list(COLUMNS)).astype(COLUMNS)
    return Results(study, table, tuple(found.records()))
