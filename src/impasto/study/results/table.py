"""`Results`: what a study found, as one tidy table and every single answer.

The table has one row per plan, task and metric. Plans that run alike share their answers, but each
label keeps its row: freezing at the last depth is a point of the freeze curve, whatever it equals.
"""

import html
import json
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from impasto.error import UserError, shown
from impasto.paths import path_of
from impasto.study.database.answers import RecordedAnswers
from impasto.study.database.asked import AskedFile, asked_file
from impasto.study.database.costs import cost_rows
from impasto.study.database.opening import DATABASE, open_to_read, plainly
from impasto.study.database.precisions import precisions
from impasto.study.database.reading import (
    Cells,
    StudyRow,
    counts,
    last_run,
    study_row,
    table_rows,
    traces,
)
from impasto.study.file.study import WrittenStudy
from impasto.study.folder.files import RESULTS, STUDY, write_files
from impasto.study.results.unfinished import Gap, gaps, rows_so_far
from impasto.study.work.precision import Reached
from impasto.table import Table

if TYPE_CHECKING:
    from impasto.figures.notebook import Pictures

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
    "not_finite": "int64",
    "weights": "str",
    "data": "str",
    "engine": "str",
}
COSTS: dict[Any, Any] = {
    "plan": "str",
    "digest": "str",
    "tokens": "int64",
    "sequences": "int64",
    "seconds": "float64",
    "seconds_error": "float64",
    "improvement": "float64",
    "improvement_error": "float64",
    "expected": "float64",
    "flops": "float64",
    "bytes_moved": "float64",
    "kept_bytes": "int64",
    "parameters": "int64",
    "peak_bytes": "Int64",
    "machine": "str",
    "measured": "float64",
}
# What a reader wants of `COLUMNS`, before the plans' parameters and behind them.
NARROW = (
    ("model", "task", "strategy", "k", "seed"),
    ("plan", "metric", "value", "stderr", "items", "chance", "baseline"),
)
SHOWN_ROWS = 40  # in a notebook
Connect = Callable[[], sqlite3.Connection]


@dataclass(frozen=True, slots=True)
class Seconds:
    """How long a study's questions were expected to take (None: nobody knew), and took."""

    expected: float | None
    taken: float


@dataclass(frozen=True, repr=False)
class Results:
    """A study as it was run, its table, and a record of every task, plan and item.

    `answers` are read from the folder as they are asked for. `run` says what the last run was:
    command, versions, host and times. `gaps` says what is missing, where the study is not finished:
    then a row is over the items that its plan was asked.

    `precisions` says how precisely plans' changes are known, of each task, or group as a whole,
    whose limit is about that.

    `costs` has one row per plan and length that was timed (`impasto run --bench`); none where
    nothing was. Times are seconds, improvements shares of the baseline's time, errors halves of
    95 % intervals.

    Of a study of several models they are those of all of them, told apart by `model`, and `models`
    has the results of each (`parts`).
    """

    study: WrittenStudy
    table: pd.DataFrame
    answers: Sequence[Mapping[str, Any]] = ()
    run: Mapping[str, Any] = field(default_factory=dict, compare=False)
    seconds: "Seconds | None" = field(default=None, compare=False)
    gaps: Sequence[Gap] = ()
    costs: pd.DataFrame = field(default_factory=lambda: _frame([], COSTS), compare=False)
    parts: "Sequence[Results]" = ()
    precisions: Sequence[Reached] = ()

    def frame(self, *, provenance: bool = False) -> pd.DataFrame:
        """Return one row per plan, task and metric; shares are from 0 to 1.

        Each parameter of the plans is a column, after `k` and `seed`; `items` is how many items a
        score is over. With `provenance` the columns are those of `results.csv`: also titles, what
        was cut or is no number, and the digests of plan, weights, data and engine; parameters are
        JSON in one.
        """
        if provenance:
            return self.table.copy()
        told = self.table.rename(columns={"n": "items"})
        first, second = (told.filter(items=columns) for columns in NARROW)
        parameters = _parameters(list(self.table["parameters"])).set_index(told.index)
        return pd.concat([first, parameters, second], axis=1)

    def figure(self, names: str) -> "Pictures":
        """Return the papers' figures by their names, `A2` or `A2,B11`; a notebook shows them.

        Raises UserError for a name that there is none of, and for a figure that lacks its data.
        """
        from impasto.figures.notebook import figures_of

        return figures_of(self, names)

    def _repr_html_(self) -> str:
        title = f"{self.study.name}: {', '.join(self.models)}"
        missing = "".join(f"<p>missing: {html.escape(str(gap))}</p>" for gap in self.gaps)
        table = self.frame().to_html(index=False, na_rep="", max_rows=SHOWN_ROWS)
        return f"<p><strong>{html.escape(title)}</strong></p>{missing}{table}"

    def __repr__(self) -> str:
        found = f"{len(self.table):,} rows, {len(self.answers):,} answers"
        return f"<Results of {self.study.name} on {', '.join(self.models)}: {found}>"

    def traced(self) -> pd.DataFrame:
        """Return the table with the versions and the command behind it in columns of their own."""
        if self.parts:
            return pd.concat([part.traced() for part in self.parts], ignore_index=True)
        versions = json.dumps(self.run.get("versions", {}), sort_keys=True)
        return self.table.assign(versions=versions, command=self.run.get("command", ""))

    def write(self, out: Path) -> None:
        """Write `results.csv` and `study.yaml`, both or none of them."""
        write_files(
            out,
            {
                RESULTS: Table.of_frame(self.table).written("csv"),
                STUDY: "# The study as it was run.\n" + self.study.to_yaml(),
            },
        )

    @property
    def models(self) -> "Mapping[str, Results]":
        """The results of each model by its name, in the study's order."""
        return {part.study.model: part for part in self.parts or (self,)}

    @classmethod
    def read(cls, out: str | Path, *, study: str | None = None) -> "Results":
        """Return the results that a folder holds, of the study that ran there last.

        `study` names another one. Where it is not finished they are what it has come to so far, and
        `gaps` says what is missing. Raises UserError where there is nothing yet, and for a study of
        several models, which `read_all` reads.
        """
        with _reading(out, study) as (connection, asked, connect):
            names = [model.name for model in asked.models]
            if len(names) > 1:
                raise UserError(
                    f"the study {asked.name} has the models {', '.join(names)}: Results.read_all "
                    "returns the results of each"
                )
            [model] = asked.models
            found = None if model.study is None else study_row(connection, model.study)
            if found is None:
                raise UserError(f"no cell of the study {asked.name} is finished yet")
            return read_results(connection, found, connect)

    @classmethod
    def read_all(cls, out: str | Path, *, study: str | None = None) -> "list[Results]":
        """Return the results that a folder holds of each model of a study, in the study's order.

        It is the study that ran there last, or the one that `study` names. A model of which nothing
        is there yet is not among them. Raises UserError where that is so of all of them.
        """
        with _reading(out, study) as (connection, asked, connect):
            rows = [study_row(connection, m.study) for m in asked.models if m.study is not None]
            found = [
                read_results(connection, row, connect)
                for row in rows
                if row is not None and (row.finished is not None or counts(connection, row.id)[0])
            ]
            if not found:
                raise UserError(f"no cell of the study {asked.name} is finished yet")
            return found


