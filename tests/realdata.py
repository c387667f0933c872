"""Real benchmark files, where they are at hand: `IMPASTO_REAL_DATA`, else `../shared`.

The folder has `data/hub/NAME.jsonl`, files in the columns of their hub data sets, stories in
`data/tinystories`, and the small model `models/stories260K` that writes such stories. None of it is
part of impasto, so a test that wants it is skipped without it.
"""

import os
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[1]
REAL = Path(os.environ.get("IMPASTO_REAL_DATA") or CHECKOUT.parent / "shared")


def real_file(name: str) -> Path:
    """Return a real benchmark file such as `squad_validation.jsonl`; skip the test without it."""
    return _there(REAL / "data" / "hub" / name)


def real_story(name: str) -> str:
    """Return stories in plain text; skip the test without them."""
    return _there(REAL / "data" / "tinystories" / name).read_text(encoding="utf-8")


def real_model() -> Path:
    """Return the folder of stories260K, a Llama of five layers; skip the test without it."""
    return _there(REAL / "models" / "stories260K")


def _there(path: Path) -> Path:
    if not path.exists():
        pytest.skip(f"{path.name} is not at hand: IMPASTO_REAL_DATA points at no real data")
    return path
