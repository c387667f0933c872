"""The pictures of the page: SVG in it, once for a wide screen and once for a narrow one.

Each has its data beside it, to be saved as CSV. What would be too large as SVG is an image.
Whatever comes from data is escaped.
"""

import base64
import html
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from xml.etree import ElementTree

from impasto.figures import Entry, Found, MissingError
from impasto.figures.data import data_of
from impasto.figures.picture import Picture
from impasto.figures.style import Style
from impasto.table import Table

STYLES = {"wide": Style(), "narrow": Style(inches=3.5)}
SVG, XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
LARGEST = 400_000  # bytes of a picture as SVG; a larger one is an image
DPI = 144  # of such an image
MOST_ROWS = 60  # of a table that is shown; a longer one is left to `impasto figures`
MOST_POINTS = 20_000  # rows of a picture's data that the page holds

ElementTree.register_namespace("", SVG)
ElementTree.register_namespace("xlink", XLINK)


@dataclass(frozen=True)
class Shown:
    """A picture or a table of the page: its element, and its data as CSV (empty: too many)."""

    entry: str
    name: str
    html: str
    csv: str


def figures_of(founds: Sequence[Found], entries: Sequence[Entry], prefix: str) -> Iterator[Shown]:
    """Yield every picture and table of the entries that there is data for."""
    for entry in entries:
        try:
            pictures = list(entry.draw(founds))
        except MissingError:
            continue
        for number, picture in enumerate(pictures):
            if isinstance(picture.content, Table) and len(picture.content.rows) > MOST_ROWS:
                continue
            data = data_of(picture)
            csv = data.written("csv") if len(data.rows) <= MOST_POINTS else ""
            inside = _inside(picture, f"{prefix}-{picture.name}-{number}")
            label = html.escape(f"{entry.name}: {entry.about}", quote=True)
            yield Shown(
                entry.name,
                picture.name,
                f'<figure class="drawn" data-name="{html.escape(picture.name, quote=True)}" '
                f'aria-label="{label}">{inside}{_caption(entry, picture, bool(csv))}</figure>',
                csv,
            )


def _caption(entry: Entry, picture: Picture, has_data: bool) -> str:
    """Return what stands below a picture; its buttons are shown by the page's script."""
    is_table = isinstance(picture.content, Table)
    wanted = [("svg", "Picture")] * (not is_table) + [("csv", "Data")] * has_data
    buttons = "".join(
        f'<button type="button" class="save" hidden data-save="{what}" '
        f'aria-label="{name} of {html.escape(picture.name, quote=True)}, as a file">'
        f"{name} ↓</button>"
        for what, name in wanted
    )
    sentence = entry.about[:1].upper() + entry.about[1:]
    said = f"<strong>{html.escape(entry.name)}</strong> {html.escape(sentence)}"
    notes = "".join(f"<small>{html.escape(note)}</small>" for note in picture.notes)
    return f"<figcaption><span>{said}{notes}</span><span>{buttons}</span></figcaption>"


def _inside(picture: Picture, prefix: str) -> str:
    """Return a picture in both widths, or a table."""
    if isinstance(picture.content, Table):
        return table_html(picture.content, picture.name)
    return "".join(
        f'<div class="{name}">{inline(picture, style, f"{prefix}-{name}-")}</div>'
        for name, style in STYLES.items()
    )


def table_html(table: Table, name: str) -> str:
    """Return a table as an element that scrolls by itself where it is wide."""
    note = f'<p class="hint">{html.escape(table.note)}</p>' if table.note else ""
    label = html.escape(f"Table {name}", quote=True)
    return (
        f'<div class="scroll plain" tabindex="0" role="region" aria-label="{label}">'
        f"{table.written('html')}</div>{note}"
    )


def inline(picture: Picture, style: Style, prefix: str) -> str:
    """Return a picture as an element of a page; the ids in it begin with the prefix."""
    written = picture.svg(style)
    if len(written) > LARGEST:
        image = base64.b64encode(picture.png(style, DPI)).decode()
        return f'<img alt="" src="data:image/png;base64,{image}">'
    root = ElementTree.fromstring(written)
    ids = count()
    names: dict[str, str] = {}
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag in (f"{{{SVG}}}metadata", f"{{{SVG}}}style"):
                parent.remove(child)
        if own := parent.get("id"):
            names[own] = f"{prefix}{next(ids)}"
    for element in root.iter():
        for key, value in list(element.attrib.items()):
            element.set(key, _renamed(key, value, names))
    root.attrib.pop("height", None)
    width = root.attrib.pop("width", "")
    root.set("style", f"max-width: {1.6 * float(width.removesuffix('pt')):.0f}px")
    return ElementTree.tostring(root, encoding="unicode")


def _renamed(key: str, value: str, names: Mapping[str, str]) -> str:
    """Return an attribute's value with the ids that it has or refers to as they are now."""
    if key == "id":
        return names[value]
    if value.startswith("#"):
        return f"#{names.get(value[1:], value[1:])}"
    return re.sub(r"url\(#([^)]*)\)", lambda m: f"url(#{names.get(m[1], m[1])})", value)