@contextmanager
def _reading(
    out: str | Path, name: str | None
) -> Iterator[tuple[sqlite3.Connection, AskedFile, Connect]]:
    """Give a connection to a folder's database, the study that is meant, and how to connect."""
    path = path_of(out, "a study's folder") / DATABASE
    connection = open_to_read(path)
    try:
        with plainly(path):
            yield connection, asked_file(connection, path.parent, name), partial(open_to_read, path)
    finally:
        connection.close()


def read_results(connection: sqlite3.Connection, found: StudyRow, connect: Connect) -> Results:
    """Return a study's results; its answers are read by a connection that is made then."""
    study = written_study(found)
    missing: Sequence[Gap] = ()
    if found.finished is not None:
        rows = table_rows(connection, found)
    else:
        cells = Cells(connection, found.id)
        missing = gaps(cells)
        if not cells.finished:
            raise UserError(f"no cell of the study {found.name} is finished yet")
        rows = [traces(found) | row for row in rows_so_far(connection, study, found, cells)]
    run = last_run(connection, [found.id]) or {}
    return Results(
        study,
        _frame(rows, COLUMNS),
        RecordedAnswers(connect, found.id),
        run,
        gaps=missing,
        costs=_frame(cost_rows(connection, found.id), COSTS),
        precisions=precisions(connection, found.id),
    )


def written_study(found: StudyRow) -> WrittenStudy:
    """Return a study of one model as its file says; raises UserError where that is of others."""
    study = WrittenStudy.from_text(
        found.file, name=found.name, source=DATABASE, checked=True, folder=None
    )
    if study.models != (found.model,):
        raise UserError(
            f"the study {found.name} is of {shown(found.model)} by the database, and of "
            f"{shown(study.models)} by its file: {DATABASE} is damaged"
        )
    return study


def _frame(rows: Sequence[Mapping[str, Any]], columns: Mapping[Any, Any]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=list(columns)).astype(columns)


def _parameters(written: Sequence[str]) -> pd.DataFrame:
    """Return a column for each parameter that a plan has; what is no single value is JSON."""
    rows = [
        {
            name: json.dumps(value) if isinstance(value, list | dict) else value
            for name, value in json.loads(text).items()
        }
        for text in written
    ]
    return pd.DataFrame(rows, index=range(len(rows))).convert_dtypes()
