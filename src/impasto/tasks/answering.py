"""Putting requests to a model: what is asked is sorted by kind, and each kind goes in one call.

All plans go in that call too, so that the engine computes once what plans, contexts and choices
have in common. What is longer than the model's context is cut off on the left as lm-eval 0.4.13
cuts it, and counted. What cannot be asked at all, lm-eval cannot ask either: it raises
`RequestError`, which says which request it is. Heads are fitted above: who has them hands in what
predicts with them.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from impasto.error import UserError
from impasto.plan import Plan
from impasto.tasks.asked_model import AskedModel, Pair, Progress
from impasto.tasks.problem import Problem
from impasto.tasks.request import (
    Fidelity,
    Generation,
    HeadQuestion,
    LogLikelihood,
    MaskedText,
    Request,
    Response,
    RollingLogLikelihood,
)

Texts = Sequence[tuple[str, str | None]]
Predict = Callable[[Any, Sequence[Any], Problem, Texts, Progress], Sequence[Sequence[float]]]
"""Says of texts, by heads that it fits to a problem for a model under each plan, per plan and text,
the class or the number."""

PIECE = 512  # tokens that a text is read in where nothing is said, as is usual for perplexities


class RequestError(UserError):
    """A request cannot be put to the model; the message says why.

    Attributes:
        item: The item's place among those asked.
        number: The request's place among the item's.
        request: The request.
        of: How many requests the item has.
    """

    def __init__(self, reason: str, item: int, number: int, request: Request, of: int) -> None:
        super().__init__(reason)
        self.item, self.number, self.request, self.of = item, number, request, of

    def told(self, item: str) -> str:
        """Return the message with the item's name and, where it has several, which choice it is."""
        choice = f", choice {self.number}" if self.of > 1 else ""
        return f"{item}{choice}: {self}"


class _RefusedError(UserError):
    """A request of those that are asked in one call, by its index there, cannot be read."""

    def __init__(self, reason: str, index: int) -> None:
        super().__init__(reason)
        self.index = index


@dataclass(frozen=True)
class Answers:
    """What a model said.

    Attributes:
        responses: By plan, then item, then request.
        truncated: How many items did not fit the model's context whole.
    """

    responses: list[list[tuple[Response, ...]]]
    truncated: int


def _without_heads(
    model: Any, plans: Sequence[Any], problem: Problem, texts: Texts, progress: Progress
) -> Sequence[Sequence[float]]:
    raise UserError(f"{problem.name} is asked of heads that are fitted to it; run it in a study")


def answer(
    model: AskedModel,
    plans: Sequence[Any],
    items: Sequence[Sequence[Request]],
    donors: Sequence[Mapping[str, Any]] | None = None,
    progress: Progress = lambda share: None,
    predict: Predict = _without_heads,
) -> Answers:
    """Return what a model says under every plan to the requests of every item.

    `donors` binds what the plans inject, one mapping for each item; `predict` answers what is asked
    of fitted heads. Raises RequestError for a request that has nothing to score or leaves no room
    for its answer.
    """
    asked = [(row, request) for row, requests in enumerate(items) for request in requests]
    found: list[list[Response]] = [[0.0] * len(asked) for _ in plans]
    truncated: set[int] = set()
    done = 0
    for batch in _batches(asked):
        requests = [asked[index][1] for index in batch]
        bound = None if donors is None else [donors[asked[index][0]] for index in batch]
        part = _part(progress, done / len(asked), len(batch) / len(asked))
        try:
            said, cut = _ask(model, plans, requests, bound, part, predict)
        except _RefusedError as error:
            raise _placed(error, batch[error.index], asked, items) from None
        for plan, responses in enumerate(said):
            for index, response in zip(batch, responses, strict=True):
                found[plan][index] = response
        truncated |= {asked[index][0] for index, was in zip(batch, cut, strict=True) if was}
        done += len(batch)
    return Answers([_by_item(row, items) for row in found], len(truncated))


