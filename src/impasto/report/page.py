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
from impasto.figures import ENTRIES
from impasto.figures.found import Found
from impasto.figures.picture import file_name
from impasto.paths import path_of
from impasto.report.content import Content, content_of
from impasto.report.pictures import Shown, figures_of
from impasto.report.searched import PICTURES, Searched, listed, searched_of, sentence
from impasto.study.folder.files import write_files

REPORT = "report.html"
OVER_DEPTH = ("A2", "A3", "A4", "A6", "depth")
DEPTHS = (
    "The critical depth is the first depth from which on a manipulation no longer matters: there "
    "and at every greater depth the score stays within 5 points of the unchanged model's. Before "
    "it, the model still needs what was taken from it. Depth k is what layer k reads."
)
FIRST = 10  # sentences of a model; the others are folded away


def write_report(
    founds: Sequence[Found],
    out: Path,
    losses: Sequence[Loss] = LOSSES,
    *,
    with_lens: bool = False,
) -> Path:
    """Write the page of a study's models, or of a search, into a folder and return its path.

    `losses` are those that a plan is recommended for. `with_lens` opens the model for what it would
    say at each depth. Raises UserError where there is neither or
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
    studies = [found for found in given if found.results is not None]
    contents = [content_of(found, losses, with_lens=with_lens) for found in studies]
    return write_page(contents, out, searches_of(given), figures_for(given))


def searches_of(founds: Sequence[Found]) -> list[Searched]:
    """Return what the page shows of the searches among what folders hold."""
    there = [found for found in founds if found.search is not None]
    return [searched_of(found, number) for number, found in enumerate(there)]


def write_page(
    contents: Sequence[Content],
    out: Path,
    searches: Sequence[Searched] = (),
    figures: Sequence[Shown] = (),
) -> Path:
    """Write the page with some contents or searches, one at least, and return its path."""
    out = path_of(out, "the report's folder")
    write_files(out, {REPORT: page(contents, searches, figures)})
    return out / REPORT


def figures_for(founds: Sequence[Found]) -> list[Shown]:
    """Return the pictures of the studies of some folders, all models side by side."""
    studies = [found for found in founds if found.results is not None]
    entries = [entry for entry in ENTRIES.values() if entry.name not in PICTURES.split(",")]
    return list(figures_of(studies, entries, "study")) if studies else []


def page(
    contents: Sequence[Content],
    searches: Sequence[Searched] = (),
    figures: Sequence[Shown] = (),
) -> str:
    """Return the page as one HTML document.

    It opens with a sentence for each model and the main picture; a search has a section of its own.
    """
    script, style = _asset("page.js"), colours() + _asset("page.css")
    titles = dict.fromkeys(part.title for part in (*contents, *searches))
    about = dict.fromkeys(line for part in (*contents, *searches) for line in part.about)
    made = dict.fromkeys(line for content in contents for line in content.made)
    main = _main(contents, figures)
    others = [shown for shown in figures if shown is not main]
    sections = list(_sections(contents, searches, others))
    data = {shown.name: shown.csv for one in searches for shown in one.figures}
    data |= {shown.name: shown.csv for shown in figures}
    filled = {
        "TITLE": html.escape(", ".join(titles)),
        "ABOUT": html.escape(" · ".join(about)),
        "MADE": listed(list(made)),
        "OPENING": _opening(contents)
        + ("" if main is None else f'<div class="main">{main.html}</div>'),
        "PLACES": "".join(f'<a href="#{name}">{title}</a>' for name, title, _ in sections),
        "SECTIONS": "".join(content for *_, content in sections),
        "HASHES": " ".join(_hash(part) for part in (theme(), script)),
        "STYLE": style,
        "THEME": theme(),
        "SCRIPT": script,
        "DATA": "\n".join(
            [*(_data(number, content) for number, content in enumerate(contents)),
             _packed("figure-data", data)]
        ),
    }  # fmt: skip
    parts = _asset("page.html").split("@@")  # text, name, text, name, …, text
    return "".join(filled[part] if i % 2 else part for i, part in enumerate(parts))


def _opening(contents: Sequence[Content]) -> str:
    """Return the sentences that open the page, one for each model."""
    several = len(contents) > 1
    return "".join(
        f'<p class="opening">{_named_first(content) if several else ""}'
        f"{sentence(content.found.opening)}</p>"
        for content in contents
        if content.found.opening
    )


def _named_first(content: Content) -> str:
    return f"<strong>{html.escape(named(content))}:</strong> "


Section = tuple[str, str, str]  # id, title, HTML


def _sections(
    contents: Sequence[Content], searches: Sequence[Searched], figures: Sequence[Shown]
) -> Iterator[Section]:
    """Yield the page's sections: depths, findings, pictures, what to explore."""
    several = len(contents) > 1
    if any(content.found.critical for content in contents):
        depths = (_critical(content, several) for content in contents)
        yield _section("depths", "Critical depths", f"<p>{DEPTHS}</p>{''.join(depths)}")
    if contents:
        blocks = "".join(_block(content, several) for content in contents)
        yield _section("findings", "Findings", f'<div class="findings">{blocks}</div>')
    if searches:
        titles = [html.escape(one.name) for one in searches]
        heads = [f"<h3>{title}</h3>" if len(searches) > 1 else "" for title in titles]
        blocks = (head + one.content for head, one in zip(heads, searches, strict=True))
        yield _section("search-found", "Search", f'<div class="findings">{"".join(blocks)}</div>')
    if figures:
        drawn = "".join(shown.html for shown in figures)
        yield _section("figures", "Figures", f'<div class="figures">{drawn}</div>')
    if contents:
        if any(content.lens.plans or content.lens.note for content in contents):
            yield "lens", "Lens", _asset("lens.html")
        yield "explore", "Explore", _asset("explore.html")
        yield "plans", "Plans", _asset("plans.html")
    if any(content.commands for content in contents):
        commands = (_commands(content, several) for content in contents)
        yield _section("next", "What to do next", "".join(commands))


