"""The states of many texts, a few texts at a time.

What the studies of states read: similarities fold over them, probes pick one token of each. No more
than some megabytes of states are held at a time, however many texts there are.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from impasto.plan import Plan

AT_ONCE = 64 * 2**20  # bytes of states that are held at a time, but for a single longer text


class StatesModel(Protocol):
    """What is asked of a model here; `impasto.load` returns one."""

    @property
    def num_layers(self) -> int:
        """The number of layers T."""
        ...

    @property
    def max_positions(self) -> int | None:
        """The most tokens that it reads."""
        ...

    @property
    def tokenizer(self) -> Any:
        """Its tokenizer, which knows BOS."""
        ...

    def tokens(self, text: str, /) -> list[int]:
        """Return a text's token ids, special tokens included."""
        ...

    def hidden_states(self, plan: Plan, texts: Sequence[list[int]], /) -> list[Any]:
        """Return, per text, a tensor of (depths, tokens, hidden)."""
        ...


@dataclass(frozen=True, eq=False)
class TextStates:
    """One text's states.

    Attributes:
        states: (depths, tokens, hidden), depths 0 to T.
        is_text: (tokens,), False for the BOS token.
        cut: Whether the text was longer than the model reads, so that its end was left out.
    """

    states: np.ndarray
    is_text: np.ndarray
    cut: bool


def read_states(
    model: StatesModel, texts: Iterable[str], *, at_once: int = AT_ONCE
) -> Iterator[TextStates]:
    """Yield every text's states under the unchanged model, in order.

    Each text is run without padding. `at_once` bounds the bytes of states that are held.
    """
    plan = Plan.identity(model.num_layers)
    waiting: list[list[int]] = []
    room = 0  # tokens whose states may be held; the first text shows how large a state is
    for text in texts:
        ids = model.tokens(text)
        if waiting and sum(map(len, waiting)) + len(ids) > room:
            found = list(_run(model, plan, waiting))
            per_token = found[0].states.nbytes // found[0].states.shape[1]
            room, waiting = at_once // per_token, []
            yield from found
        waiting.append(ids)
    if waiting:
        yield from _run(model, plan, waiting)


def _run(model: StatesModel, plan: Plan, texts: list[list[int]]) -> Iterator[TextStates]:
    limit = model.max_positions
    read = [ids[:limit] for ids in texts]
    bos = getattr(model.tokenizer, "bos_token_id", None)
    for whole, ids, states in zip(texts, read, model.hidden_states(plan, read), strict=True):
        is_text = np.array([i > 0 or token != bos for i, token in enumerate(ids)])
        yield TextStates(states.float().cpu().numpy(), is_text, cut=len(ids) < len(whole))
