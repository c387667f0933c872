"""Plans that write together, step by step.

At each step all of them read their next tokens, by one :mod:`impasto.run.schedule` of calls, so
that a step costs a few calls for all and reads a layer's weights once. A plan whose texts have been
guessed well of late reads, along with each next token, what is guessed to follow it
(:mod:`impasto.run.drafts`).
"""

from collections.abc import Sequence

import torch
from jaxtyping import Int
from torch import Tensor

from impasto.model.opened import OpenedModel
from impasto.run.begun import Begun, Text, going
from impasto.run.bundle import rows_per_call
from impasto.run.limits import Limits
from impasto.run.reading import read
from impasto.run.rooms import Rooms, spans_of
from impasto.run.rows import Batch
from impasto.run.schedule import Noised, Operation, neighbourhood, schedule
from impasto.run.score import likeliest
from impasto.run.slot import KeysValues
from impasto.run.trie import alike
from impasto.run.walk import Walker

_AHEAD = 64  # tokens that rooms have room for beyond those that were read before
_FREE = 16  # rows beside which at least one more costs nothing: weights are read all the same
_PROBED = 8  # texts of a plan that are guessed at a step to see whether guesses come true


class Lockstep:
    """Plans side by side, their keys and values in rooms.

    Attributes:
        plans: The plans.
    """

    def __init__(self, model: OpenedModel, limits: Limits, plans: Sequence[Begun]) -> None:
        self.plans = sorted(plans, key=lambda plan: neighbourhood(plan.program))
        self._model, self._limits, self._call = model, limits, rows_per_call(model)
        self._spans = spans_of(len(plan.texts) for plan in self.plans)
        self._total = torch.cat([plan.total for plan in self.plans])
        most = limits.max_new_tokens
        self._length = 1 + max(plan.slots_after(_AHEAD, most) for plan in self.plans)
        self._rooms = Rooms.furnished(self.plans, self._length)
        self._schedules: dict[tuple[int, ...], list[Operation]] = {}

    @property
    def share(self) -> float:
        """Which share of the texts is not done."""
        return sum(plan.going for plan in self.plans) / len(self._total)

    @property
    def is_full(self) -> bool:
        """Whether the rooms have no room for another token."""
        return any(plan.going and plan.slots + 2 > self._length for plan in self.plans)

    def left(self) -> list[Begun]:
        """Return what goes on, with its keys and values, so that they may move elsewhere."""
        left = []
        for plan, span in zip(self.plans, self._spans, strict=True):
            rooms = {each: self._rooms.room(each, span) for each in plan.program.occurrences}
            kept = {each: KeysValues(room.keys, room.values) for each, room in rooms.items()}
            left.append(going(plan.program, plan.texts, plan.trust, self._total[span], kept))
        return [plan for plan in left if plan is not None]

    def step(self) -> None:
        """Read the next token of every text, and write what follows."""
        sequences = sum(plan.going for plan in self.plans)
        counts = [self._worth(plan, sequences) for plan in self.plans]
        for count in sorted(set(counts) - {0}):
            self._read([at for at, each in enumerate(counts) if each == count], count)

    def _worth(self, plan: Begun, sequences: int) -> int:
        """Return how many tokens of each text a plan reads, of which all but the first are guesses.

        It is a power of two, so that plans often read as many.
        """
        if not plan.going:
            return 0
        wanted = 1 + plan.trust.worth(sequences, max(_FREE, self._call))
        room = (self._length - plan.slots) // 2
        most = min(wanted, room, plan.left(self._limits.max_new_tokens))
        return 1 << (most.bit_length() - 1)

    def _read(self, chosen: Sequence[int], count: int) -> None:
        """Read ``count`` tokens of each text of some plans, and write what follows."""
        plans, places = [self.plans[at] for at in chosen], [self._spans[at] for at in chosen]
        texts = [text for plan in plans for text in plan.texts]
        drafts = [draft for plan in plans for draft in _drafts(plan, count)]
        rows = torch.cat([torch.arange(place.start, place.stop) for place in places])
        rows = rows.to(self._total.device)
        tokens = _tokens(texts, drafts, count)
        read_before = [text.read for text in texts]
        batch = next_batch(self._model, tokens, read_before, self._total[rows], self._length)
        operations = self._schedule(chosen, count)
        states = read(Walker(self._model, batch), operations, self._rooms, places)
        every = likeliest(self._model, states.flatten(0, 1)).tolist()
        found = [every[at : at + count] for at in range(0, len(every), count)]
        written = [
            text.write(new, self._limits, given[1:])
            for text, new, given in zip(texts, found, tokens, strict=True)
        ]
        for plan, span in zip(plans, spans_of(len(plan.texts) for plan in plans), strict=True):
            plan.trust.note(*_judged(drafts[span], found[span]))
        if any(isinstance(each, Noised) for each in operations):
            last = torch.tensor(written, device=rows.device).sub(1).clamp(min=0)
            self._total[rows] = batch.hashed[1].gather(1, last[:, None])[:, 0]

    def _schedule(self, chosen: Sequence[int], count: int) -> list[Operation]:
        key = (count, *chosen)
        if key not in self._schedules:
            programs = [self.plans[at].program for at in chosen]
            follows = [at - 1 in chosen for at in chosen]
            spans = spans_of(len(self.plans[at].texts) for at in chosen)
            self._schedules[key] = schedule(programs, spans, follows, self._call / count)
        return self._schedules[key]


