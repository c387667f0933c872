"""The output folder: whether it can take a study's results, and writing them whole or not."""

import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from impasto.aside import aside_of, remove, remove_strays
from impasto.error import UserError
from impasto.study.database.opening import DATABASE
from impasto.study.database.searches import FOLDER
from impasto.study.work.identity import digest_of

STUDY, RESULTS = "study.yaml", "results.csv"
HEADS = "heads"  # fitted heads and trained checkpoints


def check_folder(out: Path) -> None:
    """Raise UserError unless a study's results can be written to `out`.

    Files by the names of ours that no study wrote are left alone.
    """
    check_writable(out)
    if not (out / DATABASE).exists():
        for name in (RESULTS, STUDY):
            if (out / name).exists():
                raise UserError(
                    f"{out} has a {name} that no study wrote (there is no {DATABASE} beside it); "
                    "give another folder with --out"
                )


def make_folder(out: Path) -> None:
    """Make the folder where there is none; raises UserError where it cannot be."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{out} cannot be made: {error.strerror}") from None


def discard(out: Path) -> None:
    """Throw away all results that a folder holds."""
    for name in (DATABASE, f"{DATABASE}-wal", f"{DATABASE}-shm", RESULTS, STUDY):
        (out / name).unlink(missing_ok=True)
    for folder in (HEADS, FOLDER):
        shutil.rmtree(out / folder, ignore_errors=True)


def tidy(out: Path, is_all_done: bool = False) -> None:
    """Remove what runs that were killed left half written, their processes being gone.

    A training that can go on stays, unless all studies of the folder are done. Only for the
    folder's one writer.
    """
    remove_strays(out)
    for folder in (out / HEADS).glob("*"):
        remove_strays(folder)
        for training in folder.glob("*.training"):
            if is_all_done or training.with_suffix("").exists():
                remove(training)


def heads_folder(out: Path, model: str, engine: str) -> Path:
    """Return the folder of the heads that an engine fitted on a model; both are digests."""
    return out / HEADS / digest_of([model, engine])[:16]


def rename_heads(out: Path, models: Iterable[str], before: str, now: str) -> None:
    """Move an engine's heads on some models to the folder of its name now; all are digests.

    Where that folder is there already, both stay as they are.
    """
    for model in models:
        old, new = heads_folder(out, model, before), heads_folder(out, model, now)
        if old.is_dir() and not new.exists():
            old.rename(new)


def write_files(out: Path, contents: Mapping[str, str | bytes]) -> None:
    """Write the files so that each is there whole or not at all; raises UserError where it cannot.

    All are written under other names first and renamed together at the end.
    """
    written: list[tuple[Path, Path]] = []
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name, text in contents.items():
            remove_strays(out, name)
            part = aside_of(out / name)
            written.append((part, out / name))
            with part.open("wb") as file:
                file.write(text.encode() if isinstance(text, str) else text)
                file.flush()
                os.fsync(file.fileno())
        for part, final in written:
            part.replace(final)
    except OSError as error:
        raise UserError(f"{out} cannot be written: {error.strerror}") from None
    finally:
        for part, _ in written:
            part.unlink(missing_ok=True)


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
