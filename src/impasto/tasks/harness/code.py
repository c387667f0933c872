"""Task files run code: a folder of them is used only where the user has allowed that.

lm-eval builds a task of a file by running what the file says: its templates reach Python, and it
may name functions of a module beside it. A study that names such a folder may come from somebody
else, so the study alone is no permission. It is given for a while: by `--allow-code`, by an answer
on the terminal, or by an argument in Python.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from impasto.error import UserError

NAMED = 3  # files that a message names
_is_allowed: ContextVar[bool] = ContextVar("_is_allowed", default=False)


@contextmanager
def code_allowed(allow: bool = True) -> Iterator[None]:
    """Let task files run code in the block; False leaves it as it is."""
    token = _is_allowed.set(allow or _is_allowed.get())
    try:
        yield
    finally:
        _is_allowed.reset(token)


def is_code_allowed() -> bool:
    """Say whether task files may run code here."""
    return _is_allowed.get()


def folder_with_code(options: Mapping[str, Any]) -> str | None:
    """Return the folder of task files that a task's options name, if they do."""
    folder = options.get("include_path")
    return folder if isinstance(folder, str) else None


def about_code(folder: str) -> str:
    """Say in a sentence what a folder of task files runs."""
    modules = sorted(path.name for path in Path(folder).glob("**/*.py"))
    more = f" and {len(modules) - NAMED} more" if len(modules) > NAMED else ""
    python = f", and holds Python: {', '.join(modules[:NAMED])}{more}" if modules else ""
    return f"the folder {folder} has task files, which lm-eval runs as code{python}"


def check_code(name: str, folder: str | None) -> None:
    """Raise UserError where a task comes with code that nobody has allowed."""
    if folder is not None and not is_code_allowed():
        raise UserError(
            f"{name} is not loaded: {about_code(folder)}. Read them first; where you trust them, "
            "allow it by --allow-code (in Python, allow_code=True)"
        )
