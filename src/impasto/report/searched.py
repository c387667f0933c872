"""The section about a search: what it found in words, pictures, a table, and how to export it.

Unlike a study's it needs no script. Pictures are SVG in the page, once for a wide screen and once
for a narrow one; whatever comes from data is escaped.
"""

import html
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from math import isfinite
from xml.etree import ElementTree

from impasto.analysis.scores import signed
from impasto.analysis.words import share_of
from impasto.error import UserError
from impasto.figures import Found, MissingError, entries_of
from impasto.figures.picture import Picture
from impasto.figures.scale import short
from impasto.figures.searched import interval_of
from impasto.figures.style import Style
from impasto.searching.budget import MEASURES
from impasto.searching.found import Confirmed, FoundPlan
from impasto.searching.found import Found as Search
from impasto.table import MINUS
from impasto.tasks.metrics import metric_name, metric_of

PICTURES = "front,scan,pairs"
STYLES = {"wide": Style(), "narrow": Style(inches=3.5)}
SVG, XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
FOLDER = "OUT"  # where an exported model goes
BEST = "best"

ElementTree.register_namespace("", SVG)
ElementTree.register_namespace("xlink", XLINK)


@dataclass(frozen=True)
class Searched:
    """The page's values of one search: what heads the page, and the section's HTML."""

    title: str
    about: Sequence[str]
    name: str
    content: str


def searched_of(found: Found, number: int = 0) -> Searched:
    """Return what the page shows of a search; `number` tells it from other searches of the page."""
    search = found.search
    if search is None:
        raise UserError(f"{found.folder} holds no finished search")
    parts = [
        f"<ul>{listed(search.sentences)}</ul>" if search.sentences else "",
        *_drawn(found, f"search{number}"),
        _table(search),
        "<h3>To export the best plan</h3>",
        f"<pre><code>{html.escape(export_command(search))}</code></pre>",
    ]
    return Searched(
        title=search.search,
        about=[f"model {search.model}", f"{len(search.tried):,} plans tried by a search"],
        name=f"{search.search}, {search.model}",
        content="\n".join(parts),
    )


def export_command(search: Search) -> str:
    """Return the command that writes a model that runs the best plan."""
    words = ["impasto", "export", "--model", search.model, "--plan", str(search.best.plan), FOLDER]
    return shlex.join(words)


# ---------------------------------------------------------------------- pictures


def _drawn(found: Found, prefix: str) -> Iterator[str]:
    """Yield every picture that the search has data for, each in two widths."""
    for entry in entries_of(PICTURES):
        try:
            pictures = list(entry.draw([found]))
        except MissingError:
            continue
        for number, picture in enumerate(pictures):
            widths = (
                f'<div class="{name}">'
                f"{inline(picture, style, f'{prefix}-{picture.name}-{number}-{name}-')}</div>"
                for name, style in STYLES.items()
            )
            label = html.escape(entry.about, quote=True)
            yield f'<figure class="drawn" aria-label="{label}">{"".join(widths)}</figure>'


def inline(picture: Picture, style: Style, prefix: str) -> str:
    """Return a picture as an SVG element of a page; its ids begin with the prefix."""
    root = ElementTree.fromstring(picture.svg(style))
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


# ---------------------------------------------------------------------- the table


def _table(search: Search) -> str:
    """Return the table of the front and the references: cost, objective, confirmed tasks."""
    tasks = list(dict.fromkeys((row.task, row.title, row.metric) for row in search.confirmed))
    heads = ["Plan", "Found by", *(_measure_said(name) for name in search.measures)]
    heads.append(f"{search.objective}, {search.unit}")
    heads += [f"{title}: {metric_name(metric)}" for _, title, metric in tasks]
    confirmed = {(row.plan.digest, row.task, row.metric): row for row in search.confirmed}
    rows = []
    for plan, by in _plans(search):
        cells = [f"<td><code>{html.escape(str(plan.plan))}</code></td>", _cell(by)]
        cells += [_number(f"{100 * plan.cost[name]:.1f}") for name in search.measures]
        cells.append(_number(_objective(search, plan)))
        for task, _, metric in tasks:
            row = confirmed.get((plan.plan.digest, task, metric))
            cells.append(_number("" if row is None else _confirmed(row)))
        rows.append(f"<tr>{''.join(cells)}</tr>")
    head = "".join(f'<th scope="col">{html.escape(text)}</th>' for text in heads)
    note = "Intervals are of 95 %, on items that did not choose."
    if tasks:
        note += (
            " Of tasks: the plan's value, its change against the full model with the interval, and "
            "p, corrected for all that were compared (Holm)."
        )
    return (
        '<div class="scroll" tabindex="0" role="region" aria-label="Table of plans of the search">'
        f'<table class="searched"><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
        f'<p class="hint">{note}</p>'
    )


def _plans(search: Search) -> list[tuple[FoundPlan, str]]:
    """Return the plans of the table, each once with what found it: the best, the front, others."""
    found: dict[str, tuple[FoundPlan, list[str]]] = {}
    ways = [(BEST, [search.best]), ("front", search.front), *search.references.items()]
    for way, plans in [*ways, ("full model", [search.full])]:
        for plan in plans:
            if way == "front" and plan.plan == search.full.plan:
                continue
            found.setdefault(plan.plan.digest, (plan, []))[1].append(way)
    return [(plan, ", ".join(dict.fromkeys(by))) for plan, by in found.values()]


def _measure_said(name: str) -> str:
    return f"{MEASURES.get(name, name)} (%)"


def _objective(search: Search, plan: FoundPlan) -> str:
    if plan.held_out is None:
        return ""
    low, high = interval_of(search, plan.held_out)
    value = _short(plan.held_out.value)
    if not plan.held_out.stderr > 0 or not isfinite(low):
        return value
    return f"{value} ({_short(low)} to {_short(high)})"


def _short(value: float) -> str:
    return short(value, 3).replace("-", MINUS)


def _confirmed(row: Confirmed) -> str:
    """Say what a plan comes to on a task, and by how much that is better than the full model."""
    kind = metric_of(row.metric)
    if kind.is_bounded:
        change, low, high = (signed(100 * end) for end in (row.difference, row.low, row.high))
    else:
        change, low, high = (_short(end) for end in (row.difference, row.low, row.high))
    p = "p < 0.001" if row.corrected < 0.001 else f"p = {row.corrected:.3f}"
    return f"{share_of(row.value, kind)}, {change} ({low} to {high}), {p}"


def _cell(text: str) -> str:
    return f"<td>{html.escape(text)}</td>"


def _number(text: str) -> str:
    return f'<td class="number">{html.escape(text)}</td>'


def listed(lines: Sequence[str]) -> str:
    """Return lines as the items of a list in HTML."""
    return "".join(f"<li>{html.escape(line)}</li>" for line in lines)
