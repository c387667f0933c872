"""Plans that write together, step by step.

At each step every text reads its next token, by one :mod:`impasto.run.generate.call_order` of calls, so that a
step costs a few calls for all and reads a layer's weights once.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Int
from torch import Tensor

from impasto.model.decoder import OpenedModel
from impasto.run.batching.batches import rows_per_call
from impasto.run.execute.executor import Executor
from impasto.run.execute.logits import likeliest
from impasto.run.execute.rows import Batch
from impasto.run.generate.call_order import DrawNoise, Operation, call_order, neighbourhood
from impasto.run.generate.decode_step import read
from impasto.run.generate.decoding_plan import DecodingPlan, unfinished
from impasto.run.generate.stopping import Stopping
from impasto.run.kv.cache import KeysValues
from impasto.run.kv.pool import KVPool, spans_of
from impasto.run.tuning import TOKENS_AHEAD


class DecodeBatch:
    """Plans side by side, their keys and values in rooms.

    Attributes:
        plans: The plans.
    """

    def __init__(self, model: OpenedModel, limits: Stopping, plans: Sequence[DecodingPlan]) -> None:
        self.plans = sorted(plans, key=lambda plan: neighbourhood(plan.program))
        self._model, self._limits, self._call = model, limits, float(rows_per_call(model))
        self._spans = spans_of(len(plan.texts) for plan in self.plans)
        self._total = torch.cat([plan.total for plan in self.plans])
        most = limits.max_new_tokens
        self._length = 1 + max(plan.slots_after(TOKENS_AHEAD, most) for plan in self.plans)
        self._rooms = KVPool.filled_with(self.plans, self._length)
        self._schedules: dict[tuple[int, ...], list[Operation]] = {}

    @property
    def share(self) -> float:
        """Which share of the texts is not done."""
        return sum(plan.unfinished for plan in self.plans) / len(self._total)

    @property
    def is_full(self) -> bool:
        """Whether the rooms have no room for another token."""
        return any(plan.unfinished and plan.slots + 2 > self._length for plan in self.plans)

    def left(self) -> list[DecodingPlan]:
        """Return what goes on, with its keys and values, so that they may move elsewhere."""
        left = []
        for plan, span in zip(self.plans, self._spans, strict=True):
            rooms = {each: self._rooms.room(each, span) for each in plan.program.occurrences}
            kept = {each: KeysValues(room.keys, room.values) for each, room in rooms.items()}
            left.append(unfinished(plan.program, plan.texts, self._total[span], kept))
        return [plan for plan in left if plan is not None]

    def step(self) -> None:
        """Read the next token of every text, and write what follows."""
        chosen = [at for at, plan in enumerate(self.plans) if plan.unfinished]
        places = [self._spans[at] for at in chosen]
        texts = [text for at in chosen for text in self.plans[at].texts]
        rows = torch.cat([torch.arange(place.start, place.stop) for place in places])
        rows = rows.to(self._total.device)
        tokens, read_before = [text.written[-1] for text in texts], [text.read for text in texts]
        batch = next_batch(self._model, tokens, read_before, self._total[rows], self._length)
        operations = self._order(chosen)
        states = read(Executor(self._model, batch), operations, self._rooms, places)
        for text, token in zip(texts, likeliest(self._model, states[:, 0]).tolist(), strict=True):
            text.write(token, self._limits)
        if any(isinstance(each, DrawNoise) for each in operations):
            self._total[rows] = batch.hashed[1][:, 0]

    def _order(self, chosen: Sequence[int]) -> list[Operation]:
        key = tuple(chosen)
        if key not in self._schedules:
            programs = [self.plans[at].program for at in chosen]
            follows = [at - 1 in chosen for at in chosen]
            spans = spans_of(len(self.plans[at].texts) for at in chosen)
            self._schedules[key] = call_order(programs, spans, follows, self._call)
        return self._schedules[key]


def next_batch(
    model: OpenedModel,
    tokens: Sequence[int],
    before: Sequence[int],
    total: Int[Tensor, "batch"],
    length: int,
) -> Batch:
    """Return the next token of each text, behind so many that have been read.

    Texts that are done only wait for the others.

    Args:
        model: The model.
        tokens: The tokens.
        before: How many of each text have been read.
        total: The noise sums over those.
        length: The slots of the rooms that keys and values lie in.
    """
    last = length - 2  # a token's slots as an earlier row and as a current one
    ids = torch.tensor(tokens, device=total.device)[:, None]
    filled = torch.tensor(before, device=ids.device).clamp(max=last)
    return Batch(
        ids=ids,
        positions=model.position(filled[:, None]),
        is_real=torch.ones_like(ids, dtype=torch.bool),
        scored=torch.zeros_like(ids),
        is_scored=torch.ones_like(ids, dtype=torch.bool),
        past=ids[:, :0],
        has_past=ids[:, :0].bool(),
        total=total,
        filled=filled,
        room=min(max(before), last) + 2,
    )
