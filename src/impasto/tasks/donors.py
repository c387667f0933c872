"""Donors of the user's own: a file that says whose states are injected into which question.

A row is a donor: its `prompt`, the `donor_span` in it that gives its states, the `target_span` of
the question that receives them (its subject unless given), and the `answer` that the donor would
bring out. `id` is the question that it is for; a row without one is for all that have none of their
own.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from impasto.error import UserError, shown
from impasto.paths import path_of
from impasto.tasks.data import Row, needed, numbered_rows, optional, texts_of


@dataclass(frozen=True, slots=True)
class GivenDonor:
    """Another prompt's states, and what they should bring out.

    Attributes:
        prompt: The donor's prompt.
        donor_span: The text in it whose states are injected; it occurs once.
        target_span: The text of the question that receives them; None: the question's subject.
        answers: The answers that the donor would bring out.
    """

    prompt: str
    donor_span: str
    target_span: str | None
    answers: tuple[str, ...]


def read_donors(file: Any) -> dict[str | None, GivenDonor]:
    """Return the donors of a JSONL, JSON, CSV or Parquet file, by the id of their question.

    Raises UserError, naming file, row and column, for what cannot be read or is not right.
    """
    path = path_of(file, "a file of donors")
    donors: dict[str | None, GivenDonor] = {}
    for number, row in numbered_rows(path):
        where = f"{path}, row {number}"
        name, donor = _donor(row, where)
        if name in donors:
            whose = f"of the question {name!r}" if name is not None else "without an id"
            raise UserError(f"{where}: a second donor {whose}; each question has one")
        donors[name] = donor
    if not donors:
        raise UserError(f"{path} has no rows")
    return donors


def _donor(row: Any, where: str) -> tuple[str | None, GivenDonor]:
    if not isinstance(row, Mapping):
        raise UserError(f"{where} is not a mapping of columns to values: {shown(row)}")
    read: Row = {str(key): value for key, value in row.items()}
    prompt, span = (needed(read, column, where) for column in ("prompt", "donor_span"))
    if prompt.count(span) != 1:
        raise UserError(
            f"{where}, column 'donor_span': {shown(span)} must occur exactly once in the prompt, "
            f"and occurs {prompt.count(span)} times"
        )
    right = texts_of(read, "answer", where)
    name = optional(read, "id", where)
    return name, GivenDonor(prompt, span, optional(read, "target_span", where), right)


def donor_for(item: Any, donors: Mapping[str | None, GivenDonor], where: str) -> GivenDonor:
    """Return an item's donor; raises UserError where it has none, or nothing to replace."""
    donor = donors.get(item.id) or donors.get(None)
    if donor is None:
        raise UserError(
            f"{where} has a question {item.id!r} without a donor; give it a row, or give one row "
            "without an id, which is for all questions that have no row"
        )
    target = donor.target_span or item.subject
    if target is None:
        raise UserError(
            f"{where} has a question {item.id!r} without a subject: the donor's row says by "
            "target_span which of the question's text is replaced"
        )
    if item.prompt.count(target) != 1:
        raise UserError(
            f"{where} has a question {item.id!r} in which the target_span {shown(target)} occurs "
            f"{item.prompt.count(target)} times; it must occur exactly once"
        )
    return donor
