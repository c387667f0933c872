"""What a task is: items, what each asks of a model, and what the answers are worth.

A task never runs a model. Whoever runs it (`tasks.answering` does) goes four steps:

1. `task.requests(tokenizer)` gives, for each of `task.items`, the requests that it makes: any
   number of any kind. The tokenizer matters to tasks that put their prompts as a chat only.
2. A model answers them, under any number of plans.
3. `task.judge(item, responses)`, for every item and plan, gives the item's value of each metric:
   a number, or for metrics that are no mean whatever `aggregate` takes. These records are kept, so
   that plans can be compared item by item.
4. `task.aggregate(metric, values)` makes one estimate of the values of all items, and
   `task.chance(metric)` says what guessing would score, as the data have it.

A task may need to know how a model's tokenizer reads texts before it has items: `Suite.read_by`
makes it known.

Some tasks can also name a *donor* for an item, another item whose subject's states are injected in
place of its own (paper A, section 4); plans that inject run on those tasks only.

`Questions` (in `tasks.questions`) is the usual task of our own: prompts that are answered by
generating. Subclass it and override `judge` for another measure than exact match.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import exp, fsum, inf, nan, sqrt
from statistics import fmean
from typing import Any, Protocol, runtime_checkable

from impasto.tasks.precision import Precision
from impasto.tasks.problem import Problem
from impasto.tasks.request import Request, Response

Value = Any  # a number for most metrics


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a metric comes to over n items; the standard error is nan where none is known."""

    value: float
    stderr: float
    n: int


class Item(Protocol):
    """One thing that a task asks; `id` is unique in the task and the same in every run."""

    @property
    def id(self) -> str:
        """Return what the records call the item."""
        ...


class Task(Protocol):
    """A named set of items that can be put to a model and judged; see the module's text.

    `name` is short and unique in a study, `title` is for figures, and `part_of` names the group
    that the task is a part of, or is empty.
    """

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def title(self) -> str: ...  # noqa: D102
    @property
    def part_of(self) -> str: ...  # noqa: D102

    @property
    def items(self) -> Sequence[Any]:
        """Return the items, in their order; each is an `Item`."""
        ...

    @property
    def digest(self) -> str:
        """Return a sha256 over everything that can change a result."""
        ...

    def requests(self, tokenizer: Any = None) -> Sequence[Sequence[Request]]:
        """Return what each item asks of a model, in the items' order."""
        ...

    def judge(self, item: Any, responses: Sequence[Response]) -> Mapping[str, Value]:
        """Return an item's value of each metric, given the responses to its requests."""
        ...

    def aggregate(self, metric: str, values: Sequence[Value]) -> Estimate:
        """Return what a metric comes to over the items' values."""
        ...

    def chance(self, metric: str) -> float:
        """Return what guessing scores by a metric; nan where guessing has no meaning."""
        ...


@runtime_checkable
class Injectable(Protocol):
    """What a task also offers where another subject's states can be injected."""

    @property
    def has_donors(self) -> bool:
        """Whether it names donors indeed; `injectable` asks."""
        ...

    def donor(self, item: Any, tokenizer: Any = None) -> Mapping[str, str]:
        """Return the donor's `prompt`, its `donor_span`, and the item's `target_span`.

        The tokenizer matters to tasks that put their prompts as a chat only.
        """
        ...

    def judge_injected(self, item: Any, responses: Sequence[Response]) -> Mapping[str, Value]:
        """Return an item's values where its donor was injected."""
        ...


def injectable(task: Task) -> Injectable | None:
    """Return the task as one that names donors; None where it does not."""
    return task if isinstance(task, Injectable) and task.has_donors else None


@runtime_checkable
class Fitted(Protocol):
    """A task whose items are asked of a head that is fitted first: they are asked all at once."""

    @property
    def problem(self) -> Problem:
        """Return what the head is fitted to."""
        ...


