"""The output folder: whether it can take a study's results, and writing them whole or not."""

import os
from collections.abc import Mapping
from pathlib import Path

from impasto.error import UserError
from impasto.study.document import StudyError
from impasto.study.study import Study

STUDY, RESULTS, ANSWERS = "study.yaml", "results.csv", "answers.jsonl"


def check_folder(out: Path, study: Study) -> None:
    """Raise UserError unless the study's results can be written to `out`.

    Results of the same study are replaced; those of another one, and files by these names that no
    study wrote, are left alone.
    """
    check_writable(out)
    if not (out / STUDY).exists():
        for name in (RESULTS, ANSWERS):
            if (out / name).exists():
                raise UserError(
                    f"{out} has a {name} that no study wrote; give another folder with --out"
                )
        return
    try:
        there = Study.from_yaml(out / STUDY, checked=True)
    except StudyError as error:
        raise UserError(
            f"{out} holds a study that cannot be read ({error}); give another folder with --out"
        ) from None
    if there != study:
        raise UserError(
            f"{out} holds the results of another study ({_difference(there, study)}); "
            "give another folder with --out, or remove this one"
        )


def write_files(out: Path, contents: Mapping[str, str]) -> None:
    """Write the files so that each is there whole or not at all; raises UserError where it cannot.

    All are written under other names first and renamed together at the end.
    """
    written: list[tuple[Path, Path]] = []
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name, text in contents.items():
            part = out / f".{name}.{os.getpid()}.part"
            written.append((part, out / name))
            with part.open("w", encoding="utf-8", newline="") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
        for part, final in written:
            part.replace(final)
    except OSError as error:
        for part, _ in written:
            part.unlink(missing_ok=True)
        raise UserError(f"{out} cannot be written: {error.strerror}") from None


def check_writable(out: Path) -> None:
    """Raise UserError unless `out` is, or can become, a folder that takes files."""
    nearest = out
    try:
        while not nearest.exists() and nearest != nearest.parent:
            nearest = nearest.parent
    except OSError as error:
        raise UserError(f"{out} cannot be the output folder: {error.strerror}") from None
    if not nearest.is_dir():
        raise UserError(f"{out} cannot be the output folder: {nearest} is a file")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise UserError(f"{out} cannot be the output folder: {nearest} cannot be written to")


def _difference(there: Study, study: Study) -> str:
    """Name the first thing in which two studies differ."""
    for what in ("name", "model", "tasks", "plans", "load"):
        one, other = getattr(there, what), getattr(study, what)
        if one != other:
            if isinstance(one, str):
                return f"its {what} is {one!r}, this one's {other!r}"
            return f"its {what} differ"
    return "it differs"
