"""The papers' figures, drawn from a study's results with no plotting code of the user's own.

`catalogue` has every figure and table by name, `paper_a`, `paper_b`, `paper_c` and `extra` say what
each shows. `chart` draws lines, `matrix` matrices; `style` is how everything looks, `placement`
names lines where they are. `found` is what they are drawn from, and says what is missing. Figures
are made without pyplot, so drawing changes nothing outside, and the same results give the same
files.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import matplotlib as mpl

from impasto.figures.catalogue import ENTRIES, Entry, entries_of
from impasto.figures.found import Found, MissingError
from impasto.figures.picture import FORMATS, USUAL, Picture, check_formats
from impasto.figures.style import SETTINGS
from impasto.paths import path_of
from impasto.study import Results

__all__ = [
    "ENTRIES",
    "FORMATS",
    "USUAL",
    "Entry",
    "Found",
    "MissingError",
    "Picture",
    "check_formats",
    "draw",
    "entries_of",
    "pictures",
    "save",
]


def pictures(
    founds: Sequence[Found], entries: Sequence[Entry]
) -> Iterator[tuple[Entry, Picture | MissingError]]:
    """Yield every picture of the entries, or, for an entry that lacks its data, what is missing."""
    for entry in entries:
        with mpl.rc_context(SETTINGS):
            try:
                drawn = list(entry.draw(founds))
            except MissingError as missing:
                yield entry, missing
                continue
        for picture in drawn:
            yield entry, picture


def draw(results: Results, out: str | Path, formats: Sequence[str] = USUAL) -> list[Path]:
    """Draw every figure that the results have data for into the folder.

    Returns the files' paths. Raises UserError where they cannot be written.
    """
    found, out = Found.of(results), path_of(out, "the figures' folder")
    return [
        path
        for _, picture in pictures([found], list(ENTRIES.values()))
        if isinstance(picture, Picture)
        for path in save(picture, out, formats)
    ]


def save(picture: Picture, out: Path, formats: Sequence[str]) -> list[Path]:
    """Write a picture's files and return their paths; raises UserError where that cannot be."""
    with mpl.rc_context(SETTINGS):
        return picture.save(out, formats)
