"""`Results`: what a study found, as one tidy table and every single answer.

The table has one row per plan, task and metric. Plans that run alike share their answers, but each
label keeps its row: freezing at the last depth is a point of the freeze curve, whatever it equals.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from impasto.error import UserError
from impasto.study.entries import Cell, LabelledPlan
from impasto.study.folder import ANSWERS, RESULTS, STUDY, write_files
from impasto.study.scoring import Answer, judged, metrics_of, share, standard_error
from impasto.study.study import Study
from impasto.tasks import Task

COLUMNS: dict[Any, Any] = {
    "study": "str",
    "model": "str",
    "layers": "int64",
    "task": "str",
    "title": "str",
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
}
_NUMBERS_NA = {name: [""] for name, kind in COLUMNS.items() if kind != "str"}
OWN_COLUMNS = ("k", "seed")  # parameters that are columns; the others are JSON in one


@dataclass(frozen=True)
class Results:
    """A study as it was run, its table, and every answer: one mapping per task, plan, question."""

    study: Study
    table: pd.DataFrame
    answers: tuple[Mapping[str, Any], ...] = ()

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
        return cls(Study.from_yaml(out / STUDY), table, answers)


def collect(
    study: Study,
    layers: int,
    tasks: Sequence[Task],
    plans: Sequence[LabelledPlan],
    texts: Mapping[str, Mapping[str, list[str]]],
) -> Results:
    """Return the results of the texts that were generated: by task name, then by plan digest."""
    rows, given = [], []
    baseline = plans[0].plan.digest
    for task in tasks:
        said = texts[task.name]
        for labelled in plans:
            cell = Cell(task.name, labelled)
            labels = {"study": study.name, "model": study.model, "layers": layers}
            rows += [labels | row for row in _rows(cell, task, said, baseline)]
        unique = {labelled.plan.digest: labelled.plan for labelled in plans}
        for digest, plan in unique.items():
            found = judged(task, plan, said[digest])
            given += [_record(task, digest, str(plan), answer) for answer in found]
    table = pd.DataFrame(rows, columns=list(COLUMNS)).astype(COLUMNS)
    return Results(study, table, tuple(given))


def _rows(
    cell: Cell, task: Task, said: Mapping[str, list[str]], baseline: str
) -> Iterator[dict[str, Any]]:
    """Yield a cell's rows of the table, one per metric."""
    labelled, parameters = cell.labelled, dict(cell.labelled.parameters)
    own = {name: parameters.pop(name, None) for name in OWN_COLUMNS}
    digest, n = labelled.plan.digest, len(task.questions)
    for metric in metrics_of(labelled.plan):
        value = share(task, said[digest], metric)
        yield {
            "task": task.name,
            "title": task.title,
            "strategy": labelled.strategy,
            **own,
            "parameters": json.dumps(parameters, sort_keys=True),
            "plan": str(labelled.plan),
            "digest": digest,
            "metric": metric,
            "value": value,
            "stderr": standard_error(value, n),
            "n": n,
            "chance": task.chance,
            "baseline": share(task, said[baseline], metric),
        }


def _record(task: Task, digest: str, plan: str, answer: Answer) -> dict[str, Any]:
    """Return one line of `answers.jsonl`: by it, plans can be compared question by question."""
    labels = {"task": task.name, "digest": digest, "plan": plan, "question": answer.question}
    return {**labels, "text": answer.text, **answer.right}
