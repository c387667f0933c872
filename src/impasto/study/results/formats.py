"""A study's table as text or bytes: CSV, JSON, Markdown, Parquet, and lines for a terminal.

Every row says what it can be traced by: plan, weights, data, engine, versions and command. A score
that is not a number is an empty field in CSV and Markdown and null in JSON.
"""

import io
import json
from math import isfinite

import pandas as pd

from impasto.study.results.table import Results

SHOWN = ("task", "strategy", "k", "seed", "plan", "metric", "value", "stderr", "n", "not_finite")


def written(results: Results, form: str) -> bytes:
    """Return the table in one of `FORMATS`."""
    return as_bytes(results.traced(), form)


def as_bytes(frame: pd.DataFrame, form: str) -> bytes:
    """Return any table in one of `FORMATS`."""
    return FORMATS[form](frame)


def _csv(frame: pd.DataFrame) -> bytes:
    return frame.to_csv(index=False, lineterminator="\n").encode()


def _json(frame: pd.DataFrame) -> bytes:
    rows = [
        {name: _plain(value) for name, value in row.items()}
        for row in frame.to_dict(orient="records")
    ]
    return (json.dumps(rows, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()


def _parquet(frame: pd.DataFrame) -> bytes:
    file = io.BytesIO()
    frame.to_parquet(file, index=False)
    return file.getvalue()


def _markdown(frame: pd.DataFrame) -> bytes:
    lines = [_line(frame.columns), _line("---" for _ in frame.columns)]
    lines += [_line(map(_text, row)) for row in frame.itertuples(index=False, name=None)]
    return ("\n".join(lines) + "\n").encode()


FORMATS = {"csv": _csv, "json": _json, "md": _markdown, "parquet": _parquet}


def shown(results: Results) -> str:
    """Return the columns that a terminal has room for."""
    names = [name for name in SHOWN if name != "not_finite" or _any(results)]
    return aligned(results.table.loc[:, names])


def aligned(frame: pd.DataFrame) -> str:
    """Return a table as lines, every column as wide as its widest cell."""
    cells = [list(frame.columns)]
    cells += [[_text(value) for value in row] for row in frame.itertuples(index=False, name=None)]
    widths = [max(len(row[at]) for row in cells) for at in range(len(cells[0]))]
    return "\n".join(
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
        for row in cells
    )


def _any(results: Results) -> bool:
    return bool((results.table["not_finite"] > 0).any())


def _plain(value: object) -> object:
    """Return a value as JSON has it; None for what is missing and what is no finite number."""
    if value is None or value is pd.NA:
        return None
    if isinstance(value, float) and not isfinite(value):
        return None
    return value.item() if hasattr(value, "item") else value  # type: ignore[attr-defined]


def _text(value: object) -> str:
    if value is None or value is pd.NA or value != value:  # not a number is not itself
        return ""
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def _line(cells: object) -> str:
    return "| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |"  # type: ignore[attr-defined]
