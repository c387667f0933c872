"""Texts whose tokens are masked one by one: how well does an encoder fill them in?

Pseudo-perplexity and fill-mask accuracy (Salazar et al. 2020, arXiv 1910.14659).
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from math import nan
from typing import Any

from impasto.error import UserError, shown
from impasto.tasks.request import MaskedText, Request, Response
from impasto.tasks.task import Estimate, Suite, Value, perplexity, ratio
from impasto.tasks.text_files import read_texts

NAME = "masked_text"
ACCURACY, PERPLEXITY = "acc", "pseudo_perplexity"


@dataclass(frozen=True, slots=True)
class TextItem:
    """One text."""

    id: str
    text: str


@dataclass(frozen=True)
class MaskedTexts:
    """Texts to fill in, token by token."""

    items: Sequence[TextItem]
    name: str = NAME
    title: str = "Masked tokens"
    part_of: str = ""

    @property
    def digest(self) -> str:
        """Return a sha256 over everything that can change a result."""
        told = [NAME, [item.text for item in self.items]]
        return hashlib.sha256(json.dumps(told).encode()).hexdigest()

    def requests(self, tokenizer: object = None) -> Sequence[Sequence[Request]]:
        """Return what each item asks of a model."""
        return [[MaskedText(item.text)] for item in self.items]

    def judge(self, item: TextItem, responses: Sequence[Response]) -> Mapping[str, Value]:
        """Return how many tokens were the likeliest, and the log p of all, with their number."""
        [said] = responses
        log_p, likeliest, tokens = said  # type: ignore[misc]
        return {ACCURACY: (likeliest, tokens), PERPLEXITY: (log_p, tokens)}

    def aggregate(self, metric: str, values: Sequence[Value]) -> Estimate:
        """Return the share of tokens that were the likeliest, or exp(−log p per token)."""
        return perplexity(values) if metric == PERPLEXITY else ratio(values)

    def chance(self, metric: str) -> float:
        """Return that guessing has no meaning."""
        return nan


def masked_text(data: str, column: str = "text", limit: int | None = None) -> Suite:
    """Return the texts of a file as a task.

    Args:
        data: A plain text file, or one in JSONL, JSON, CSV or Parquet.
        column: The column with the texts of a file that has columns.
        limit: Read the first so many.
    """
    check_masked_text(data, column, limit)
    found = islice(read_texts(data, column), limit)
    lines = tuple(TextItem(str(number), text) for number, text in enumerate(found, 1))
    return Suite((MaskedTexts(lines),))


def check_masked_text(data: Any = None, column: Any = "text", limit: Any = None) -> str:
    """Return the task's name; raises UserError for what no data can make right."""
    if not isinstance(data, str):
        raise UserError(f"masked_text reads a file, data: FILE.jsonl, not {shown(data)}")
    if not isinstance(column, str):
        raise UserError(f"column is the name of a column, not {shown(column)}")
    if limit is not None and (type(limit) is not int or limit < 1):
        raise UserError(f"limit is a whole number from 1, not {shown(limit)}")
    return NAME
