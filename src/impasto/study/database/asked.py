"""Study files as they were asked for, and the studies of one model each that they come to.

Several may have been run in one folder. They are told apart by their names; of those with one name
(a file that was edited), the one that ran last is meant.
"""

import sqlite3
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from impasto.error import UserError, near, shown
from impasto.study.database.opening import DATABASE, open_to_read, plainly, transaction
from impasto.study.database.searches import last_search
from impasto.study.file.study import WrittenStudy


@dataclass(frozen=True, slots=True)
class AskedModel:
    """A model of a study file; `study` is its study's row, None before its first run."""

    name: str
    study: int | None


@dataclass(frozen=True, slots=True)
class AskedFile:
    """A study file that was run; `ended` is None while it runs, or where its run was killed."""

    id: int
    name: str
    file: str
    ended: float | None
    models: Sequence[AskedModel]


def begin_file(
    connection: sqlite3.Connection, asked: WrittenStudy, began: float, model: str, study: int
) -> None:
    """Write down that a study file is run, and which study one of its models comes to."""
    with transaction(connection):
        query = (
            "INSERT INTO study_files (file, name, began) VALUES (?, ?, ?) ON CONFLICT (file) "
            "DO UPDATE SET began = excluded.began, ended = NULL RETURNING id"
        )
        [file] = connection.execute(query, [asked.to_yaml(), asked.name, began]).fetchone()
        query = "INSERT OR IGNORE INTO study_models VALUES (?, ?, ?, NULL)"
        values = ((file, number, name) for number, name in enumerate(asked.models))
        connection.executemany(query, values)
        query = "UPDATE study_models SET study = ? WHERE study_file = ? AND model_name = ?"
        connection.execute(query, [study, file, model])


def end_file(connection: sqlite3.Connection, asked: WrittenStudy) -> None:
    """Write down that the run of a study file has ended, however it did."""
    query = "UPDATE study_files SET ended = ? WHERE file = ?"
    connection.execute(query, [time.time(), asked.to_yaml()])


def study_names(connection: sqlite3.Connection) -> list[str]:
    """Return the names of all studies that were run, the last one first."""
    query = "SELECT name FROM study_files GROUP BY name ORDER BY max(began) DESC, max(id) DESC"
    return [row[0] for row in connection.execute(query)]


def asked_file(connection: sqlite3.Connection, out: Path, name: str | None = None) -> AskedFile:
    """Return the study of a name, or the one that ran last; of one name, the one that ran last.

    Raises UserError where there is none; `out` is what the error calls the folder.
    """
    query = (
        "SELECT id, name, file, ended FROM study_files WHERE ? IS NULL OR name = ? "
        "ORDER BY began DESC, id DESC LIMIT 1"
    )
    row = connection.execute(query, [name, name]).fetchone()
    if row is None:
        found = None if name is not None else last_search(connection)
        if found is not None:
            raise UserError(
                f"{out} holds the search {found.name} and no study: impasto status and report say "
                "what it came to"
            )
        raise UserError(_no_study(out, name, study_names(connection)))
    query = "SELECT model_name, study FROM study_models WHERE study_file = ? ORDER BY number"
    models = [AskedModel(*model) for model in connection.execute(query, [row[0]])]
    written = WrittenStudy.from_text(
        row[2], name=row[1], source=DATABASE, checked=True, folder=None
    )
    if tuple(model.name for model in models) != written.models:
        raise UserError(
            f"the models of the study {shown(row[1])} are {shown(written.models)} by its file, and "
            f"others by the database: {out / DATABASE} is damaged"
        )
    return AskedFile(*row, models=models)


def all_finished(connection: sqlite3.Connection, out: Path) -> bool:
    """Say whether every study of a folder is finished; of one name, the one that ran last."""
    asked = [asked_file(connection, out, name) for name in study_names(connection)]
    query = "SELECT finished FROM studies WHERE id = ?"
    rows = [
        connection.execute(query, [model.study]).fetchone()
        for file in asked
        for model in file.models
    ]
    return all(row is not None and row[0] is not None for row in rows)


def names_in(out: Path) -> list[str]:
    """Return the names of all studies of a folder, the one that ran last first."""
    path = out / DATABASE
    with plainly(path):
        connection = open_to_read(path)
        try:
            return study_names(connection)
        finally:
            connection.close()


def listed(names: Sequence[str]) -> str:
    """Return names of studies as a sentence has them: `the studies a, b`."""
    return f"the stud{'ies' if len(names) > 1 else 'y'} {', '.join(names)}"


def _no_study(out: Path, name: str | None, there: Sequence[str]) -> str:
    if not there:
        return f"{out} holds no results yet"
    return (
        f"{out} holds no study {name!r}{near(str(name), there)}\nIt holds {listed(sorted(there))}."
    )
