"""A folder or a file that is there whole or not at all.

Everything is written to a sibling, brought to the disk, and renamed at the end; whatever
goes wrong before that, the sibling is removed and the target was never there.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from impasto.aside import aside_of, remove, remove_strays
from impasto.exporting.error import ExportError


def check_target(dest: Path) -> None:
    """Raise ExportError where something is there already, or nothing can be put there."""
    if os.path.lexists(dest):
        raise ExportError(f"{dest} exists and is not overwritten; give another name")
    above = next(folder for folder in (dest.parent, *dest.parent.parents) if folder.exists())
    if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
        raise ExportError(f"{dest} cannot be written: {above} is no folder that can be written to")


def check_room(dest: Path, needed: int) -> None:
    """Raise ExportError where the disk has not so many bytes left."""
    above = next(folder for folder in (dest.parent, *dest.parent.parents) if folder.exists())
    free = shutil.disk_usage(above).free
    if needed > free:
        raise ExportError(
            f"{dest} takes {needed / 2**30:.2f} GiB, and the disk has {free / 2**30:.2f} GiB left"
        )


@contextmanager
def whole_folder(dest: Path) -> Iterator[Path]:
    """Give a folder to write to that becomes ``dest`` when all went well, as ``whole_file``."""
    with _written_whole(dest) as part:
        part.mkdir()
        yield part


@contextmanager
def whole_file(dest: Path) -> Iterator[Path]:
    """Give the place of a file to write that becomes ``dest`` when all went well.

    Raises:
        ExportError: when it cannot be written (the disk is full, for instance), or ``dest`` came
            to be meanwhile.
    """
    with _written_whole(dest) as part:
        yield part


@contextmanager
def _written_whole(dest: Path) -> Iterator[Path]:
    check_target(dest)
    part: Path | None = None
    try:
        dest.parent.mkdir(parents=True, exist_ok=True)
        remove_strays(dest.parent, dest.name)
        yield (part := aside_of(dest))
        _bring_to_disk(part)
        check_target(dest)
        part.rename(dest)
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or str(error).strip() or type(error).__name__
        raise ExportError(f"{dest} cannot be written: {reason}; nothing was left there") from error
    finally:
        if part is not None:
            remove(part)
    _sync(dest.parent)


def _bring_to_disk(folder: Path) -> None:
    mask = os.umask(0)
    os.umask(mask)
    if folder.is_file():
        folder.chmod(0o666 & ~mask)
        _sync(folder)
    for place, _, names in os.walk(folder, topdown=False):
        for name in names:
            path = Path(place, name)
            path.chmod(0o666 & ~mask)
            _sync(path)
        Path(place).chmod(0o777 & ~mask)
        _sync(Path(place))


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
