"""The section about a search: what it found in words, pictures, a table, and how to export it.

Unlike a study's it needs no script. Pictures are SVG in the page, once for a wide screen and once
for a narrow one; whatever comes from data is escaped.
"""

import html
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite

from impasto.analysis.scores import signed
from impasto.analysis.words import share_of, short
from impasto.error import UserError
from impasto.figures import Found, entries_of
from impasto.figures.searched import interval_of
from impasto.report.pictures import Shown, figures_of
from impasto.searching.budget import MEASURES
from impasto.searching.found import Confirmed, FoundPlan
from impasto.searching.found import Found as Search
from impasto.table import MINUS
from impasto.tasks.metrics import metric_name, metric_of

PICTURES = "front,scan,pairs"
FOLDER = "OUT"  # where an exported model goes
BEST = "best"
LONGEST_ITEM = 40  # characters of a plan's item that is never broken


@dataclass(frozen=True)
class Searched:
    """The page's values of one search: what heads the page, and the section's HTML."""

    title: str
    about: Sequence[str]
    name: str
    content: str
    figures: Sequence[Shown] = ()


def searched_of(found: Found, number: int = 0) -> Searched:
    """Return what the page shows of a search; `number` tells it from other searches of the page."""
    search = found.search
    if search is None:
        raise UserError(f"{found.folder} holds no finished search")
    figures = list(figures_of([found], entries_of(PICTURES), f"search{number}"))
    parts = [
        f"<ul>{listed(search.sentences)}</ul>" if search.sentences else "",
        *(figure.html for figure in figures),
        _table(search),
        "<h3>To export the best plan</h3>",
        f"<pre><code>{html.escape(export_command(search))}</code></pre>",
    ]
    return Searched(
        title=search.search,
        about=[f"model {search.model}", f"{len(search.tried):,} plans tried by a search"],
        name=f"{search.search}, {search.model}",
        content="\n".join(parts),
        figures=figures,
    )


def export_command(search: Search) -> str:
    """Return the command that writes a model that runs the best plan."""
    words = ["impasto", "export", "--model", search.model, "--plan", str(search.best.plan), FOLDER]
    return shlex.join(words)


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
    return "".join(f"<li>{sentence(line)}</li>" for line in lines)


def sentence(text: str) -> str:
    """Return a sentence in HTML, in which no item of a plan is broken at the end of a line."""
    return " ".join(_word(word) for word in text.split(" "))


def _word(word: str) -> str:
    escaped = html.escape(word)
    is_item = len(word) <= LONGEST_ITEM and any(sign in word for sign in "-[|]")
    return f'<span class="item">{escaped}</span>' if is_item else escaped
