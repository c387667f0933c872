"""Whether a database holds what it may: one rule for every value, whoever wrote the file.

SQLite keeps a text in a column of numbers, and a file may come from a stranger or a failing disk.
So every value is checked where a file is opened, as strictly as a study file is: its type, NULL
where nothing may be missing, its range and form, and that what refers to each other is there.
Single answers, of which there can be millions, are checked as they are read (`records`), or all at
once (`answer_faults`). Nothing here is mended.
"""

import sqlite3
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import NamedTuple

from impasto.engine_version import ENGINE
from impasto.error import UserError, shown
from impasto.plan import Plan
from impasto.plan.healed import is_digest_of
from impasto.study.database.form import form, migrations
from impasto.study.database.records import Alike, parsed
from impasto.study.work.identity import CODE

MOST_LAYERS = 10_000  # of a model; a plan runs no more
MOST_TEXT = 1_000_000  # characters of any value, as of a study file
MOST = 2**53  # of whole numbers that nothing else bounds
LATEST = 1e11  # seconds: times, and how long anything takes
LARGEST = 1e30  # of numbers that nothing else bounds
NAMED = 10  # faults that a check of everything names

DIGESTS = frozenset(
    {("models", "digest"), ("engines", "digest"), ("tasks", "digest"), ("plans", "digest"),
     ("studies", "digest"), ("cells", "key"), ("results", "digest"), ("results", "data")}
)  # fmt: skip
PLANS = frozenset({("plans", "digest"), ("results", "digest")})
SCORES = frozenset(  # which may be infinite, or below zero
    {("results", name) for name in ("value", "stderr", "chance", "baseline")}
    | {("precisions", name) for name in ("widest", "within")}
)
SECONDS = frozenset({"began", "ended", "finished", "seconds", "seconds_error", "measured"})
WHOLE = {  # the least and the most
    ("models", "layers"): (1, MOST_LAYERS),
    ("runs", "pid"): (0, 2**31 - 1),
    ("searches", "pid"): (0, 2**31 - 1),
    ("results", "seed"): (0, 2**63 - 1),
    ("results", "k"): (0, 2**63 - 1),
    ("cells", "exact"): (0, 1),
    ("precisions", "is_done"): (0, 1),
}
TEXT_BY_NAME = (("models", "parts"), ("engines", "parts"), ("tasks", "parts"), ("runs", "versions"))
UNREAD = ("records", "found_files")  # whose values are checked as they are read

RELATIONS = (  # what must not be found, and what that is
    (
        "SELECT 1 FROM shards WHERE start >= stop "
        "OR stop > (SELECT count(*) FROM items WHERE items.task = shards.task)",
        "the table shards has items that its task has not",
    ),
    (
        "SELECT 1 FROM cells WHERE finished IS NOT NULL "
        "AND (truncated IS NULL OR not_finite IS NULL OR exact IS NULL)",
        "the table cells has a finished cell without its counts",
    ),
    (
        "SELECT 1 FROM study_cells GROUP BY study, cell HAVING count(*) > 1",
        "the table study_cells has a cell twice in one study",
    ),
    (
        "SELECT 1 FROM study_files WHERE id NOT IN (SELECT study_file FROM study_models)",
        "the table study_models has no model of a study file",
    ),
)


def check(connection: sqlite3.Connection, path: Path | None) -> None:
    """Raise UserError with the first fault of a database; answers are left to who reads them."""
    for fault in faults(connection):
        raise UserError(_damaged(path, [fault]))


def check_all(connection: sqlite3.Connection, path: Path) -> None:
    """Raise UserError with the first faults of a database, answers and damaged pages included."""
    [sound] = connection.execute("PRAGMA integrity_check(1)").fetchone()
    found = [] if sound == "ok" else [str(sound)]
    for each in (faults(connection), plan_faults(connection), answer_faults(connection)):
        for fault in each:
            found.append(fault)
            if len(found) == NAMED:
                raise UserError(_damaged(path, found))
    if found:
        raise UserError(_damaged(path, found))


