"""The HTML file: the template with a study's content in it, whole or not at all."""

import base64
import hashlib
import html
import json
import zlib
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from impasto.error import UserError, shown
from impasto.figures.found import Found
from impasto.paths import path_of
from impasto.report.content import Content, content_of
from impasto.study.folder.files import write_files

REPORT = "report.html"


def write_report(found: Found, out: Path) -> Path:
    """Write the page of a study into a folder and return its path.

    Raises UserError where there is no study or the file cannot be written.
    """
    if not isinstance(found, Found):
        raise UserError(f"a report is about what Found.of or Found.read return, not {shown(found)}")
    out = path_of(out, "the report's folder")
    write_files(out, {REPORT: page(content_of(found))})
    return out / REPORT


def page(content: Content) -> str:
    """Return the page as one HTML document."""
    script, style = _asset("page.js"), _asset("page.css")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    filled = {
        "TITLE": html.escape(content.title),
        "ABOUT": _listed(content.about),
        "FINDINGS": _listed(content.told),
        "MORE": f"<details><summary>{len(content.more)} more, by task and strategy</summary>"
        f"<ul>{_listed(content.more)}</ul></details>"
        if content.more
        else "",
        "HASH": digest,
        "STYLE": style,
        "SCRIPT": script,
        "FIRST": within_script(content.first),
        "LATER": base64.b64encode(zlib.compress(_json(content.later).encode(), 6)).decode(),
    }
    parts = _asset("page.html").split("@@")  # text, name, text, name, …, text
    return "".join(filled[part] if i % 2 else part for i, part in enumerate(parts))


def _listed(lines: Sequence[str]) -> str:
    return "".join(f"<li>{html.escape(line)}</li>" for line in lines)


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
