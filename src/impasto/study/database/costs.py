"""What plans cost, as a study's folder keeps it: one session's measurements for each model."""

import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any

from impasto.study.database.opening import transaction

MEASURED = (  # what is kept of a plan at a length
    "tokens", "sequences", "seconds", "seconds_error", "improvement", "improvement_error",
    "expected", "flops", "bytes_moved", "kept_bytes", "parameters", "peak_bytes", "machine",
    "measured",
)  # fmt: skip
_OF_STUDY = "(SELECT model FROM studies WHERE id = ?), (SELECT engine FROM studies WHERE id = ?)"


def save_costs(
    connection: sqlite3.Connection, study: int, costs: Sequence[tuple[str, Mapping[str, Any]]]
) -> None:
    """Keep what plans cost on a study's model, in the place of all that was kept of it before.

    `costs` are rows after their plan's digest; the plans are the study's.
    """
    with transaction(connection):
        connection.execute(
            f"DELETE FROM costs WHERE (model, engine) = ({_OF_STUDY})", [study, study]
        )
        connection.executemany(
            f"INSERT INTO costs (model, engine, plan, {', '.join(MEASURED)}) VALUES ({_OF_STUDY}, "
            f"(SELECT id FROM plans WHERE digest = ?), {', '.join('?' * len(MEASURED))})",
            ([study, study, digest, *(row[name] for name in MEASURED)] for digest, row in costs),
        )


def cost_rows(connection: sqlite3.Connection, study: int) -> list[dict[str, Any]]:
    """Return what the plans of a study cost, in its order; nothing where that was not measured."""
    rows = connection.execute(
        f"""
        SELECT plans.line, plans.digest, {", ".join(MEASURED)} FROM costs
        JOIN plans ON plans.id = costs.plan
        JOIN studies ON studies.model = costs.model AND studies.engine = costs.engine
        JOIN (
            SELECT cells.plan, min(number) AS number FROM study_cells
            JOIN cells ON cells.id = study_cells.cell WHERE study = ? GROUP BY cells.plan
        ) AS asked ON asked.plan = costs.plan
        WHERE studies.id = ? ORDER BY costs.tokens, asked.number
        """,
        [study, study],
    )
    names = ("plan", "digest", *MEASURED)
    return [dict(zip(names, row, strict=True)) for row in rows]
