"""Pictures as values that a notebook shows: what `Results.figure` returns."""

import base64
import html
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from impasto.error import UserError, shown
from impasto.figures.catalogue import entries_of
from impasto.figures.found import Found, MissingError
from impasto.figures.picture import USUAL, Picture
from impasto.figures.style import USUAL_STYLE, Style
from impasto.paths import path_of
from impasto.study import Results
from impasto.table import Table


class Pictures(Sequence[Picture]):
    """The pictures and tables of figures; a notebook shows them below each other."""

    def __init__(self, pictures: Sequence[Picture], style: Style = USUAL_STYLE) -> None:
        self._pictures, self.style = tuple(pictures), style

    def __len__(self) -> int:
        return len(self._pictures)

    def __getitem__(self, at: Any) -> Any:
        return self._pictures[at]

    def __repr__(self) -> str:
        return f"<{', '.join(picture.name for picture in self)}>"

    def _repr_html_(self) -> str:
        return "\n".join(self._elements())

    def save(self, out: str | Path, formats: Sequence[str] = USUAL) -> list[Path]:
        """Write every picture in the formats (png, svg, pdf) to a folder; return the files.

        Tables are written as Markdown, LaTeX and CSV. Raises UserError where that cannot be.
        """
        out = path_of(out, "the figures' folder")
        return [path for picture in self for path in picture.save(out, formats, self.style)]

    def _elements(self) -> Iterator[str]:
        """Yield an element for each; an image of its own, so that no two share names inside."""
        for picture in self:
            if isinstance(picture.content, Table):
                yield picture.content.written("html")
                yield _paragraph(picture.content.note)
                continue
            data = base64.b64encode(picture.svg(self.style)).decode("ascii")
            name = html.escape(picture.name, quote=True)
            yield f'<img alt="{name}" src="data:image/svg+xml;base64,{data}">'
            yield from map(_paragraph, picture.notes)


def _paragraph(text: str) -> str:
    return f"<p>{html.escape(text)}</p>" if text else ""


def figures_of(results: Results, names: str, style: Style = USUAL_STYLE) -> Pictures:
    """Return the figures of a study's results by their names, `A2` or `A2,B11`.

    Raises UserError for a name that there is none of, and where one lacks its data: what is missing
    and how to get it.
    """
    if not isinstance(names, str):
        raise UserError(f"a figure's name is a text such as 'A2', not {shown(names)}")
    founds = [Found.of(of_model) for of_model in results.models.values()]
    drawn: list[Picture] = []
    for entry in entries_of(names):
        try:
            drawn += entry.draw(founds)
        except MissingError as missing:
            lines = [f"{entry.name} ({entry.about}) lacks data", *missing.told(founds[0])]
            raise UserError("\n  ".join(lines)) from None
    return Pictures(drawn, style)