def faults(connection: sqlite3.Connection) -> Iterator[str]:
    """Yield what is wrong in a database's form, its tables and between them, but in no answer."""
    missing = [name for name in _missing(connection) if name]
    if missing:
        yield f"{missing[0]} is none of form {len(migrations())}"
        return
    for table, columns in form().columns.items():
        if table not in UNREAD:
            yield from _of_table(connection, table, columns)
    for query, fault in RELATIONS:
        if connection.execute(f"{query} LIMIT 1").fetchone() is not None:
            yield fault
    for table in form().columns:
        if table not in UNREAD:
            loose = connection.execute(f"PRAGMA foreign_key_check({table})").fetchone()
            if loose is not None:
                yield f"the table {table} refers to a row of {loose[2]} that is not there"
    for table, column in TEXT_BY_NAME:
        yield from _texts_by_name(connection, table, column)
    yield from _parameters(connection)


def plan_faults(connection: sqlite3.Connection) -> Iterator[str]:
    """Yield each plan that is none, or not the one that its digest tells."""
    query = "SELECT line, digest FROM plans UNION SELECT plan, digest FROM results"
    for line, digest in connection.execute(query):
        fault = plan_fault(line, digest)
        if fault:
            yield fault


@cache
def plan_fault(line: str, digest: str) -> str:
    """Say what is wrong with a plan by its digest; nothing where it is right."""
    try:
        plan = Plan.parse(line)
    except UserError:
        return f"{shown(line)} is no plan"
    is_own = is_digest_of(digest, plan)
    return "" if is_own else f"the plan {shown(line)} has the digest of another one"


def answer_faults(connection: sqlite3.Connection) -> Iterator[str]:
    """Yield what is wrong with single answers, the first fault of each cell."""
    query = (
        "SELECT cells.id, start, stop, tasks.name FROM cells JOIN shards ON shards.id = shard "
        "JOIN tasks ON tasks.id = task WHERE finished IS NOT NULL ORDER BY tasks.id, cells.id"
    )
    alike = Alike()
    records = "SELECT position, responses, metrics FROM records WHERE cell = ? ORDER BY position"
    for cell, start, stop, task in connection.execute(query).fetchall():
        expected = start
        try:
            for position, responses, metrics in connection.execute(records, [cell]):
                if position != expected:
                    break
                alike.answer(task, responses, metrics)
                expected += 1
        except UserError as error:
            yield str(error)
            continue
        if expected != stop:
            yield f"the answer to item {expected + 1} of {task} is missing in a finished cell"
    [loose] = connection.execute(
        "SELECT count(*) FROM records WHERE cell NOT IN (SELECT id FROM cells)"
    ).fetchone()
    if loose:
        yield f"the table records has {loose} answers of cells that are not there"


def _damaged(path: Path | None, found: list[str]) -> str:
    more = "".join(f"\n  {fault}" for fault in found[1:])
    return (
        f"{path} is damaged, or was not written by impasto: {found[0]}{more}\n"
        "Nothing was changed. Move it away to begin anew, or put a sound copy in its place "
        "(impasto results OUT --unpack FILE)"
    )


def _missing(connection: sqlite3.Connection) -> Iterator[str]:
    """Yield the tables that are not as ours are, and what would run by itself."""
    rows = connection.execute("SELECT type, name, sql FROM sqlite_master").fetchall()
    there = {name: sql for kind, name, sql in rows if kind == "table"}
    for name, sql in form().tables.items():
        if there.get(name) != sql:
            yield f"the table {name}"
    yield from (f"the trigger {shown(name)}" for kind, name, _ in rows if kind == "trigger")


class Column(NamedTuple):
    """What a column may hold: a condition in SQL, and that in words."""

    condition: str
    words: str


