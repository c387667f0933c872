"""Single items in the database: what was said to each and what it is worth, as JSON and back.

JSON as Python has it, which knows not-a-number and infinity and gives every float back to the bit.
"""

import json
from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any

from impasto.study.work.scoring import Judged

Encoded = tuple[str, str]  # responses, metrics


def encoded(record: Judged) -> Encoded:
    """Return a record's responses and metrics as they are stored."""
    responses = [plain(response) for response in record.responses]
    metrics = {metric: plain(value) for metric, value in record.metrics.items()}
    return json.dumps(responses, ensure_ascii=False), json.dumps(metrics, ensure_ascii=False)


def responses_of(text: str) -> tuple[Any, ...]:
    """Return the responses, scores as the pairs that they were."""
    return _tuples(json.loads(text))


def metrics_of(text: str) -> dict[str, Any]:
    """Return the metrics, sequences as tuples."""
    return {metric: _tuples(value) for metric, value in json.loads(text).items()}


def is_finite(record: Judged) -> bool:
    """Say whether every number that was said, or made of it, is one."""
    return _finite(record.responses) and all(map(_finite, record.metrics.values()))


def is_exact(record: Judged) -> bool:
    """Say whether the stored metrics are the record's own; if not, they are judged anew."""
    return all(map(_keeps, record.metrics.values()))


def plain(value: Any) -> Any:
    """Return a value as JSON has it: numbers as Python's own, sequences as lists, else as text."""
    if value is None or isinstance(value, str | bool | int | float):
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
