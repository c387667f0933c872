"""The studies and searches that come with impasto, by name: what `impasto run attend_first` runs.

Each says in its first comment what it shows. Texts that several of them read lie beside them.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path

FOLDER = "studies"


@dataclass(frozen=True, slots=True)
class Shipped:
    """A file that comes with impasto.

    Attributes:
        path: Where it is.
        kind: What it is: `study`, `preset` (a study of a paper's model), `search` or `texts`.
        about: What it shows, as the first sentence of its comment says; of texts, what reads them.
        texts: The texts that it reads.
    """

    path: Path
    kind: str
    about: str
    texts: tuple[Path, ...] = ()

    @property
    def name(self) -> str:
        """What it is called: that of texts with its ending."""
        return self.path.name if self.kind == "texts" else self.path.stem


@cache
def shipped() -> Sequence[Shipped]:
    """Return all of them: studies, presets, searches and texts."""
    folder = Path(str(files("impasto"))) / FOLDER
    texts = sorted(folder.glob("*.txt"))
    studies = [_read(path, "study", texts) for path in sorted(folder.glob("*.yaml"))]
    presets = [_read(path, "preset", texts) for path in sorted((folder / "presets").glob("*.yaml"))]
    return [
        *(study for study in studies if study.kind == "study"),
        *presets,
        *(study for study in studies if study.kind == "search"),
        *(_texts(path, studies) for path in texts),
    ]


def found_or_shipped(path: Path) -> Path:
    """Return a path, or that of the study or search of this name, where no such file is there."""
    if len(path.parts) != 1 or path.is_file():
        return path
    named = {found.name: found.path for found in shipped() if found.kind != "texts"}
    return named.get(path.name) or named.get(path.name.removesuffix(".yaml")) or path


def _read(path: Path, kind: str, texts: Sequence[Path]) -> Shipped:
    written = path.read_text(encoding="utf-8")
    own = tuple(text for text in texts if f"file: {text.name}" in written)
    is_search = "\nobjective:" in written
    return Shipped(path, "search" if is_search else kind, _about(written), own)


def _texts(path: Path, studies: Sequence[Shipped]) -> Shipped:
    readers = [study.name for study in studies if path in study.texts]
    return Shipped(path, "texts", f"Read by {' and '.join(readers)}.")


def _about(text: str) -> str:
    """Return the first sentence of a file's first comment."""
    words = []
    for line in text.splitlines():
        said = line.removeprefix("#").strip()
        if not line.startswith("#") or not said:
            break
        words.append(said)
    return re.split(r"(?<=[.?]) ", " ".join(words))[0]
