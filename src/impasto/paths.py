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


def from_here(text: str) -> str:
    """Return a text in which paths below the working folder are relative to it.

    They are as short as they were typed, and a page that is passed on tells nobody's folders.
    """
    return text.replace(f"{Path.cwd()}{os.sep}", "")
