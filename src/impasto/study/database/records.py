"""Single items in the database: what was said to each and what it is worth, as JSON and back.

JSON as Python has it, which knows not-a-number and infinity and gives every float back to the bit.
What is read is checked, for a database may come from anywhere.
"""

import json
import re
from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any

from impasto.error import UserError, shown
from impasto.study.work.scoring import Judged

Encoded = tuple[str, str]  # responses, metrics

MOST_NESTING = 10  # lists and mappings within each other
MOST_BITS = 64  # of whole numbers
_SUSPECT = re.compile(r"\\u[dD]|\d{19}")  # of JSON that may have either
_LONE = re.compile("[\ud800-\udfff]")  # surrogates, which no encoding writes


def encoded(record: Judged) -> Encoded:
    """Return a record's responses and metrics as they are stored."""
    responses = [plain(response) for response in record.responses]
    metrics = {metric: plain(value) for metric, value in record.metrics.items()}
    return json.dumps(responses, ensure_ascii=False), json.dumps(metrics, ensure_ascii=False)


def parsed(text: object) -> Any:
    """Return what a database's JSON says; raises UserError for what none of ours does.

    That is no JSON, nests too deep, or has numbers or characters that nothing can be done with.
    """
    if not isinstance(text, str):
        raise UserError(f"{shown(text)} is no text, and so no JSON")
    try:
        read = json.loads(text)
        text.encode()
    except (ValueError, RecursionError) as error:
        reason = "nested too deep" if isinstance(error, RecursionError) else str(error)
        raise UserError(f"{shown(text)} is no JSON: {reason}") from None
    reason = _unfit(read) if _SUSPECT.search(text) or _nests(text) else ""
    if reason:
        raise UserError(f"{shown(text)} {reason}")
    return read


class Alike:
    """Reads answers, and sees to it that those of a task are alike, as those of one task are."""

    def __init__(self) -> None:
        self._kinds: dict[tuple[str, str], str] = {}

    def responses(self, task: str, text: object) -> list[Any]:
        """Return what was said to an item; raises UserError where no model says that."""
        said = parsed(text)
        if not isinstance(said, list):
            raise UserError(f"an answer to {shown(task)} is no list of responses: {shown(text)}")
        kinds = {_kind(each) for each in said} - {"nothing"}
        if len(kinds) > 1:
            raise UserError(f"the responses to an item of {shown(task)} are unlike: {shown(text)}")
        for kind in kinds:
            self._see(task, "", kind, text)
        return said

    def metrics(self, task: str, text: object) -> dict[str, Any]:
        """Return an item's metrics; raises UserError where they are none of this task."""
        values = parsed(text)
        if not isinstance(values, dict):
            raise UserError(f"the metrics of {shown(task)} are no values by name: {shown(text)}")
        for metric, value in values.items():
            self._see(task, metric, _kind(value), text)
        return values

    def answer(self, task: str, responses: object, metrics: object) -> tuple[list[Any], Any]:
        """Return what was said to an item, and its metrics."""
        return self.responses(task, responses), self.metrics(task, metrics)

    def _see(self, task: str, what: str, kind: str, text: object) -> None:
        known = self._kinds.setdefault((task, what), kind)
        if kind != known and "nothing" not in (kind, known):
            raise UserError(
                f"{shown(what) if what else 'a response'} of {shown(task)} is {kind} in one answer "
                f"and {known} in others: {shown(text)}"
            )


def tuples_of(responses: list[Any]) -> tuple[Any, ...]:
    """Return responses with scores as the pairs that they were."""
    return _tuples(responses)


def metrics_of(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return metrics with sequences as tuples."""
    return {metric: _tuples(value) for metric, value in values.items()}


def _kind(value: Any) -> str:
    """Return in words what kind a value is of, as far as answers of one task share it."""
    if value is None:
        return "nothing"
    if isinstance(value, bool | int | float):
        return "a number"
    if isinstance(value, str):
        return "a text"
    if isinstance(value, dict):
        return "a mapping"
    numbers = all(isinstance(each, bool | int | float) for each in value)
    return f"{len(value)} numbers" if numbers and len(value) == 2 else "a list"


def _nests(text: str) -> bool:
    """Say whether JSON may nest too deep."""
    return text.count("[") + text.count("{") > MOST_NESTING


def _unfit(value: Any, nesting: int = 0) -> str:
    """Say what makes a value one that no database of ours holds; nothing where it may be one."""
    if nesting > MOST_NESTING:
        return f"nests more than {MOST_NESTING} deep"
    if isinstance(value, list | dict):
        parts = value if isinstance(value, list) else [*value, *value.values()]
        return next(filter(None, (_unfit(part, nesting + 1) for part in parts)), "")
    if isinstance(value, str):
        return "" if not _LONE.search(value) else "has half a character"
    is_large = isinstance(value, int) and value.bit_length() > MOST_BITS
    return f"has a whole number of more than {MOST_BITS} bits" if is_large else ""


def is_finite(record: Judged) -> bool:
    """Say whether every number that was said, or made of it, is one."""
    return _finite(record.responses) and all(map(_finite, record.metrics.values()))


def is_exact(record: Judged) -> bool:
    """Say whether the stored metrics are the record's own; if not, they are judged anew."""
    return all(map(_keeps, record.metrics.values()))


def plain(value: Any) -> Any:
    """Return a value as JSON has it: numbers as Python's own, sequences as lists, else as text."""
    if isinstance(value, str):
        return _LONE.sub("\N{REPLACEMENT CHARACTER}", value)
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if hasattr(value, "tolist"):  # of numpy
        return value.tolist()
    if isinstance(value, Sequence):
        return [plain(item) for item in value]
    return str(value)


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def _finite(value: Any) -> bool:
    if isinstance(value, str | bytes):
        return True
    if isinstance(value, float):
        return isfinite(value)
    return all(map(_finite, value)) if isinstance(value, Sequence) else True


def _keeps(value: Any) -> bool:
    if isinstance(value, tuple):
        return all(map(_keeps, value))
    return value is None or isinstance(value, str | bool | int | float)
