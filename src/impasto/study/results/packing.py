"""A folder's results as one file, to keep or to send, and back.

The file is the database itself, whole and without its log. One that comes from elsewhere is data
only: it must have exactly our tables, with nothing that runs by itself, and be sound.
"""

import sqlite3
from contextlib import closing
from pathlib import Path

from impasto.aside import aside_of, remove, remove_strays, written_aside
from impasto.error import UserError
from impasto.study.database.asked import asked_file, study_names
from impasto.study.database.checking import check_all
from impasto.study.database.form import migrations
from impasto.study.database.opening import DATABASE, open_to_read, open_to_write, plainly
from impasto.study.database.reading import study_row, table_rows
from impasto.study.database.searches import FOLDER, kept_files, last_search
from impasto.study.file.study import WrittenStudy
from impasto.study.folder.files import RESULTS, STUDY, check_folder, make_folder, write_files
from impasto.study.folder.lock import only_writer
from impasto.study.results.several import of_all
from impasto.study.results.table import Results, written_study

# What a search asks are cells of studies without a study file.
OF_FILES = "SELECT id FROM studies WHERE file NOT IN (SELECT file FROM searches)"


def pack(out: Path, file: Path) -> None:
    """Write all results of a folder to one file; raises UserError where that cannot be."""
    if file.exists():
        raise UserError(f"{file} exists already; name another file")
    if not file.parent.is_dir():
        raise UserError(f"{file} cannot be written: there is no folder {file.parent}")
    remove_strays(file.parent, file.name)
    with closing(open_to_read(out / DATABASE)) as connection, written_aside(file) as part:
        connection.path = file  # what cannot be written is that
        connection.execute("VACUUM INTO ?", [str(part)])


def unpack(file: Path, out: Path) -> None:
    """Write a packed file's results to a folder that has none; raises UserError where it cannot."""
    if not file.is_file():
        raise UserError(f"{file} does not exist")
    check_folder(out)
    remove_strays(out)
    if (out / DATABASE).exists():
        raise UserError(f"{out} holds results already; give another folder")
    with plainly(file):
        packed = open_to_read(file)
        try:
            _check_sound(packed, file)
            make_folder(out)
            with only_writer(out):
                _copy(packed, out)
        finally:
            packed.close()


def check_results(out: Path) -> str:
    """Return in words what a folder's database holds, every value of which is checked.

    Raises UserError, naming the first faults, where it is damaged or not all ours.
    """
    path = out / DATABASE
    connection = open_to_read(path)
    with plainly(path), closing(connection):
        _check_everything(connection, path)
        studies = len(connection.execute(OF_FILES).fetchall())
        searches, cells, answers = (
            connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
            for table in ("searches", "cells", "records")
        )
    plural = "study" if studies == 1 else "studies"
    searched = f", {searches} search{'es' if searches > 1 else ''}" if searches else ""
    return f"{studies} {plural}{searched}, {cells:,} cells, {answers:,} answers"


def _check_everything(connection: sqlite3.Connection, path: Path) -> None:
    """Raise UserError unless every value of a database is right, its study files included."""
    check_all(connection, path)
    for name in study_names(connection):
        asked_file(connection, path.parent, name)
    for [study] in connection.execute(OF_FILES).fetchall():
        row = study_row(connection, study)
        if row is not None:
            written_study(row)
            table_rows(connection, row)


def _check_sound(packed: sqlite3.Connection, file: Path) -> None:
    """Raise UserError unless a database has our tables only, and every value in them is right."""
    ours = open_to_write(None)
    query = "SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY type, name"
    expected = ours.execute(query).fetchall()
    ours.close()
    if packed.execute(query).fetchall() != expected:
        raise UserError(
            f"{file} is no packed study: its tables are not those of form {len(migrations())}"
        )
    _check_everything(packed, file)
    if not study_names(packed) and last_search(packed) is None:
        raise UserError(f"{file} holds no study and no search")


def _copy(packed: sqlite3.Connection, out: Path) -> None:
    """Put a sound database into the folder, and the files that a study writes beside it.

    All are made in a folder aside, so that a copy that is killed leaves nothing that looks whole.
    """
    aside = aside_of(out / DATABASE)
    try:
        aside.mkdir()
        with plainly(out / DATABASE), closing(sqlite3.connect(aside / DATABASE)) as target:
            packed.backup(target)
        if study_names(packed):
            _write_study(packed, aside)
        found = kept_files(packed)
        if found:
            write_files(out / FOLDER, found)
        for name in (DATABASE, RESULTS, STUDY):
            if (aside / name).exists():
                (aside / name).replace(out / name)
    except OSError as error:
        raise UserError(f"{out} cannot be written: {error.strerror}") from None
    finally:
        remove(aside)


def _write_study(packed: sqlite3.Connection, aside: Path) -> None:
    """Write the files of the study that ran last beside a copy of its database, if it is done."""
    asked = asked_file(packed, aside)
    rows = [
        None if model.study is None else study_row(packed, model.study) for model in asked.models
    ]
    if all(row is not None and row.finished is not None for row in rows):
        study = WrittenStudy.from_text(
            asked.file, name=asked.name, source=DATABASE, checked=True, folder=None
        )
        of_all(study, Results.read_all(aside)).write(aside)
