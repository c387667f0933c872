"""Real benchmark files, where they are at hand: `IMPASTO_REAL_DATA`, else `../shared`.

The folder has `data/hub/NAME.jsonl`, files in the columns of their hub data sets. None of it is
part of impasto, so a test that wants it is skipped without it.
"""

import os
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[1]
REAL = Path(os.environ.get("IMPASTO_REAL_DATA") or CHECKOUT.parent / "shared")


def real_file(name: str) -> Path:
    """Return a real benchmark file such as `squad_validation.jsonl`; skip the test without it."""
    path = REAL / "data" / "hub" / name
    if not path.is_file():
        pytest.skip(f"{name} is not at hand: IMPASTO_REAL_DATA points at no real benchmark files")
    return path
