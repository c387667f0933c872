"""The one writer of tables: CSV and JSON to compute with, Markdown, LaTeX and HTML to read, lines.

A value that is missing or not a number is an empty cell, and null in JSON, which has no infinite
numbers either. Texts may come from anywhere: each form writes them so that they are shown as text,
and run nothing (a formula in a spreadsheet, markup on a page).
"""

import csv
import html
import io
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import TYPE_CHECKING, Any

from impasto.screen import printable

if TYPE_CHECKING:
    import pandas as pd

MINUS = "−"
LATEX = {
    "\\": r"\textbackslash{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "{": r"\{",
    "}": r"\}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "±": r"$\pm$",
    MINUS: r"$-$",
    "×": r"$\times$",
    "·": r"$\cdot$",
    "–": "--",
    "…": r"\ldots{}",
    **{sign: rf"$^{{{at}}}$" for at, sign in enumerate("⁰¹²³⁴⁵⁶⁷⁸⁹")},
    "⁻": r"$^{-}$",
}
FORMULA = (
    "=",
    "+",
    "-",
    MINUS,
    "@",
    "\t",
)  # what a cell of a spreadsheet computes begins with
# What means something to Markdown: everywhere, behind a bracket, as an entity, at a word's edge.
MARKUP = re.compile(r"[\\|<`*~]|(?<=\])[(\[:]|&(?=#?\w+;)|(?<!\w)_|_(?!\w)")


class Code(str):
    """A text of a table that is shown as code where the form has that: a plan, a digest."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Table:
    """A table: its columns and rows, which hold values, or texts where `numbers` has the values.

    Attributes:
        numbers: For each row what its cells are in CSV and JSON; empty where the rows are that.
        number_columns: The columns of `numbers`, where they are others.
        title: What the table shows. One with a title is laid out as papers print it: the first
            column says what a row is, the others are set to the right.
        note: What a reader needs to know, below the table.
        digits: How a number is written where people read it.
        blocks: Where rows are of several models: each one's name and how many rows it has, in the
            rows' order. In CSV and JSON a column says it.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[object]]
    numbers: Sequence[Sequence[object]] = ()
    number_columns: Sequence[str] = ()
    title: str = ""
    note: str = ""
    digits: str = ".4g"
    blocks: Sequence[tuple[str, int]] = ()

    @classmethod
    def of_frame(cls, frame: "pd.DataFrame", digits: str = ".4g") -> "Table":
        """Return a frame's table, without its index."""
        plain = frame.astype(object).where(frame.notna(), None)
        rows = list(plain.itertuples(index=False, name=None))
        return cls(list(map(str, frame.columns)), rows, digits=digits)

    @classmethod
    def of_records(cls, records: Sequence[Mapping[str, object]]) -> "Table":
        """Return the table of records that all have the same keys; there is one at least."""
        return cls(list(records[0]), [list(record.values()) for record in records])

    def written(self, form: str) -> str:
        """Return the table in one of `FORMS`."""
        return FORMS[form](self)

    def lines(self) -> Iterator[str]:
        """Yield the table's lines for a terminal, its columns first."""
        return aligned([self.columns, *self.texts()])

    def texts(self) -> list[list[str]]:
        """Return the rows as people read them."""
        return [[self._text(value) for value in row] for row in self.rows]

    def values(self) -> list[Sequence[object]]:
        """Return the columns, then the rows to compute with."""
        return [self.number_columns or self.columns, *(self.numbers or self.rows)]

    def parts(self) -> Iterator[tuple[str, list[list[str]]]]:
        """Yield the blocks' names and rows as people read them; one without a name if none."""
        texts, first = self.texts(), 0
        for name, count in self.blocks or [("", len(texts))]:
            yield name, texts[first : first + count]
            first += count

    def _text(self, value: object) -> str:
        if value is None or value != value:  # not a number is not itself
            return ""
        if isinstance(value, float):
            return format(value, self.digits)
        return value if isinstance(value, Code) else str(value)


def aligned(lines: Sequence[Sequence[str]], right: Sequence[int] = ()) -> Iterator[str]:
    """Yield lines of cells as text, every column as wide as its widest cell.

    `right` are the columns whose cells stand at their right edge.
    """
    lines = [[printable(" ".join(text.split("\n"))) for text in line] for line in lines]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        cells = (
            text.rjust(width) if at in right else text.ljust(width)
            for at, (text, width) in enumerate(zip(line, widths, strict=True))
        )
        yield "  ".join(cells).rstrip()


def plain(value: Any) -> Any:
    """Return a value as strict JSON has it, which knows finite numbers only."""
    if isinstance(value, dict):
        return {key: plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [plain(part) for part in value]
    return None if isinstance(value, float) and not isfinite(value) else value


def _csv(table: Table) -> str:
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows(
        ["" if value is None or value != value else _cell(value) for value in row]
        for row in table.values()
    )
    return file.getvalue()


def _cell(value: object) -> object:
    """Return a value for a spreadsheet: a text that would be computed there begins with a quote.

    Control characters, of which one begins a new row for some readers, are shown by their codes.
    """
    if not isinstance(value, str):
        return value
    text = printable(value)
    if not text.startswith(FORMULA):
        return text
    try:
        float(text)
    except ValueError:
        return f"'{text}"
    return text


def _json(table: Table) -> str:
    columns, *rows = table.values()
    records = [plain(dict(zip(columns, row, strict=True))) for row in rows]
    return json.dumps(records, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _markdown(table: Table) -> str:
    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(map(_marked_down, cells)) + " |"

    others = "---:" if table.title else "---"
    lines = [f"**{_marked_down(table.title)}**", ""] if table.title else []
    lines += [line(table.columns), line(["---", *[others] * (len(table.columns) - 1)])]
    for name, rows in table.parts():
        if name:
            lines.append(f"| **{_marked_down(name)}** |" + "  |" * (len(table.columns) - 1))
        lines += map(line, rows)
    return "\n".join([*lines, "", table.note] if table.note else lines) + "\n"


def _marked_down(text: str) -> str:
    """Return a text as a line of Markdown shows it."""
    line = printable(" ".join(text.split("\n")))
    return code_span(line).replace("|", r"\|") if isinstance(text, Code) else plain_text(line)


def plain_text(text: str) -> str:
    """Return a text with what means something to Markdown escaped."""
    return MARKUP.sub(lambda found: "\\" + found[0], text)


def code_span(text: str) -> str:
    """Return a text as code in Markdown, which no backtick in it ends."""
    fence = "`" * (max(map(len, re.findall("`+", text)), default=0) + 1)
    pad = " " if "`" in text else ""
    return f"{fence}{pad}{text}{pad}{fence}"


def _latex(table: Table) -> str:
    """Return the table as the package booktabs has it, a rule between its blocks."""

    def line(cells: Sequence[str]) -> str:
        row = " & ".join(map(escaped, cells))
        return ("{}" if row.startswith("[") else "") + row + r" \\"  # [ would be of the \\ before

    note = [rf"\\[2pt]{{\footnotesize {escaped(table.note)}}}"] if table.note else []
    rows = []
    for name, here in table.parts():
        rows.append(r"\midrule")
        if name:
            rows.append(
                rf"\multicolumn{{{len(table.columns)}}}{{l}}{{\emph{{{escaped(name)}}}}} \\"
            )
        rows += map(line, here)
    lines = [
        r"% \usepackage{booktabs}",
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{escaped(table.title)}}}",
        rf"\begin{{tabular}}{{l{'r' * (len(table.columns) - 1)}}}",
        r"\toprule",
        line(table.columns),
        *rows,
        r"\bottomrule",
        r"\end{tabular}",
        *note,
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def escaped(text: str) -> str:
    """Return a text as LaTeX prints it."""
    line = printable(" ".join(text.split("\n")))
    return "".join(LATEX.get(character, character) for character in line)


def _html(table: Table) -> str:
    """Return the table as an element of a page; its note is for whoever puts it there."""
    head = "".join(f'<th scope="col">{html.escape(text)}</th>' for text in table.columns)
    rows = []
    for block, texts in table.parts():
        if block:
            across = f'<th colspan="{len(table.columns)}">{html.escape(block)}</th>'
            rows.append(f"<tr>{across}</tr>")
        for first, *others in texts:
            cells = "".join(f'<td class="number">{html.escape(text)}</td>' for text in others)
            rows.append(f"<tr><td>{html.escape(first)}</td>{cells}</tr>")
    title = f"<caption>{html.escape(table.title)}</caption>" if table.title else ""
    body = f"<thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody>"
    return f"<table>{title}{body}</table>"


FORMS: Mapping[str, Callable[[Table], str]] = {
    "csv": _csv,
    "html": _html,
    "json": _json,
    "md": _markdown,
    "tex": _latex,
}
