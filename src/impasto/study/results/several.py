"""The results of a study's models as one: a table, the answers, and what plans cost."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from impasto.study.file.study import WrittenStudy
from impasto.study.results.table import Results, Seconds


def of_all(study: WrittenStudy, parts: Sequence[Results]) -> Results:
    """Return the results of all models of a study as one; of one model, as they are."""
    if len(parts) == 1:
        return parts[0]
    costs = [part.costs.assign(model=name) for name, part in _named(parts)]
    return Results(
        study,
        pd.concat([part.table for part in parts], ignore_index=True),
        AnswersOfModels(_named(parts)),
        parts[-1].run,
        _seconds([part.seconds for part in parts if part.seconds is not None]),
        costs=pd.concat(costs, ignore_index=True),
        parts=tuple(parts),
    )


def _named(parts: Sequence[Results]) -> list[tuple[str, Results]]:
    return [(part.study.model, part) for part in parts]


def _seconds(each: Sequence[Seconds]) -> Seconds | None:
    """Return how long all models were expected to take, and took, together."""
    if not each:
        return None
    known = [seconds.expected for seconds in each if seconds.expected is not None]
    expected = sum(known) if len(known) == len(each) else None
    return Seconds(expected, sum(seconds.taken for seconds in each))


class AnswersOfModels(Sequence[Mapping[str, Any]]):
    """The records of several models, one model after the other; each says whose it is."""

    def __init__(self, models: Sequence[tuple[str, Results]]) -> None:
        self._models = models

    def __len__(self) -> int:
        return sum(len(part.answers) for _, part in self._models)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for name, part in self._models:
            yield from ({"model": name, **record} for record in part.answers)

    def __getitem__(self, at: Any) -> Any:
        if isinstance(at, slice):
            return [self[i] for i in range(*at.indices(len(self)))]
        wanted = at if at >= 0 else len(self) + at
        for name, part in self._models:
            if 0 <= wanted < len(part.answers):
                return {"model": name, **part.answers[wanted]}
            wanted -= len(part.answers)
        raise IndexError(f"there is no answer {at}: there are {len(self)}")

    def __repr__(self) -> str:
        return f"<{len(self):,} answers of {len(self._models)} models>"
