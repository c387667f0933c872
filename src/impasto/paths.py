"""A path as the user gave it, before anything is looked for there."""

import os
from pathlib import Path

from impasto.error import UserError, shown


def path_of(given: object, what: str) -> Path:
    """Return the path of ``what``, such as "a study file"; raises UserError for what is none."""
    if isinstance(given, str | os.PathLike):
        text = os.fspath(given)
        if isinstance(text, str) and text and "\0" not in text:
            return Path(text)
    raise UserError(f"{what} is the path of a file or folder, not {shown(given)}")
