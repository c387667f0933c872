"""A study's table as text or bytes: CSV, JSON, Markdown, Parquet.

Every row says what it can be traced by: plan, weights, data, engine, versions and command.
"""

import io
from collections.abc import Sequence

import pandas as pd

from impasto.study.results.table import Results
from impasto.table import Table

DIGITS = ".4f"


def written(each: Sequence[Results], form: str) -> bytes:
    """Return the tables of a study's models as one, in one of the formats."""
    return as_bytes(pd.concat([results.traced() for results in each], ignore_index=True), form)


def as_bytes(frame: pd.DataFrame, form: str) -> bytes:
    """Return any table as Parquet or in one of the forms of `impasto.table`."""
    if form != "parquet":
        return Table.of_frame(frame, DIGITS).written(form).encode()
    file = io.BytesIO()
    frame.to_parquet(file, index=False)
    return file.getvalue()
