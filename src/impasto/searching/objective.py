"""What a search makes small: divergence or perplexity on texts, or the loss on tasks.

Each objective is Σ values / Σ weights over items; smaller is better. Half of the items choose, the
other half tell what the choice is worth: no figure that is told comes from the items that chose.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil, isfinite
from random import Random
from typing import Any, Protocol

import numpy as np

from impasto.error import UserError
from impasto.plan import Plan
from impasto.tasks import Fitted, Request, Response, Task
from impasto.tasks.metrics import main_metric, metric_of
from impasto.tasks.task import Estimate, ReadsTexts, Value
from impasto.tasks.texts import KL, ReadText, Texts

HOPELESS = 1e6  # what an item counts whose value is no number, per unit of its weight
MANY = 32  # texts that are items as they are; of fewer, their pieces are
PIECE = 512  # tokens of a piece where nobody says
FEWEST = 4  # items that a search takes: two to choose by, two to judge by

Metrics = Mapping[str, Any]


class Puts(Protocol):
    """Who puts a task's first items to plans."""

    def put(self, task: Task, plans: Sequence[Plan], count: int) -> list[list[Metrics]]:
        """Return, by plan, the metrics of a task's first so many items."""
        ...


class Drawn(Sequence[Any]):
    """A sequence in another order."""

    def __init__(self, some: Sequence[Any], order: Sequence[int]) -> None:
        self._some, self._order = some, order

    def __len__(self) -> int:
        return len(self._order)

    def __getitem__(self, at: Any) -> Any:
        if isinstance(at, slice):
            return [self._some[each] for each in self._order[at]]
        return self._some[self._order[at]]


@dataclass(frozen=True)
class InOrder:
    """A task with its items in an order drawn by chance, which has the same questions."""

    task: Task
    order: tuple[int, ...]

    @property
    def name(self) -> str:
        """What records call it."""
        return self.task.name

    @property
    def title(self) -> str:
        """What figures call it."""
        return self.task.title

    @property
    def part_of(self) -> str:
        """The group that it is a part of."""
        return self.task.part_of

    @property
    def digest(self) -> str:
        """A sha256 over what can change a result beside what is asked."""
        return self.task.digest

    @property
    def items(self) -> Sequence[Any]:
        """The items, in their new order."""
        return Drawn(self.task.items, self.order)

    def requests(self, tokenizer: Any = None) -> Sequence[Sequence[Request]]:
        """Return what each item asks of a model."""
        return Drawn(self.task.requests(tokenizer), self.order)

    def judge(self, item: Any, responses: Sequence[Response]) -> Mapping[str, Value]:
        """Return an item's value of each metric."""
        return self.task.judge(item, responses)

    def aggregate(self, metric: str, values: Sequence[Value]) -> Estimate:
        """Return what a metric comes to."""
        return self.task.aggregate(metric, values)

    def chance(self, metric: str) -> float:
        """Return what guessing scores."""
        return self.task.chance(metric)


@dataclass(frozen=True)
class Part:
    """One task of an objective, and how its items' metrics become values.

    Attributes:
        task: The task; its items are in an order drawn by chance.
        metric: The metric that counts.
        share: Its weight among the objective's tasks.
    """

    task: Task
    metric: str
    share: float = 1.0

    @property
    def choosing(self) -> int:
        """How many of its items choose: the first half of them."""
        return ceil(len(self.task.items) / 2)

    def value(self, metrics: Metrics) -> tuple[float, float]:
        """Return an item's value and weight: for tokens a sum and their number."""
        found = metrics[self.metric]
        total, weight = found if isinstance(found, list | tuple) else (found, 1)
        value = float(total)
        if _is_log_p(self.metric):
            value = -value
        elif not metric_of(self.metric).lower_is_better:
            value = weight - value  # of a share what is lost of it
        return (value if isfinite(value) else HOPELESS * weight), float(weight)


