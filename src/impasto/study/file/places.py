"""Where the files are that a study or a search names: beside its own file, wherever it is run.

What is relative is taken from the folder of the file that says it. From there on paths are
absolute, so that a study that is kept with its results, or sent to a worker, means the same files.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from impasto.error import UserError
from impasto.study.file.schema import FROM

FILES = ("file", "data", "include_path", "donors")  # options of tasks and texts that are paths
TEXTS, DATASET, DEMO = "texts", "dataset", "demo"
WORKING = Path()  # the working folder
HERE = ("./", "../")  # what a name begins with that is a path and none of the hub


def placed_options(options: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Return a task's options, or those of texts, with the paths of their files made absolute.

    Raises UserError for a file that is not in the folder, but in the working folder.
    """
    placed = {
        key: _files(value, folder) if key in FILES else value for key, value in options.items()
    }
    if isinstance(placed.get(DATASET), str):
        placed[DATASET] = placed_name(placed[DATASET], folder)
    return placed


def placed_plan(written: str | Mapping[str, Any], folder: Path) -> str | dict[str, Any]:
    """Return an entry of plans with the paths of its files made absolute.

    These are another tool's file, the texts that heal a plan, and those that choose its layers.
    """
    if isinstance(written, str):
        return written
    if FROM in written:
        is_text = "\n" in written[FROM]
        return {**written, FROM: written[FROM] if is_text else _absolute(written[FROM], folder)}
    placed: dict[str, Any] = {}
    for key, value in written.items():
        has_texts = isinstance(value, Mapping) and isinstance(value.get(TEXTS), Mapping)
        placed[key] = {**value, TEXTS: placed_options(value[TEXTS], folder)} if has_texts else value
    return placed


def placed_name(name: str, folder: Path) -> str:
    """Return the name of a model or a data set: absolute where it is one of the folder's.

    Any other name is the hub's, or one that impasto knows.
    """
    if name == DEMO:
        return name
    is_path = name.startswith(HERE) or name in (".", "..")
    return _absolute(name, folder) if is_path or _exists(folder / name) else name


def _files(value: Any, folder: Path) -> Any:
    """Return the path of a file, or those of files by split, absolute; anything else as it is."""
    if isinstance(value, Mapping):
        return {key: _files(part, folder) for key, part in value.items()}
    return _absolute(value, folder) if isinstance(value, str) and value.strip() else value


def absolute(path: str | Path) -> str:
    """Return a path as an absolute one; links on the way stay, which may have telling names."""
    return os.path.normpath(Path(path).absolute())


def _absolute(given: str, folder: Path) -> str:
    path = absolute(folder / given)
    if not _exists(path) and _exists(given):
        raise UserError(
            f"{given} is not in {folder.absolute()}, where the file that names it is, but in the "
            "working folder: paths are relative to that file, so write "
            f"{os.path.relpath(given, folder)}"
        )
    return path


def _exists(path: str | Path) -> bool:
    return os.path.exists(path)  # noqa: PTH110 - nothing is where a path cannot be, if too long
