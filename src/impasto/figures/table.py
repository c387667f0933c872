"""Tables as the papers print them: Markdown to read, LaTeX to print, CSV to compute with."""

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from impasto.analysis.scores import MINUS

LATEX = {
    "\\": r"\textbackslash{}",
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
}


@dataclass(frozen=True, slots=True)
class Table:
    """A table: what it shows, its columns, and rows of text; CSV has the `numbers` in full.

    Attributes:
        numbers: For each row what its cells are in CSV, text or number.
        note: What a reader needs to know, below the table.
        number_columns: The columns of `numbers`, where they are others.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    numbers: Sequence[Sequence[object]]
    note: str = ""
    number_columns: Sequence[str] = ()

    def written(self, form: str) -> str:
        """Return the table in one of `FORMS`."""
        return FORMS[form](self)


def _markdown(table: Table) -> str:
    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"

    rule = ["---", *["---:"] * (len(table.columns) - 1)]
    lines = [f"**{table.title}**", "", line(table.columns), line(rule)]
    lines += map(line, table.rows)
    return "\n".join([*lines, "", table.note] if table.note else lines) + "\n"


def _latex(table: Table) -> str:
    def line(cells: Sequence[str]) -> str:
        return " & ".join(map(escaped, cells)) + r" \\"

    note = [rf"\\[2pt]{{\footnotesize {escaped(table.note)}}}"] if table.note else []
    return (
        "\n".join(
            [
                r"\begin{table}",
                r"\centering",
                rf"\caption{{{escaped(table.title)}}}",
                rf"\begin{{tabular}}{{l{'r' * (len(table.columns) - 1)}}}",
                r"\hline",
                line(table.columns),
                r"\hline",
                *map(line, table.rows),
                r"\hline",
                r"\end{tabular}",
                *note,
                r"\end{table}",
            ]
        )
        + "\n"
    )


def escaped(text: str) -> str:
    """Return a text as LaTeX prints it."""
    return "".join(LATEX.get(character, character) for character in text)


def _csv(table: Table) -> str:
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(table.number_columns or table.columns)
    writer.writerows(
        ["" if value is None or value != value else value for value in row] for row in table.numbers
    )
    return file.getvalue()


FORMS: Mapping[str, Callable[[Table], str]] = {"md": _markdown, "tex": _latex, "csv": _csv}
