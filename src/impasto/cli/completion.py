"""What a shell completes beside commands and options: studies, searches and folders of results."""

from collections.abc import Iterator
from pathlib import Path

YAML = (".yaml", ".yml")


def shipped_names(incomplete: str) -> list[str]:
    """Return the names of what comes with impasto that begin so."""
    from impasto.study.file.shipped import shipped

    return [found.name for found in shipped() if found.name.startswith(incomplete)]


def study_files(incomplete: str) -> list[str]:
    """Return study files and folders on the way to some, and the studies that come with impasto."""
    return [*_named(incomplete, ("study", "preset")), *_paths(incomplete, YAML)]


def search_files(incomplete: str) -> list[str]:
    """Return the same of searches."""
    return [*_named(incomplete, ("search",)), *_paths(incomplete, YAML)]


def folders(incomplete: str) -> list[str]:
    """Return folders that begin so."""
    return list(_paths(incomplete, ()))


def _named(incomplete: str, kinds: tuple[str, ...]) -> Iterator[str]:
    from impasto.study.file.shipped import shipped

    for found in shipped():
        if found.kind in kinds and found.name.startswith(incomplete):
            yield found.name


def _paths(incomplete: str, endings: tuple[str, ...]) -> Iterator[str]:
    """Yield the folders that begin so, a slash behind them, and the files of these endings."""
    head, slash, tail = incomplete.rpartition("/")
    folder = Path(head + slash or ".")
    if not folder.is_dir():
        return
    for path in sorted(folder.iterdir()):
        if not path.name.startswith(tail) or (path.name.startswith(".") and not tail):
            continue
        if path.is_dir():
            yield f"{head}{slash}{path.name}/"
        elif path.suffix in endings:
            yield f"{head}{slash}{path.name}"
