"""A picture or a table with its file's name, and writing it down."""

import io
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import matplotlib as mpl
from matplotlib.figure import Figure

from impasto.aside import remove_strays, written_aside
from impasto.error import UserError
from impasto.figures.style import DPI, USUAL_STYLE, Style
from impasto.screen import printable
from impasto.table import Table

FORMATS = ("png", "svg", "pdf")
USUAL = ("png", "svg")
TABLE_FORMATS = ("md", "tex", "csv")
# Without the date or the program's version, so that the same table gives the same files.
METADATA = {
    "png": {"Software": None},
    "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}


class Drawing(Protocol):
    """What a picture shows, as a value."""

    def figure(self, style: Style) -> Figure:
        """Return the picture; used within the style's settings."""
        ...


@dataclass(frozen=True, eq=False)
class Picture:
    """A drawing or a table.

    Attributes:
        name: That of its files, without their endings.
        content: What it shows.
        notes: What of the studies it leaves out, in sentences.
    """

    name: str
    content: Drawing | Table
    notes: Sequence[str] = ()

    def save(self, out: Path, formats: Sequence[str], style: Style = USUAL_STYLE) -> list[Path]:
        """Write the picture in the formats, or a table in all of its own; return the files.

        Raises UserError where that cannot be.
        """
        check_formats(formats)
        try:
            out.mkdir(parents=True, exist_ok=True)
            remove_strays(out)
            if isinstance(self.content, Table):
                return list(_save_table(self.content, out, self.name))
            with mpl.rc_context(style.settings):
                return list(_save_figure(self.content.figure(style), out, self.name, formats))
        except OSError as error:
            raise UserError(f"figures cannot be written to {out}: {error.strerror}") from None

    def svg(self, style: Style = USUAL_STYLE) -> bytes:
        """Return a picture, which is no table, as the content of an SVG file."""
        return self._drawn("svg", style, "figure")

    def png(self, style: Style = USUAL_STYLE, dpi: int = DPI) -> bytes:
        """Return a picture, which is no table, as the content of a PNG file."""
        return self._drawn("png", style, dpi)

    def _drawn(self, form: str, style: Style, dpi: "float | Literal['figure']") -> bytes:
        assert not isinstance(self.content, Table), self.name
        with mpl.rc_context(style.settings):
            return _written(self.content.figure(style), form, dpi)


def check_formats(formats: Sequence[str]) -> None:
    """Raise UserError unless figures have all of these formats."""
    for form in formats:
        if form not in FORMATS:
            raise UserError(f"there is no format {form!r}; figures are {', '.join(FORMATS)}")


def _save_table(table: Table, out: Path, name: str) -> Iterable[Path]:
    for form in TABLE_FORMATS:
        path = out / f"{name}.{form}"
        with written_aside(path) as place:
            place.write_text(table.written(form), encoding="utf-8")
        yield path


def _save_figure(figure: Figure, out: Path, name: str, formats: Sequence[str]) -> Iterable[Path]:
    for form in formats:
        path = out / f"{name}.{form}"
        with written_aside(path) as place:
            place.write_bytes(_written(figure, form))
        yield path


def _written(figure: Figure, form: str, dpi: "float | Literal['figure']" = DPI) -> bytes:
    """Return a figure in a format; names in an SVG have no characters that XML has not."""
    written = io.BytesIO()
    figure.savefig(written, format=form, dpi=dpi, metadata=METADATA[form])
    content = written.getvalue()
    return printable(content.decode("utf-8")).encode("utf-8") if form == "svg" else content


def file_name(text: str) -> str:
    """Return a text as a file's name can have it."""
    return re.sub(r"[^\w.-]+", "-", text)
