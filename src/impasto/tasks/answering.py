"""Putting requests to a model: what is asked is sorted by kind, and each kind goes in one call.

All plans go in that call too, so that the engine computes once what plans, contexts and choices
have in common. What is longer than the model's context is cut off on the left as lm-eval 0.4.13
cuts it, and counted.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from impasto.error import UserError
from impasto.tasks.request import (
    Generation,
    LogLikelihood,
    Request,
    Response,
    RollingLogLikelihood,
)

Progress = Callable[[float], None]
Pair = tuple[Any, Any]  # context and continuation: two texts, or two lists of token ids


class AskedModel(Protocol):
    """What requests need of a model; `impasto.load` returns one."""

    @property
    def tokenizer(self) -> Any:
        """The Hugging Face tokenizer."""
        ...

    @property
    def max_positions(self) -> int | None:
        """The most tokens that it can read, where that is known."""
        ...

    def tokens(self, text: str) -> list[int]:
        """Return a text's token ids, with the special tokens that the tokenizer adds."""
        ...

    def token_pair(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
        """Return the token ids of a context and of its continuation."""
        ...

    @property
    def prefix_token(self) -> int:
        """The token that stands before a text without context."""
        ...

    def loglikelihood(
        self, plans: Any, requests: Any, donors: Any = ..., progress: Progress = ...
    ) -> Any:
        """Score continuations: per plan and request, (sum of log p, all tokens likeliest?)."""
        ...

    def generate(
        self,
        plans: Any,
        prompts: Any,
        max_new_tokens: int = ...,
        stop: Sequence[str] = ...,
        donors: Any = ...,
        progress: Progress = ...,
    ) -> Any:
        """Continue every prompt under every plan."""
        ...


@dataclass(frozen=True)
class Answers:
    """What a model said.

    Attributes:
        responses: By plan, then item, then request.
        truncated: How many items did not fit the model's context whole.
    """

    responses: list[list[tuple[Response, ...]]]
    truncated: int


def answer(
    model: AskedModel,
    plans: Sequence[Any],
    items: Sequence[Sequence[Request]],
    donors: Sequence[Mapping[str, Any]] | None = None,
    progress: Progress = lambda share: None,
) -> Answers:
    """Return what a model says under every plan to the requests of every item.

    `donors` binds what the plans inject, one mapping for each item.
    """
    asked = [(row, request) for row, requests in enumerate(items) for request in requests]
    found: list[list[Response]] = [[0.0] * len(asked) for _ in plans]
    truncated: set[int] = set()
    done = 0
    for batch in _batches(asked):
        requests = [asked[index][1] for index in batch]
        bound = None if donors is None else [donors[asked[index][0]] for index in batch]
        part = _part(progress, done / len(asked), len(batch) / len(asked))
        said, cut = _ask(model, plans, requests, bound, part)
        for plan, responses in enumerate(said):
            for index, response in zip(batch, responses, strict=True):
                found[plan][index] = response
        truncated |= {asked[index][0] for index, was in zip(batch, cut, strict=True) if was}
        done += len(batch)
    return Answers([_by_item(row, items) for row in found], len(truncated))


def _batches(asked: Sequence[tuple[int, Request]]) -> Iterator[list[int]]:
    """Yield the indices of requests that go to the model in one call."""
    kinds: dict[Any, list[int]] = {}
    for index, (_, request) in enumerate(asked):
        limits = (request.stop, request.max_new_tokens) if isinstance(request, Generation) else ()
        kinds.setdefault((type(request), limits), []).append(index)
    yield from kinds.values()


def _ask(
    model: AskedModel,
    plans: Sequence[Any],
    requests: Sequence[Any],
    donors: Sequence[Mapping[str, Any]] | None,
    progress: Progress,
) -> tuple[Sequence[Sequence[Response]], list[bool]]:
    """Return the responses to requests of one kind, by plan, and which requests were cut."""
    first = requests[0]
    if isinstance(first, Generation):
        return _generate(model, plans, requests, donors, progress)
    if isinstance(first, LogLikelihood):
        pairs = [(request.context, request.continuation) for request in requests]
        cut = [_is_too_long(model, pair) for pair in pairs]
        return model.loglikelihood(plans, pairs, donors=donors, progress=progress), cut
    return _rolling(model, plans, requests, progress)


def _is_too_long(model: AskedModel, pair: tuple[str, str]) -> bool:
    """Say whether a request's first tokens fall away: the model reads all but the last token."""
    limit = model.max_positions
    return limit is not None and sum(map(len, model.token_pair(*pair))) > limit + 1


def _generate(
    model: AskedModel,
    plans: Sequence[Any],
    requests: Sequence[Generation],
    donors: Sequence[Mapping[str, Any]] | None,
    progress: Progress,
) -> tuple[list[list[str]], list[bool]]:
    """Return the new texts; a prompt is cut so that the longest reply has room behind it."""
    stop, room = requests[0].stop, requests[0].max_new_tokens
    prompts: list[Any] = [_fitting(model, request.prompt, room) for request in requests]
    said = model.generate(
        plans, prompts, max_new_tokens=room, stop=list(stop), donors=donors, progress=progress
    )
    cut = [not isinstance(prompt, str) for prompt in prompts]
    texts = [[_text(model, reply, stop) for reply in row] for row in said]
    return texts, cut


def _fitting(model: AskedModel, prompt: str, room: int) -> str | list[int]:
    """Return a prompt, or where it is too long for the model its last token ids."""
    limit = model.max_positions
    if limit is None:
        return prompt
    if limit <= room:
        raise UserError(
            f"replies of up to {room} tokens leave no room for a prompt in the model's {limit} "
            "positions; ask for fewer tokens"
        )
    ids = model.tokens(prompt)
    return prompt if len(ids) <= limit - room else ids[-(limit - room) :]


def _text(model: AskedModel, reply: str | list[int], stop: Sequence[str]) -> str:
    """Return a reply as text; where its prompt was token ids, it is token ids too."""
    if isinstance(reply, str):
        return reply
    text = model.tokenizer.decode(reply, skip_special_tokens=True)
    return text[: min((text.index(s) for s in stop if s and s in text), default=len(text))]


def _rolling(
    model: AskedModel,
    plans: Sequence[Any],
    requests: Sequence[RollingLogLikelihood],
    progress: Progress,
) -> tuple[list[list[Response]], list[bool]]:
    """Return the log-likelihood of whole texts, the sums over their windows."""
    windows = [list(_windows(model, request.text)) for request in requests]
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

    ids = model.tokens(text)
    limit = model.max_positions or max(1, len(ids))
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