def _placed(
    error: _RefusedError,
    index: int,
    asked: Sequence[tuple[int, Request]],
    items: Sequence[Sequence[Request]],
) -> RequestError:
    """Say of which item the request at an index is, and which of its requests."""
    row, request = asked[index]
    number = sum(other == row for other, _ in asked[:index])
    return RequestError(str(error), row, number, request, len(items[row]))


def _batches(asked: Sequence[tuple[int, Request]]) -> Iterator[list[int]]:
    """Yield the indices of requests that go to the model in one call."""
    kinds: dict[Any, list[int]] = {}
    for index, (_, request) in enumerate(asked):
        alike: Any = None
        if isinstance(request, Generation):
            alike = (request.stop, request.max_new_tokens, request.think_end)
        elif isinstance(request, Fidelity):
            alike = request.length
        elif isinstance(request, HeadQuestion):
            alike = request.problem
        kinds.setdefault((type(request), alike), []).append(index)
    yield from kinds.values()


def _ask(
    model: AskedModel,
    plans: Sequence[Any],
    requests: Sequence[Any],
    donors: Sequence[Mapping[str, Any]] | None,
    progress: Progress,
    predict: Predict,
) -> tuple[Sequence[Sequence[Response]], list[bool]]:
    """Return the responses to requests of one kind, by plan, and which requests were cut."""
    first = requests[0]
    if isinstance(first, HeadQuestion):
        texts = [(request.first, request.second) for request in requests]
        return predict(model, plans, first.problem, texts, progress), [False] * len(requests)
    if isinstance(first, MaskedText):
        texts = [request.text for request in requests]
        scores = model.masked_scores(plans, texts, donors, progress)
        return [[tuple(score) for score in row] for row in scores], [False] * len(requests)
    if isinstance(first, Fidelity):
        read = [list(request.ids) for request in requests]
        length = first.length or min(PIECE, context_length(model))
        near = model.fidelity(plans, read, length=length, progress=progress)
        return [[tuple(text) for text in row] for row in near], [False] * len(requests)
    if isinstance(first, Generation):
        return _generate(model, plans, requests, donors, progress)
    if isinstance(first, LogLikelihood):
        return _score(model, plans, requests, donors, progress)
    return _rolling(model, plans, requests, progress)


def context_length(model: AskedModel) -> int:
    """Return how many tokens a request may have; what lm-eval takes where the model says nothing.

    That is what the tokenizer says, else 2048: a model without a table of positions (BLOOM) could
    read more, and its numbers would not be the ones that people know.
    """
    if model.max_positions is not None:
        return model.max_positions
    from lm_eval.models.utils import resolve_max_length

    return resolve_max_length(None, model.tokenizer)


def fitted(pair: Pair, limit: int) -> Pair:
    """Return a context and its continuation, in token ids, without what falls off on the left.

    The model reads all but the last token. Raises UserError where the continuation alone is longer.
    """
    context, continuation = pair
    room = limit + 1 - len(continuation)
    if room < 1:
        raise UserError(
            f"a continuation of {len(continuation)} tokens exceeds the {limit} tokens that the "
            "model reads"
        )
    return context[-room:], continuation


def _score(
    model: AskedModel,
    plans: Sequence[Any],
    requests: Sequence[LogLikelihood],
    donors: Sequence[Mapping[str, Any]] | None,
    progress: Progress,
) -> tuple[Sequence[Sequence[Response]], list[bool]]:
    """Return the log-likelihoods; donors' spans are found in text, so then it is passed on."""
    limit = context_length(model)

    def read(request: LogLikelihood) -> tuple[Pair, Pair]:
        pair = model.token_pair(request.context, request.continuation, request.as_lm_eval)
        return pair, fitted(pair, limit)

    whole, pairs = map(list, zip(*_read(requests, read), strict=True))
    cut = [len(left[0]) < len(pair[0]) for left, pair in zip(pairs, whole, strict=True)]
    if donors is not None:
        pairs = [(request.context, request.continuation) for request in requests]
    return model.loglikelihood(plans, pairs, donors=donors, progress=progress), cut


