"""Files and folders that are written aside, under a name of their own, and renamed when whole.

So what has its proper name is whole. A process that dies leaves what it had written aside; the name
says whose that is, and whoever writes there next removes it, where that process is gone.
"""

import os
import re
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

# `.results.csv.4711@node7.part`; older versions left out the host. SQLite adds endings of its own.
_ASIDE = re.compile(
    r"\.(?P<name>.+)\.(?P<pid>\d{1,10})(@(?P<host>[\w-]+))?\.part(-journal|-wal|-shm)?", re.ASCII
)


def aside_of(path: Path) -> Path:
    """Return where this process writes what is to become a path."""
    return path.with_name(f".{path.name}.{os.getpid()}@{_host()}.part")


@contextmanager
def written_aside(path: Path) -> Iterator[Path]:
    """Give a place to write to that becomes a path, a file or a folder, when the block ends well.

    Otherwise nothing is left there.
    """
    place = aside_of(path)
    try:
        yield place
        place.replace(path)
    finally:
        remove(place)


def remove_strays(folder: Path, name: str | None = None) -> None:
    """Remove what processes that are gone wrote aside in a folder; of one name, or of all.

    What cannot be removed stays, and what processes of other machines wrote.
    """
    with suppress(OSError):
        for path in list(folder.iterdir()):
            read = _ASIDE.fullmatch(path.name)
            if read is None or name not in (None, read["name"]):
                continue
            if read["host"] in (None, _host()) and _is_gone(int(read["pid"]), path):
                remove(path)


def remove(path: Path) -> None:
    """Remove a file, or a folder with what is in it, as far as that can be."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
        return
    with suppress(OSError):
        path.unlink(missing_ok=True)


def _is_gone(pid: int, path: Path) -> bool:
    """Say whether the process of this machine that wrote something aside is gone.

    A process of the same number that began after that was written is another one.
    """
    try:
        return psutil.Process(pid).create_time() > path.stat().st_mtime + 1
    except psutil.NoSuchProcess:
        return True
    except (psutil.Error, OSError, OverflowError):
        return False


def _host() -> str:
    return re.sub(r"[^\w-]+", "-", socket.gethostname())
