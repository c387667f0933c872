"""Texts: how well does a plan predict their tokens, and how near does it stay to the full model?

Perplexity, the divergence of a plan's predictions from the full model's, and how often both have
the same token first. These see what a plan does to a model long before its answers change, and
need no labels.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from math import nan
from pathlib import Path
from typing import Any, ClassVar

from impasto.error import UserError, shown
from impasto.tasks.data import HubSplit, labelled
from impasto.tasks.request import Fidelity, Request, Response
from impasto.tasks.task import Estimate, Value, perplexity, ratio
from impasto.tasks.text_files import COLUMN, hub_texts, read_texts

NAME = "texts"
PERPLEXITY, KL, AGREEMENT = "perplexity", "kl", "agreement"
TOKENS, SPLIT = 32768, "test"


@dataclass(frozen=True, slots=True)
class ReadText:
    """One text, as token ids: its first ones where the last text is cut."""

    id: str
    ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class TextSource:
    """Where texts come from: a file, or a split on the hub; `column` is for what has columns."""

    place: Path | HubSplit
    column: str = COLUMN

    def texts(self) -> Iterator[str]:
        """Yield the texts; raises UserError for what cannot be read."""
        if isinstance(self.place, HubSplit):
            return hub_texts(self.place, self.column)
        return read_texts(self.place, self.column)


@dataclass(frozen=True)
class Texts:
    """Texts to predict token by token; its items are known once a tokenizer has read them.

    Attributes:
        name: The task's name.
        title: What figures call it.
        source: Where the texts come from.
        tokens: How many tokens are read of all texts together.
        length: Into pieces of how many tokens they are cut; None: 512, or the model's positions
            where these are fewer.
        limit: How many texts are read at the most; None for as many as the tokens take.
        read: The texts that were read; None where none were yet.
        vocabulary: How many tokens there are, once that is known.
    """

    reads_whole_texts: ClassVar[bool] = True

    name: str
    title: str
    source: TextSource
    tokens: int = TOKENS
    length: int | None = None
    limit: int | None = None
    read: tuple[ReadText, ...] | None = None
    vocabulary: int = 0
    part_of: str = ""

    @property
    def items(self) -> Sequence[ReadText]:
        """Return the texts; none before they are read."""
        return self.read or ()

    @property
    def digest(self) -> str:
        """Return a sha256 over what can change a result beside what is asked: the token ids."""
        return hashlib.sha256(json.dumps([NAME, self.name, self.length]).encode()).hexdigest()

    def read_by(self, tokens: Callable[[str], Sequence[int]], vocabulary: int) -> "Texts":
        """Return the task with as many texts as its tokens take, the last one cut to fit.

        Raises UserError for a text that cannot be read, and where none has two tokens.
        """
        read, left = [], self.tokens
        for number, text in enumerate(islice(self.source.texts(), self.limit), 1):
            ids = tuple(tokens(text))[:left]
            read.append(ReadText(str(number), ids))
            left -= len(ids)
            if not left:
                break
        if not any(len(text.ids) > 1 for text in read):
            raise UserError(
                f"{self.name}: no text of {self.source.place} has two tokens, so there is none to "
                "predict; give longer texts"
            )
        return replace(self, read=tuple(read), vocabulary=vocabulary)

    def requests(self, tokenizer: object = None) -> Sequence[Sequence[Request]]:
        """Return what each text asks of a model."""
        assert self.read is not None, "texts are asked once a model's tokenizer has read them"
        return [[Fidelity(text.ids, self.length)] for text in self.read]

    def judge(self, item: ReadText, responses: Sequence[Response]) -> Mapping[str, Value]:
        """Return log p, KL and agreements of all tokens, each with how many these are."""
        [(tokens, log_p, kl, agreeing)] = responses  # type: ignore[misc]
        return {PERPLEXITY: (log_p, tokens), KL: (kl, tokens), AGREEMENT: (agreeing, tokens)}

    def aggregate(self, metric: str, values: Sequence[Value]) -> Estimate:
        """Return exp(−log p per token), or the mean per token of the others."""
        return perplexity(values) if metric == PERPLEXITY else ratio(values)

    def chance(self, metric: str) -> float:
        """Return the perplexity of a guess in which all tokens are as likely; nan of the others."""
        return float(self.vocabulary or nan) if metric == PERPLEXITY else nan


def texts(
    file: str | None = None,
    dataset: str | None = None,
    config: str | None = None,
    split: str | None = None,
    column: str = COLUMN,
    label: str | None = None,
    tokens: int = TOKENS,
    length: int | None = None,
    limit: int | None = None,
) -> Texts:
    """Return the texts of a file, or of a data set on the hub, as a task.

    Args:
        file: A plain text file, or one in JSONL, JSON, CSV or Parquet.
        dataset: The name of a data set on the hub, in the place of a file.
        config: Its configuration, where it has several.
        split: Its split; `test` where nothing is said.
        column: The column with the texts of what has columns.
        label: What results call the texts, behind `texts-`; the file's or data set's name.
        tokens: How many tokens are read of all texts together.
        length: Into pieces of how many tokens they are cut; 512 where nothing is said, or the
            model's positions where these are fewer.
        limit: Read at most the first so many texts.
    """
    name = check_texts(file, dataset, config, split, column, label, tokens, length, limit)
    place = Path(str(file)) if dataset is None else HubSplit(dataset, split or SPLIT, config)
    source = TextSource(place, column)
    next(source.texts())  # what cannot be read is said before a model is loaded
    title = f"Texts ({label or _stem(file, dataset)})"
    return Texts(name, title, source, tokens, length, limit)


def check_texts(
    file: Any = None,
    dataset: Any = None,
    config: Any = None,
    split: Any = None,
    column: Any = COLUMN,
    label: Any = None,
    tokens: Any = TOKENS,
    length: Any = None,
    limit: Any = None,
) -> str:
    """Return the task's name; raises UserError for what no data can make right."""
    if (file is None) == (dataset is None):
        both = "both" if file is not None else "neither"
        raise UserError(
            f"texts reads a file (file: FILE.txt) or a data set of the hub (dataset: NAME), not "
            f"{both}"
        )
    named = {"file": file, "dataset": dataset, "config": config, "split": split, "label": label}
    for option, value in {**named, "column": column}.items():
        if value is not None and not (isinstance(value, str) and value.strip()):
            raise UserError(f"{option} of texts is a text, not {shown(value)}")
    for option, value in {"config": config, "split": split}.items():
        if value is not None and dataset is None:
            raise UserError(f"{option} is of a data set on the hub, and texts reads {file}")
    for option, value, least in (("tokens", tokens, 2), ("length", length, 2), ("limit", limit, 1)):
        is_number = type(value) is int and value >= least
        if not is_number and (option == "tokens" or value is not None):
            raise UserError(f"{option} is a whole number from {least}, not {shown(value)}")
    return labelled(NAME, label or _stem(file, dataset))


def _stem(file: str | None, dataset: str | None) -> str:
    """Return what a file is called without its ending, or a data set without its owner."""
    return Path(file).stem if file is not None else str(dataset).rsplit("/", 1)[-1]