def _of_table(
    connection: sqlite3.Connection, table: str, columns: Mapping[str, tuple[str, bool]]
) -> Iterator[str]:
    """Yield the first value of each column that is not what it may be."""
    kinds = {name: _column(table, name, *kind) for name, kind in columns.items()}
    everything = " AND ".join(f"({kind.condition})" for kind in kinds.values())
    if connection.execute(f"SELECT 1 FROM {table} WHERE NOT ({everything}) LIMIT 1").fetchone():
        for name, kind in kinds.items():
            query = f"SELECT substr({name}, 1, 100) FROM {table} WHERE NOT ({kind.condition})"
            row = connection.execute(f"{query} LIMIT 1").fetchone()
            if row is not None:
                yield f"{name} in the table {table} is {kind.words}, not {shown(row[0])}"


def _is_hex(what: str, characters: int) -> str:
    """Return the condition that a text consists of so many hexadecimal digits."""
    return f"length({what}) = {characters} AND {what} NOT GLOB '*[^0-9a-f]*'"


def _column(table: str, name: str, kind: str, may_lack: bool) -> Column:
    """Return what a column of a type may hold."""
    at = (table, name)
    if kind == "INTEGER":
        least, most = WHOLE.get(at, (0, MOST))
        condition = f"typeof({name}) = 'integer' AND {name} BETWEEN {least} AND {most}"
        words = f"a whole number from {least} to {most}"
    elif kind == "REAL":
        condition, words = f"typeof({name}) IN ('real', 'integer')", "a number"
        if at not in SCORES:
            is_time = name in SECONDS or at == ("units", "expected")
            least, most = (0.0, LATEST) if is_time else (-LARGEST, LARGEST)
            condition += f" AND {name} BETWEEN {least!r} AND {most!r}"
            words += f" from {least:g} to {most:g}"
    elif at in DIGESTS:
        condition = f"typeof({name}) = 'text' AND {_is_hex(name, 64)}"
        words = "a sha256 in hex"
        if at in PLANS:  # a healed plan's has a tag
            tagged = f"substr({name}, 65, 1) = '+' AND {_is_hex(f'substr({name}, 66)', 16)}"
            tagged += f" AND {_is_hex(f'substr({name}, 1, 64)', 64)}"
            condition = f"typeof({name}) = 'text' AND ({_is_hex(name, 64)} OR {tagged})"
    else:
        condition = f"typeof({name}) = 'text' AND length({name}) <= {MOST_TEXT}"
        words = f"a text of at most {MOST_TEXT:,} characters"
    if may_lack:
        return Column(f"{name} IS NULL OR ({condition})", f"{words}, or missing")
    return Column(condition, words)


def _texts_by_name(connection: sqlite3.Connection, table: str, column: str) -> Iterator[str]:
    """Yield the values of a column that are no JSON of texts by name, as its readers take them."""
    for [text] in connection.execute(f"SELECT DISTINCT {column} FROM {table}"):
        where = f"{column} in the table {table}"
        try:
            read = parsed(text)
        except UserError as error:
            yield f"{where}: {error}"
            continue
        if not isinstance(read, dict) or not all(isinstance(v, str) for v in read.values()):
            yield f"{where} is JSON of texts by name, not {shown(text)}"
        elif table == "engines" and not (CODE in read or _is_version(read.get(ENGINE, ""))):
            yield f"{where} has no version of the engine: {shown(text)}"
        elif table == "tasks" and "definition" not in read:
            yield f"{where} has no definition: {shown(text)}"


def _is_version(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= 9


def _parameters(connection: sqlite3.Connection) -> Iterator[str]:
    """Yield the parameters of plans in a table of results that are no values by name."""
    for [text] in connection.execute("SELECT DISTINCT parameters FROM results"):
        try:
            read = parsed(text)
        except UserError as error:
            yield f"parameters in the table results: {error}"
            continue
        plain = isinstance(read, dict) and not any(
            isinstance(value, dict | list) for value in read.values()
        )
        if not plain:
            yield f"parameters in the table results are values by name, not {shown(text)}"