def _generate(
    model: AskedModel,
    plans: Sequence[Any],
    requests: Sequence[Generation],
    donors: Sequence[Mapping[str, Any]] | None,
    progress: Progress,
) -> tuple[list[list[str]], list[bool]]:
    """Return the new texts; a prompt is cut so that the longest reply has room behind it.

    Donors' spans are found in text, so then prompts that fit are passed on as that.
    """
    stop, room = requests[0].stop, requests[0].max_new_tokens
    left = context_length(model) - room
    if left < 1:
        raise _RefusedError(
            f"replies of up to {room} tokens leave no room for a prompt in the model's "
            f"{context_length(model)} positions; ask for fewer tokens",
            0,
        )
    whole = list(_read(requests, lambda one: model.tokens(one.prompt, one.as_lm_eval)))
    cut = [len(ids) > left for ids in whole]
    prompts = [
        ids[-left:] if donors is None or was_cut else request.prompt
        for request, ids, was_cut in zip(requests, whole, cut, strict=True)
    ]
    said = model.generate(
        plans, prompts, max_new_tokens=room, stop=list(stop), donors=donors, progress=progress
    )
    think_end = requests[0].think_end
    return [[_text(model, reply, stop, think_end) for reply in row] for row in said], cut


def _text(
    model: AskedModel, reply: str | list[int], stop: Sequence[str], think_end: str | int | None
) -> str:
    """Return a reply as text up to its stops, which lm-eval looks for one after the other.

    Where two overlap, as in `\nQ:` and `Q:`, their order decides which is seen. What a model thinks
    first, up to the last `think_end`, is left out.
    """
    if isinstance(reply, str):
        text = reply
    else:
        if isinstance(think_end, int) and think_end in reply:
            reply = reply[len(reply) - reply[::-1].index(think_end) :]
        text = model.tokenizer.decode(reply, skip_special_tokens=True)
    if isinstance(think_end, str):
        text = text.split(think_end)[-1]
    if think_end is not None:
        text = text.lstrip()
    for end in filter(None, stop):
        text = text.split(end)[0]
    return text


def _read(requests: Sequence[Any], read: Callable[[Any], Any]) -> Iterator[Any]:
    """Yield what is read of each request; raises _RefusedError for one that cannot be."""
    for index, request in enumerate(requests):
        try:
            yield read(request)
        except UserError as error:
            raise _RefusedError(str(error), index) from None


def _rolling(
    model: AskedModel,
    plans: Sequence[Any],
    requests: Sequence[RollingLogLikelihood],
    progress: Progress,
) -> tuple[list[list[Response]], list[bool]]:
    """Return the log-likelihood of whole texts, the sums over their windows.

    Raises UserError for a plan that is about the prompt, which a text does not have.
    """
    for plan in plans:
        if isinstance(plan, Plan) and plan.tells_prompt:
            raise UserError(
                f"the plan {plan} does something to the prompt alone, and a text has no prompt"
            )
    windows = list(_read(requests, lambda one: list(_windows(model, one.text))))
    flat = [window for some in windows for window in some]
    said = model.loglikelihood(plans, flat, progress=progress) if flat else [[] for _ in plans]
    sums: list[list[Response]] = []
    for row in said:
        scores = iter(row)
        sums.append([sum((next(scores)[0] for _ in some), 0.0) for some in windows])
    return sums, [False] * len(requests)


def _windows(model: AskedModel, text: str) -> Iterator[Pair]:
    """Yield what is read and what is scored, window by window, as lm-eval cuts a text."""
    from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

    ids = model.scored_tokens(text)
    limit = context_length(model)
    rolling = get_rolling_token_windows(
        ids, prefix_token=model.prefix_token, max_seq_len=limit, context_len=1
    )
    yield from map(make_disjoint_window, rolling)


def _by_item(row: list[Response], items: Sequence[Sequence[Request]]) -> list[tuple[Response, ...]]:
    """Return one plan's responses item by item."""
    responses = iter(row)
    return [tuple(next(responses) for _ in requests) for requests in items]


def _part(progress: Progress, before: float, share: float) -> Progress:
    """Return what tells the whole's progress from one part's."""
    return lambda fraction: progress(before + share * fraction)
