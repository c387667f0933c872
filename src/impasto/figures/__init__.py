"""The papers' figures, drawn from studies' results with no plotting code of the user's own.

`catalogue` has every figure and table by name; `paper_a`, `paper_b`, `middles`, `paper_c`,
`tables`, `pareto`, `trade_off`, `repeats`, `searched` and `extra` say what each shows, `models` how
several models share
one. `chart` draws lines, `matrix` matrices, `front` plans by cost; `scale` is the vertical axis,
`style` how everything looks, `headline`, `key` and `placement` write titles and names. `found` is
what they are drawn from, and says what is missing; `drawn` knows which files are out of date.
Figures are made without pyplot, so drawing changes nothing outside, and the same results give the
same files.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from impasto.error import UserError, shown
from impasto.figures.catalogue import ENTRIES, Entry, ending_of, entries_of
from impasto.figures.drawn import Drawn
from impasto.figures.found import Found, MissingError
from impasto.figures.picture import FORMATS, USUAL, Picture, check_formats
from impasto.figures.style import KINDS, USUAL_STYLE, Style, style_of
from impasto.paths import path_of
from impasto.study import Results

__all__ = [
    "ENTRIES",
    "FORMATS",
    "KINDS",
    "USUAL",
    "Drawn",
    "Entry",
    "Found",
    "MissingError",
    "Picture",
    "Style",
    "check_formats",
    "draw",
    "ending_of",
    "entries_of",
    "pictures",
    "save_all",
    "style_of",
]


def pictures(
    founds: Sequence[Found], entries: Sequence[Entry]
) -> Iterator[tuple[Entry, Picture | MissingError]]:
    """Yield every picture of the entries, or, for an entry that lacks its data, what is missing."""
    for entry in entries:
        try:
            drawn = list(entry.draw(founds))
        except MissingError as missing:
            yield entry, missing
            continue
        for picture in drawn:
            yield entry, picture


def save_all(
    founds: Sequence[Found],
    entries: Sequence[Entry],
    out: Path,
    formats: Sequence[str],
    style: Style = USUAL_STYLE,
) -> Iterator[tuple[Entry, Picture | MissingError, list[Path]]]:
    """Write every picture of the entries and yield it with its files, or what one lacks.

    Of all entries, files of pictures go that were written before and lack their data now. Raises
    UserError where files cannot be written.
    """
    drawn = Drawn.read(out, ending_of(founds))
    for entry, picture in pictures(founds, entries):
        paths = [] if isinstance(picture, MissingError) else picture.save(out, formats, style)
        if isinstance(picture, Picture):
            drawn.add(picture.name, paths)
        yield entry, picture, paths
    drawn.write(is_all=len(entries) == len(ENTRIES))


def draw(
    results: Results,
    out: str | Path,
    formats: Sequence[str] = USUAL,
    style: Style = USUAL_STYLE,
) -> list[Path]:
    """Draw every figure that the results have data for into the folder, all models side by side.

    Returns the files' paths. Raises UserError where they cannot be written.
    """
    if not isinstance(results, Results):
        raise UserError(f"figures are drawn from what Study.run returns, not from {shown(results)}")
    founds = [Found.of(of_model) for of_model in results.models.values()]
    out = path_of(out, "the figures' folder")
    every = save_all(founds, list(ENTRIES.values()), out, formats, style)
    return [path for *_, paths in every for path in paths]
