"""Reading a file of questions and answers: its columns, and the prompts that they make.

A row has a `question` and an `answer`, a text or a list of texts that all count. Where it also has
`choices`, the answer is one of them, or its number from 0. `id` tells it from others (else its row
does), and `subject` is the text of the question that injection replaces. A template may show any
other column of text.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from impasto.error import UserError, near, shown
from impasto.tasks.data import Row, needed, numbered_rows, optional, texts_of
from impasto.tasks.questions import Question, as_text

COLUMNS = ("id", "question", "answer", "choices", "subject")
TEMPLATE = "Q: {question}\nA:"
BETWEEN = "\n\n"  # behind each solved example, as in lm-eval
PLACE = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True, slots=True)
class FileQuestion(Question):
    """A question of a file; `choices` are what it lets a model choose among, if it does."""

    choices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Form:
    """How rows become questions.

    Attributes:
        template: How a question is put, with the names of columns in braces.
        columns: What the file calls a column, by our name for it.
        shots: How many first rows are solved examples, which are not asked.
    """

    template: str = TEMPLATE
    columns: Mapping[str, str] | None = None
    shots: int = 0

    def check(self) -> None:
        """Raise UserError for what no file can make right."""
        if not isinstance(self.template, str) or not PLACE.search(self.template):
            raise UserError(
                "template says how a question is put, with columns in braces, such as "
                f"{shown(TEMPLATE)}; not {shown(self.template)}"
            )
        if type(self.shots) is not int or self.shots < 0:
            raise UserError(f"shots must be a whole number from 0 on, not {shown(self.shots)}")
        columns = {} if self.columns is None else self.columns
        if not isinstance(columns, Mapping) or not all(
            isinstance(name, str) and name for name in columns.values()
        ):
            raise UserError(
                "columns says what the file calls its columns, {answer: target}, not "
                f"{shown(columns)}"
            )
        for ours in columns:
            if ours not in COLUMNS:
                raise UserError(
                    f"columns has no {shown(ours)}{near(str(ours), COLUMNS)}; it has "
                    f"{', '.join(COLUMNS)}"
                )


def read_questions(file: Path, form: Form, stops: Sequence[str] = ()) -> list[FileQuestion]:
    """Return the questions of a file in its order, without those that are examples.

    `stops` are what ends a reply, so that no answer may hold one. Raises UserError, with file, row
    and column, for what cannot be read or answered.
    """
    rows = [_Row.read(number, row, file, form) for number, row in numbered_rows(file)]
    if not rows:
        raise UserError(f"{file} has no rows")
    if len(rows) <= form.shots:
        raise UserError(
            f"{file} has {len(rows)} rows; shots: {form.shots} takes that many as examples, and "
            "leaves none to ask"
        )
    examples: list[str] = []
    for row in rows[: form.shots]:
        examples += [row.asked, row.right[0]]
    asked = rows[form.shots :]
    first = {}
    for row in asked:
        if row.id in first:
            raise UserError(f"{row.where}: the id {row.id!r} again; {first[row.id]} has it already")
        first[row.id] = row.where
        row.check(stops)
    return [row.question((*examples, row.asked)) for row in asked]


@dataclass(frozen=True, slots=True)
class _Row:
    where: str
    id: str
    asked: str
    right: tuple[str, ...]
    choices: tuple[str, ...]
    subject: str | None

    @classmethod
    def read(cls, number: int, given: Any, file: Path, form: Form) -> "_Row":
        where = f"{file}, row {number}"
        if not isinstance(given, Mapping):
            raise UserError(f"{where} is not a mapping of columns to values: {shown(given)}")
        row: Row = {str(name): value for name, value in given.items()}
        for ours, theirs in (form.columns or {}).items():
            if theirs not in row:
                there = ", ".join(row) or "none"
                raise UserError(f"{where}: there is no column {theirs!r}; its columns are {there}")
            row[ours] = row[theirs]
        choices = _choices(row, where)
        return cls(
            where,
            optional(row, "id", where) or str(number),
            PLACE.sub(lambda place: needed(row, place[1], where), form.template),
            _chosen(row, choices, where) if choices else texts_of(row, "answer", where),
            choices,
            optional(row, "subject", where),
        )

    def check(self, stops: Sequence[str]) -> None:
        """Raise UserError for an answer that no reply can give: one that holds a stop."""
        for answer in self.right:
            for stop in stops:
                if stop in answer:
                    raise UserError(
                        f"{self.where}, column 'answer': {shown(answer)} holds {shown(stop)}, at "
                        "which a reply ends, so that none could be right; give another stop, or "
                        "shorter answers"
                    )

    def question(self, turns: tuple[str, ...]) -> FileQuestion:
        """Return the question behind some examples; raises UserError for its subject."""
        prompt = as_text(turns, BETWEEN)
        answer, *aliases = self.right
        try:
            return FileQuestion(
                self.id, prompt, answer, self.subject, tuple(aliases), turns, choices=self.choices
            )
        except UserError as error:
            raise UserError(f"{self.where}, column 'subject': {error}") from None


def _choices(row: Row, where: str) -> tuple[str, ...]:
    """Return a row's choices, two at least; none where it has none."""
    value = row.get("choices")
    if value is None or value == "":
        return ()
    choices = texts_of(row, "choices", where)
    if len(choices) < 2 or (isinstance(value, list) and len(value) != len(choices)):
        raise UserError(
            f"{where}, column 'choices': must be a list of two different texts or more, such as "
            f'["Cairo", "Lima"], not {shown(value)}'
        )
    return choices


def _chosen(row: Row, choices: Sequence[str], where: str) -> tuple[str, ...]:
    """Return the right choices: each given as one of them, or by its number from 0."""
    value = row.get("answer")
    given: list[Any] = value if isinstance(value, list) else [value]
    numbers = [number for number in given if type(number) is int]
    if numbers and len(numbers) == len(given):
        if any(not 0 <= number < len(choices) for number in numbers):
            raise UserError(
                f"{where}, column 'answer': {shown(value)} is no choice's number; they are 0 to "
                f"{len(choices) - 1}"
            )
        return tuple(dict.fromkeys(choices[number] for number in numbers))
    right = texts_of(row, "answer", where)
    for answer in right:
        if answer not in choices:
            raise UserError(
                f"{where}, column 'answer': {shown(answer)} is none of the choices "
                f"{shown(list(choices))}; give one of them, or its number from 0"
            )
    return right