def next_batch(
    model: OpenedModel,
    tokens: Sequence[list[int]],
    before: Sequence[int],
    total: Int[Tensor, "batch"],
    length: int,
) -> Batch:
    """Return the next tokens of each text, behind so many that have been read.

    Texts that are done only wait for the others.

    Args:
        model: The model.
        tokens: The tokens, equally many of each text.
        before: How many of each text have been read.
        total: The noise sums over those.
        length: The slots of the rooms that keys and values lie in.
    """
    count = len(tokens[0])
    last = length - 2 * count
    ids = torch.tensor(tokens, device=total.device)
    filled = torch.tensor(before, device=ids.device).clamp(max=last)
    every = torch.arange(count, device=ids.device).expand_as(ids)
    return Batch(
        ids=ids,
        positions=model.position(filled[:, None] + every),
        is_real=torch.ones_like(ids, dtype=torch.bool),
        scored=every,
        is_scored=torch.ones_like(ids, dtype=torch.bool),
        past=ids[:, :0],
        has_past=ids[:, :0].bool(),
        total=total,
        filled=filled,
        room=min(max(before), last) + 2 * count,
    )


def _tokens(
    texts: Sequence[Text], drafts: Sequence[list[int] | None], count: int
) -> list[list[int]]:
    """Return the last token of each text, and ``count`` − 1 that are guessed to follow it.

    Any token will do where there is no guess.
    """
    tokens = []
    for text, draft in zip(texts, drafts, strict=True):
        guess = draft[: count - 1] if draft else []
        tokens.append([text.written[-1], *guess, *[0] * (count - 1 - len(guess))])
    return tokens


def _drafts(plan: Begun, count: int) -> list[list[int] | None]:
    """Return what is guessed of each text of a plan that reads so many tokens.

    Where guesses are not read, a few are made to see whether they would have come true.
    """
    most, left = max(1, count - 1), len(plan.texts) if count > 1 else _PROBED
    drafts: list[list[int] | None] = []
    for text in plan.texts:
        is_guessed = left > 0 and not text.is_done
        drafts.append(text.known.after(text.written, most) if is_guessed else None)
        left -= is_guessed
    return drafts


def _judged(drafts: Sequence[list[int] | None], found: Sequence[Sequence[int]]) -> tuple[int, int]:
    """Return how many guessed tokens came true, of how many; where none was guessed, of one."""
    hits = guesses = 0
    for draft, tokens in zip(drafts, found, strict=True):
        if draft is not None:
            right = alike([draft, tokens], len(draft))
            hits += right
            guesses += right + (right < len(draft) or not draft)
    return hits, guesses
