"""The HTML file: the template with a study's content in it, whole or not at all."""

import base64
import hashlib
import html
import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from impasto.analysis import Loss
from impasto.analysis.best import LOSSES
from impasto.error import UserError, shown
from impasto.figures.found import Found
from impasto.paths import path_of
from impasto.report.content import Content, content_of
from impasto.report.searched import Searched, listed, searched_of
from impasto.study.folder.files import write_files

REPORT = "report.html"
FIRST = 10  # sentences of a model; the others are folded away


def write_report(founds: Sequence[Found], out: Path, losses: Sequence[Loss] = LOSSES) -> Path:
    """Write the page of a study's models, or of a search, into a folder and return its path.

    `losses` are those that a plan is recommended for. Raises UserError where there is neither or
    the file cannot be written.
    """
    given: list[Found] = []
    for found in founds if isinstance(founds, list | tuple) else [founds]:
        if not isinstance(found, Found):
            raise UserError(
                f"a report is about what Found.of and Found.read return, not {shown(found)}"
            )
        if found.results is None and found.search is None:
            raise UserError(f"{found.folder} holds no study and no search to report on")
        given.append(found)
    contents = [content_of(found, losses) for found in given if found.results is not None]
    return write_page(contents, out, searches_of(given))


def searches_of(founds: Sequence[Found]) -> list[Searched]:
    """Return what the page shows of the searches among what folders hold."""
    there = [found for found in founds if found.search is not None]
    return [searched_of(found, number) for number, found in enumerate(there)]


def write_page(contents: Sequence[Content], out: Path, searches: Sequence[Searched] = ()) -> Path:
    """Write the page with some contents or searches, one at least, and return its path."""
    out = path_of(out, "the report's folder")
    write_files(out, {REPORT: page(contents, searches)})
    return out / REPORT


def page(contents: Sequence[Content], searches: Sequence[Searched] = ()) -> str:
    """Return the page as one HTML document.

    It has a block of findings for each model and one to explore them; a block for each search.
    """
    script, style = _asset("page.js"), _asset("page.css")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    titles = dict.fromkeys(part.title for part in (*contents, *searches))
    about = dict.fromkeys(line for part in (*contents, *searches) for line in part.about)
    filled = {
        "TITLE": html.escape(", ".join(titles)),
        "ABOUT": listed(list(about)),
        "SECTIONS": "".join(_sections(contents, searches)),
        "HASH": digest,
        "STYLE": style,
        "SCRIPT": script,
        "DATA": "\n".join(_data(number, content) for number, content in enumerate(contents)),
    }
    parts = _asset("page.html").split("@@")  # text, name, text, name, …, text
    return "".join(filled[part] if i % 2 else part for i, part in enumerate(parts))


def _sections(contents: Sequence[Content], searches: Sequence[Searched]) -> Iterator[str]:
    """Yield the page's sections: findings, searches, what can be explored."""
    if contents:
        yield _section("Findings", "".join(_block(c, len(contents) > 1) for c in contents))
    if searches:
        titles = [html.escape(one.name) for one in searches]
        heads = [f"<h3>{title}</h3>" if len(searches) > 1 else "" for title in titles]
        blocks = (head + one.content for head, one in zip(heads, searches, strict=True))
        yield _section("Search", "\n".join(blocks))
    if contents:
        yield _asset("explore.html")


def _section(title: str, content: str) -> str:
    name = f"{title.lower()}-title"
    return (
        f'<section aria-labelledby="{name}">\n<h2 id="{name}">{title}</h2>\n'
        f'<div class="findings">{content}</div>\n</section>\n'
    )


def _block(content: Content, is_named: bool) -> str:
    """Return the findings of one model, those behind the first few folded away."""
    first, more = content.sentences[:FIRST], content.sentences[FIRST:]
    name = f"<h3>{html.escape(named(content))}</h3>" if is_named else ""
    fold = f"<details><summary>{len(more)} more</summary><ul>{listed(more)}</ul></details>"
    nothing = "" if first else "<p>There is nothing that these numbers show.</p>"
    return f"{name}<ul>{listed(first)}</ul>{nothing}{fold if more else ''}"


def named(content: Content) -> str:
    """Return what tells a model's block from the others."""
    return f"{content.title}, {content.first['model']}"


def _data(number: int, content: Content) -> str:
    """Return the elements with one model's values, read when they are asked for."""
    first, name = within_script(content.first), html.escape(named(content), quote=True)
    later = base64.b64encode(zlib.compress(_json(content.later).encode(), 6)).decode()
    kind = f'type="application/json" data-named="{name}"'
    return (
        f'<script {kind} id="first-{number}">{first}</script>\n'
        f'<script type="application/octet-stream" id="later-{number}">{later}</script>'
    )


def within_script(value: Mapping[str, Any]) -> str:
    """Return a value as JSON that can stand in a script element, whatever its texts say."""
    text = _json(value)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _json(value: Mapping[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def _asset(name: str) -> str:
    return files("impasto.report.assets").joinpath(name).read_text(encoding="utf-8")
