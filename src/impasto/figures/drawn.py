"""Which files of a folder were drawn, so that those without data go when it is drawn anew.

`.drawn.json` lists the files of every picture, those of each combination of models apart. No file
goes that is not listed there.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from impasto.aside import written_aside
from impasto.error import UserError
from impasto.plain_data import read_json_file

MANIFEST = ".drawn.json"
Files = dict[str, list[str]]  # by the picture's name


@dataclass
class Drawn:
    """What was drawn into a folder of one combination of models, before and now."""

    out: Path
    models: str
    every: dict[str, Files]
    now: Files = field(default_factory=dict)

    @classmethod
    def read(cls, out: Path, models: str) -> "Drawn":
        """Return what a folder says was drawn there; nothing where it says nothing readable."""
        try:
            content = read_json_file(out / MANIFEST)
        except UserError:
            content = {}
        return cls(out, models, content if _is_manifest(content) else {})

    def add(self, name: str, paths: Iterable[Path]) -> None:
        """Note the files of a picture."""
        self.now[name] = [path.name for path in paths]

    def write(self, is_all: bool) -> None:
        """Keep the list; where all was drawn, remove what was drawn before and has no data now.

        Files of a picture that was drawn again in other formats stay. Raises UserError where that
        cannot be.
        """
        before = self.every.get(self.models, {})
        kept = {} if is_all else before
        known = {
            name: sorted({*before.get(name, ()), *self.now.get(name, ())})
            for name in {**kept, **self.now}
        }
        stale = [files for name, files in before.items() if name not in known]
        used = {
            name
            for models, pictures in self.every.items()
            if models != self.models
            for files in pictures.values()
            for name in files
        } | {name for files in known.values() for name in files}
        every = {**self.every, self.models: dict(sorted(known.items()))}
        try:
            for name in (name for files in stale for name in files if name not in used):
                if Path(name).name == name:
                    (self.out / name).unlink(missing_ok=True)
            if any(every.values()):
                text = json.dumps(every, indent=1, sort_keys=True) + "\n"
                self.out.mkdir(parents=True, exist_ok=True)
                with written_aside(self.out / MANIFEST) as place:
                    place.write_text(text, encoding="utf-8")
        except OSError as error:
            raise UserError(f"figures in {self.out} cannot be kept: {error.strerror}") from None


def _is_manifest(content: object) -> bool:
    """Say whether a file's content is a list of files by picture and models."""
    return isinstance(content, dict) and all(
        isinstance(pictures, dict)
        and all(
            isinstance(files, list) and all(isinstance(name, str) for name in files)
            for files in pictures.values()
        )
        for pictures in content.values()
    )