def _main(contents: Sequence[Content], figures: Sequence[Shown]) -> Shown | None:
    """Return the picture of what the page's first sentence is about; None where there is none."""
    found = next((content.found for content in contents if content.found.opening), None)
    if found is None:
        return None
    drawn = [shown for shown in figures if "<table" not in shown.html]
    if found.opens_with == "depth":
        depths = [shown for shown in drawn if shown.entry in OVER_DEPTH]
        ending = f"-{file_name(found.task)}"
        of_task = [shown for shown in depths if shown.name.startswith(shown.entry + ending)]
        drawn = [*of_task, *depths, *drawn]
    if found.opens_with == "plans":
        drawn = [*(shown for shown in drawn if shown.entry == "pareto"), *drawn]
    return next(iter(drawn), None)


def _section(name: str, title: str, content: str) -> Section:
    return (
        name,
        title,
        f'<section aria-labelledby="{name}">\n<h2 id="{name}">{title}</h2>\n'
        f"{content}\n</section>\n",
    )


def _critical(content: Content, is_named: bool) -> str:
    """Return the table of a model's critical depths."""
    rows, task = [], ""
    for said in content.found.critical:
        if said.task != task:
            about = html.escape(f"{said.title}, {said.n}")
            rows.append(f'<tr><th scope="rowgroup" colspan="3">{about}</th></tr>')
            task = said.task
        cells = (said.doing, said.depth, said.interval)
        rows.append(f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in cells)}</tr>")
    if not rows:
        return ""
    of = f" (of {content.first['layers']})"
    heads = ("From depth k on", f"Critical depth{of}", "95 % interval")
    head = "".join(f'<th scope="col">{html.escape(text)}</th>' for text in heads)
    name = f"<h3>{html.escape(named(content))}</h3>" if is_named else ""
    return (
        f'{name}<div class="scroll plain" tabindex="0" role="region" '
        f'aria-label="Table of critical depths">'
        f'<table class="depths"><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _commands(content: Content, is_named: bool) -> str:
    """Return a model's next commands, each with a button that copies it."""
    name = f"<h3>{html.escape(named(content))}</h3>" if is_named else ""
    return name + "".join(
        f'<p class="next">{html.escape(what)}</p><div class="copied"><pre tabindex="0" '
        f'role="region" aria-label="{html.escape(what, quote=True)}"><code>{html.escape(command)}'
        f'</code></pre><button type="button" class="copy" hidden>Copy</button></div>'
        for what, command in content.commands
    )


def _block(content: Content, is_named: bool) -> str:
    """Return the findings of one model, those behind the first few folded away."""
    sentences = [one for one in content.sentences if one != content.found.opening]
    first, more = sentences[:FIRST], sentences[FIRST:]
    name = f"<h3>{html.escape(named(content))}</h3>" if is_named else ""
    fold = f"<details><summary>{len(more)} more</summary><ul>{listed(more)}</ul></details>"
    nothing = "" if content.sentences else "<p>There is nothing that these numbers show.</p>"
    return f"{name}<ul>{listed(first)}</ul>{nothing}{fold if more else ''}"


def named(content: Content) -> str:
    """Return what tells a model's block from the others."""
    return f"{content.title}, {content.first['model']}"


def _data(number: int, content: Content) -> str:
    """Return the elements with one model's values, read when they are asked for."""
    first, name = within_script(content.first), html.escape(named(content), quote=True)
    kind = f'type="application/json" data-named="{name}"'
    lens = content.lens
    note = f' data-note="{html.escape(lens.note, quote=True)}"'
    return (
        f'<script {kind} id="first-{number}">{first}</script>\n'
        f"{_packed(f'later-{number}', content.later)}\n"
        f"{_packed(f'lens-{number}', lens.values, note)}"
    )


def _packed(name: str, value: Mapping[str, Any], more: str = "") -> str:
    """Return an element with values that are unpacked once somebody asks for them."""
    packed = base64.b64encode(zlib.compress(_json(value).encode(), 6)).decode()
    return f'<script type="application/octet-stream" id="{name}"{more}>{packed}</script>'


def within_script(value: Mapping[str, Any]) -> str:
    """Return a value as JSON that can stand in a script element, whatever its texts say."""
    text = _json(value)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _json(value: Mapping[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def colours() -> str:
    """Return the colours of our pages as CSS, the light ones and the dark ones."""
    return _asset("colours.css")


def theme() -> str:
    """Return the script that our pages begin with: light or dark, and the button for it."""
    return _asset("theme.js")


def _hash(script: str) -> str:
    """Return what lets a page's policy run a script that stands in it."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


def _asset(name: str) -> str:
    return files("impasto.report.assets").joinpath(name).read_text(encoding="utf-8")