@dataclass(frozen=True)
class Objective:
    """The parts of an objective; what it is called and counted in."""

    parts: tuple[Part, ...]
    title: str
    unit: str

    @property
    def items(self) -> int:
        """How many items choose, of all parts."""
        return sum(part.choosing for part in self.parts)

    @property
    def held_out(self) -> int:
        """How many items judge, of all parts."""
        return sum(len(part.task.items) for part in self.parts) - self.items

    def values(
        self, puts: Puts, plans: Sequence[Plan], share: float = 1.0, held_out: bool = False
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return values, (plans, items), and weights, (items,), of the first share of each part.

        `held_out` returns those of the other half of the items. All tasks have the same weight,
        however many items they have.
        """
        values, weights = [], []
        for part in self.parts:
            begin, end = 0, max(1, round(share * part.choosing))
            if held_out:
                begin, end = part.choosing, len(part.task.items)
            found = puts.put(part.task, plans, end)
            pairs = np.array([[part.value(each) for each in row[begin:]] for row in found])
            scale = 1.0
            if len(self.parts) > 1:
                scale = part.share / pairs[0, :, 1].sum()
            values.append(pairs[:, :, 0] * scale)
            weights.append(pairs[0, :, 1] * scale)
        return np.concatenate(values, axis=1), np.concatenate(weights)

    def check(self, puts: Puts, full: Plan, shares: Sequence[float] = (1.0,)) -> None:
        """Raise UserError where the full model's own objective is no number.

        Results are kept by the pieces in which items are first asked, and a piece is only asked
        whole. So the full model, which is asked first, is asked a share after the other: who is
        asked a share of the items later is asked no more than that.
        """
        for share in shares[:-1]:
            self.values(puts, [full], share)
        values, weights = self.values(puts, [full], shares[-1])
        if (values >= HOPELESS * np.maximum(weights, 1e-9)).any():
            raise UserError(
                f"the {self.title} of the full model is not a number, so no plan can be compared "
                "with it; load the model in a wider dtype (load: {dtype: float32}), or give other "
                "texts"
            )


def of_texts(task: Texts, metric: str, seed: int, model: ReadsTexts) -> Objective:
    """Return the objective of texts that a model has read, in an order drawn from the seed.

    Where there are few texts, their pieces are items of their own. Raises UserError where they are
    too few to choose by some and judge by others.
    """
    read = [text for text in task.items if len(text.ids) > 1]
    if len(read) < MANY:
        read = [piece for text in read for piece in _pieces(text, task, model)]
    if len(read) < FEWEST:
        count = sum(len(text.ids) for text in task.items)
        raise UserError(
            f"{task.title} comes to {len(read)} pieces of two tokens or more ({count} tokens), and "
            f"a search takes {FEWEST} at least: half of them choose, the others judge; give more "
            "texts, or a smaller length"
        )
    Random(seed).shuffle(read)
    title = f"KL divergence on {task.title}" if metric == KL else f"log perplexity on {task.title}"
    return Objective((Part(replace(task, read=tuple(read)), metric),), title, "nats per token")


def _pieces(text: ReadText, task: Texts, model: ReadsTexts) -> Iterator[ReadText]:
    """Yield a text's pieces, as they would be read anyway: each begins with what the text does."""
    before = _special(text, model)
    longest = getattr(model, "max_positions", None) or PIECE
    step = min(task.length or PIECE, longest) - before
    for number, at in enumerate(range(before, len(text.ids), max(step, 1)), 1):
        ids = text.ids[:before] + text.ids[at : at + step]
        if len(ids) > max(before, 1):
            yield ReadText(f"{text.id}, piece {number}", ids)


def _special(text: ReadText, model: ReadsTexts) -> int:
    """Return how many special tokens a text begins with, which the tokenizer puts before any."""
    with_special, plain = model.tokens("a"), model.tokenizer("a", add_special_tokens=False)
    at = len(with_special) - len(plain["input_ids"])
    start = tuple(with_special[:at]) if with_special[at:] == plain["input_ids"] else ()
    return len(start) if text.ids[: len(start)] == start else 0


def of_tasks(tasks: Sequence[Task], puts: Puts, full: Plan, seed: int) -> Objective:
    """Return the average loss over tasks, their items in an order drawn from the seed.

    Which metric counts is what the full model's answers are judged by. Raises UserError for a task
    that a search cannot make better.
    """
    parts = []
    for task in tasks:
        if isinstance(task, Fitted):
            raise UserError(
                f"{task.name} fits a head to every plan, all its questions at once; a search asks "
                "many plans a few questions: name other tasks"
            )
        if len(task.items) < FEWEST:
            raise UserError(
                f"{task.name} has {len(task.items)} questions, and a search takes {FEWEST} at "
                "least: half of them choose, the others judge"
            )
        order = list(range(len(task.items)))
        Random(seed).shuffle(order)
        drawn = InOrder(task, tuple(order))
        [[answered]] = puts.put(drawn, [full], 1)
        metric = main_metric(name for name, value in answered.items() if _is_mean(name, value))
        if metric is None:
            raise UserError(
                f"{task.name} has no metric that is a mean over its questions, which a search "
                "could make better; name other tasks"
            )
        parts.append(Part(drawn, metric, 1 / len(tasks)))
    titles = ", ".join(task.title for task in tasks)
    return Objective(tuple(parts), f"average loss on {titles}", _unit(parts))


def _is_log_p(metric: str) -> bool:
    """Say whether an item's value is a sum of log p with how many tokens, words or bytes it has."""
    return metric.split(",")[0].endswith(("perplexity", "bits_per_byte"))


def _is_mean(metric: str, value: Any) -> bool:
    """Say whether a metric is a mean over items, or over what is in them."""
    return isinstance(value, int | float) or _is_log_p(metric) or metric == KL


def _unit(parts: Sequence[Part]) -> str:
    if all(metric_of(part.metric).is_bounded for part in parts):
        return "share of what could be scored"
    return "nats per token" if all(_is_log_p(part.metric) for part in parts) else "loss"