@runtime_checkable
class ReadByTokenizer(Protocol):
    """A task whose items follow from how a model's tokenizer reads texts: so many tokens of them.

    It has none until it is read.
    """

    def read_by(self, tokens: Callable[[str], Sequence[int]], vocabulary: int) -> Task:
        """Return the task with its items, given what returns the token ids of a text.

        `vocabulary` is how many tokens there are, among which a guess would be made.
        """
        ...


class ReadsTexts(Protocol):
    """What reads texts as a model does: the model itself, or what stands in for it."""

    @property
    def tokenizer(self) -> Any:
        """The Hugging Face tokenizer."""
        ...

    def tokens(self, text: str) -> list[int]:
        """Return a text's token ids, with the special tokens that the tokenizer adds."""
        ...


@runtime_checkable
class Valued(Protocol):
    """A task that tells a metric's value without its standard error, which may take long."""

    def value(self, metric: str, values: Sequence[Value]) -> float:
        """Return the value of `aggregate`."""
        ...


class Group(Protocol):
    """Several tasks with scores of their own as a whole, as mmlu has of its subjects."""

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def title(self) -> str: ...  # noqa: D102
    @property
    def part_of(self) -> str: ...  # noqa: D102

    def aggregate(self, estimates: Mapping[str, Mapping[str, Estimate]]) -> Mapping[str, Estimate]:
        """Return the group's estimate of each metric, given its tasks' by task name and metric."""
        ...


@dataclass(frozen=True)
class Suite:
    """Tasks that run one by one, and the groups that sum them up.

    `precisions` says how precisely some are to be known, by the name of a task, or of a group as a
    whole; those are asked no more of their items, in their order, than that takes.
    """

    tasks: tuple[Task, ...]
    groups: tuple[Group, ...] = ()
    precisions: Mapping[str, Precision] = field(default_factory=dict)

    def read_by(self, model: ReadsTexts) -> "Suite":
        """Return the suite with the items of those tasks that depend on how texts are read."""
        count = len(model.tokenizer or ())
        tasks = (
            task.read_by(model.tokens, count) if isinstance(task, ReadByTokenizer) else task
            for task in self.tasks
        )
        return replace(self, tasks=tuple(tasks))


def mean(values: Iterable[float]) -> Estimate:
    """Return the mean with its standard error, s/√n with n − 1 in the variance as harnesses do."""
    numbers = [float(value) for value in values]
    centre, n = fmean(numbers), len(numbers)
    if n < 2:
        return Estimate(centre, nan, n)
    return Estimate(centre, sqrt(sum((x - centre) ** 2 for x in numbers) / (n - 1) / n), n)


def ratio(values: Sequence[tuple[float, int]]) -> Estimate:
    """Return the mean over all tokens of items' (sum, tokens); nan where there is no token.

    Its standard error is that of a ratio of two sums over items, each item by what it departs from
    the ratio: √(n/(n − 1) · Σ(sum − ratio · tokens)²) / Σ tokens, over the n items with tokens.
    """
    there = [(part, tokens) for part, tokens in values if tokens]
    total, n = sum(tokens for _, tokens in there), len(there)
    if not total:
        return Estimate(nan, nan, len(values))
    share = fsum(part for part, _ in there) / total
    if n < 2:
        return Estimate(share, nan, len(values))
    departing = fsum((part - share * tokens) ** 2 for part, tokens in there)
    return Estimate(share, sqrt(n / (n - 1) * departing) / total, len(values))


def perplexity(values: Sequence[tuple[float, int]]) -> Estimate:
    """Return exp(−log p per token) of items' (sum of log p, tokens).

    Its standard error is that of the mean, times the perplexity (the delta method).
    """
    mean_log_p = ratio(values)
    try:
        value = exp(-mean_log_p.value)
    except OverflowError:
        value = inf
    return Estimate(value, value * mean_log_p.stderr, mean_log_p.n)
