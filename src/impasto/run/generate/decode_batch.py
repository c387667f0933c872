"""Plans that decode together, a token at each decode step, their keys and values in a KV pool.

At each step every text reads its next token, by one :mod:`impasto.run.generate.call_order` of
calls: a step costs a few calls for all plans and reads a layer's weights once. A KV buffer belongs
to one occurrence of neighbouring plans, so that a call for any of them, or for several side by
side, reads and writes its part of it in place.

Noise depends on the states by their norm alone. So what all markers draw for the new tokens is
drawn at once, before the first layer runs.
"""

from collections.abc import Mapping, Sequence
from typing import TypeGuard

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from impasto.model.decoder import OpenedModel
from impasto.plan.program import Occurrence, ReplaceByNoise, layers
from impasto.run.batching.batches import rows_per_call
from impasto.run.batching.padding import sent
from impasto.run.common_keys import handing
from impasto.run.execute.executor import Executor, source_of
from impasto.run.execute.frames import Frames
from impasto.run.execute.layers import State
from impasto.run.execute.logits import likeliest
from impasto.run.execute.reached import Reached
from impasto.run.execute.rows import Batch, Known
from impasto.run.generate.call_order import (
    BeginCurrent,
    BlockCall,
    EditEarlier,
    Operation,
    call_order,
    neighbour_key,
)
from impasto.run.generate.decoding_plan import DecodingPlan, Stopping
from impasto.run.generate.kv_pool import KVPool, spans_of
from impasto.run.kv.buffers import KeysValues
from impasto.run.kv.cache import BufferRows
from impasto.run.noise import Kind, draw, fitted, marks, seeds
from impasto.run.tuning import SEEN_KEYS, TOKENS_AHEAD


class DecodeBatch:
    """Plans side by side that decode together.

    Attributes:
        plans: The plans, those that run alike next to each other.
    """

    def __init__(
        self, model: OpenedModel, stopping: Stopping, plans: Sequence[DecodingPlan]
    ) -> None:
        self.plans = sorted(plans, key=lambda plan: neighbour_key(plan.program))
        self._model, self._stopping = model, stopping
        self._call_cost = float(rows_per_call(model))
        self._spans = spans_of(len(plan.texts) for plan in self.plans)
        self._total = torch.cat([plan.total for plan in self.plans])
        lengths = [plan.length_after(TOKENS_AHEAD, stopping.max_new_tokens) for plan in self.plans]
        self._capacity = rounded_keys(1 + max(lengths), model.device)
        self._common = max(plan.in_common for plan in self.plans)  # none under reaches alone
        self._pool = KVPool.of(self.plans, self._capacity)
        self._orders: dict[tuple[int, ...], list[Operation]] = {}
        self._chosen_rows: dict[tuple[int, ...], Tensor] = {}

    @property
    def unfinished_share(self) -> float:
        """The share of the texts that is not done."""
        return sum(plan.num_unfinished for plan in self.plans) / len(self._total)

    @property
    def is_full(self) -> bool:
        """Whether the KV buffers cannot take another token."""
        return any(plan.num_unfinished and plan.length + 2 > self._capacity for plan in self.plans)

    def unfinished_plans(self) -> list[DecodingPlan]:
        """Return the plans with texts that are not done, and their keys and values as views."""
        unfinished = []
        for plan, span in zip(self.plans, self._spans, strict=True):
            buffers = {each: self._pool.part(each, span)[0] for each in plan.program.occurrences}
            pairs = {each: KeysValues(own.keys, own.values) for each, own in buffers.items()}
            total = self._total[span]
            given = plan.program, plan.texts, total, pairs, plan.common
            unfinished.append(DecodingPlan.of_unfinished(*given))
        return [plan for plan in unfinished if plan is not None]

    def step(self) -> None:
        """Read the next token of every text, and write the one after it."""
        chosen = [at for at, plan in enumerate(self.plans) if plan.num_unfinished]
        texts = [text for at in chosen for text in self.plans[at].texts]
        tokens = likeliest(self._model, self.next_states(chosen)).tolist()
        for text, token in zip(texts, tokens, strict=True):
            text.write(token, self._stopping)

    def next_states(self, chosen: Sequence[int]) -> Float[Tensor, "texts hidden"]:
        """Read the next token of the texts of some plans, and return the states after it."""
        spans = [self._spans[at] for at in chosen]
        texts = [text for at in chosen for text in self.plans[at].texts]
        rows = self._rows(tuple(chosen))
        tokens, num_read = [text.written[-1] for text in texts], [text.num_read for text in texts]
        given = tokens, num_read, self._total[rows], self._capacity, self._common
        batch = next_batch(self._model, *given)
        operations = self._operations(chosen)
        with handing():
            states = decode_step(Executor(self._model, batch), operations, self._pool, spans)
        if any(isinstance(each, EditEarlier) for each in operations):
            self._total[rows] = batch.hashed[1][:, 0]
        return states[:, 0]

    def _rows(self, chosen: tuple[int, ...]) -> Int[Tensor, "some"]:
        """Return the sequences of some plans, given by index; sent once for each choice."""
        if chosen not in self._chosen_rows:
            spans = [self._spans[at] for at in chosen]
            rows = torch.cat([torch.arange(span.start, span.stop) for span in spans])
            self._chosen_rows[chosen] = sent(rows, self._total.device)
        return self._chosen_rows[chosen]

    def _operations(self, chosen: Sequence[int]) -> list[Operation]:
        """Return the call order of some plans, given by index; made once for each choice."""
        key = tuple(chosen)
        if key not in self._orders:
            programs = [self.plans[at].program for at in chosen]
            follows = [at - 1 in chosen for at in chosen]
            spans = spans_of(len(self.plans[at].texts) for at in chosen)
            self._orders[key] = call_order(programs, spans, follows, self._call_cost)
        return self._orders[key]


def next_batch(
    model: OpenedModel,
    tokens: Sequence[int],
    num_read: Sequence[int],
    total: Int[Tensor, "batch"],
    capacity: int,
    common: int = 0,
) -> Batch:
    """Return the batch of the next token of each text.

    Texts that are done stay in the batch: they read their last token again.

    Args:
        model: The model.
        tokens: The tokens.
        num_read: The number of tokens read of each text.
        total: The noise sums over those.
        capacity: The capacity of the KV buffers, in tokens, those before them included.
        common: How many tokens lie before the buffers.
    """
    last = capacity - 2  # a token takes an index as an earlier row and one as a current row
    both = sent(torch.tensor([tokens, num_read]), total.device)
    ids, buffered = both[0][:, None], both[1].clamp(max=last)
    longest = min(max(num_read), last)
    visible = min(rounded_keys(longest + 2, ids.device), capacity)
    return Batch(
        ids=ids,
        positions=model.position(buffered[:, None]),
        is_real=torch.ones_like(ids, dtype=torch.bool),
        scored=torch.zeros_like(ids),
        is_scored=torch.ones_like(ids, dtype=torch.bool),
        past=ids[:, :0],
        has_past=ids[:, :0].bool(),
        total=total,
        buffered=buffered,
        visible=visible,
        common=common,
        known=Known(
            min(visible, model.max_positions or visible), are_scored_alike=True, read=longest
        ),
    )


def rounded_keys(count: int, device: torch.device) -> int:
    """Return of how many keys there are memory, or masks, off the processor some more than given.

    So shapes are the same for many tokens: kernels are chosen, and planned, for a shape.
    """
    return count if device.type == "cpu" else -(-count // SEEN_KEYS) * SEEN_KEYS


def decode_step(
    executor: Executor, operations: Sequence[Operation], pool: KVPool, spans: Sequence[slice]
) -> Float[Tensor, "batch new hidden"]:
    """Return the final states of new tokens, each as the current one.

    Args:
        executor: The executor of the new tokens of all plans.
        operations: The call order.
        pool: The KV buffers of earlier tokens; those of the new ones are written there.
        spans: Each plan's span of the sequences in the pool.
    """
    earlier = executor.start().earlier.clone()
    current = torch.empty_like(earlier)
    drawn = iter(_draw_noise(executor, [each for each in operations if _is_drawn_ahead(each)]))
    frames: dict[tuple[int, int], Frames] = {}  # by span
    for operation in operations:
        key = (span := operation.span).start, span.stop
        if key not in frames:
            frames[key] = executor.frames.part(span)
        match operation:
            case BeginCurrent():
                current[span] = earlier[span]
            case EditEarlier() if _is_drawn_ahead(operation):
                earlier[span] = _replace_by_noise(executor, operation, earlier[span], next(drawn))
            case EditEarlier():
                part = executor.part(frames[key], {}, None)
                earlier[span] = part.step(operation.instruction, State(earlier[span])).earlier
            case BlockCall():
                first, last = spans[operation.plans[0]], spans[operation.plans[-1]]
                past = _buffer_rows(operation, pool, slice(first.start, last.stop), frames[key])
                _run_call(executor, frames[key], operation, past, earlier, current)
    return current


def _buffer_rows(
    call: BlockCall, pool: KVPool, span: slice, frames: Frames
) -> dict[Occurrence, BufferRows]:
    """Return where a call writes keys and values, by occurrence."""
    batch, past = frames.batch, dict[Occurrence, BufferRows]()
    for run in layers(call.instruction):
        if run.occurrence is None:
            continue
        buffer, common = pool.part(run.occurrence, span)
        if common is not None:
            rows = batch.indices_behind_common, batch.visible - common.length
        else:
            on = batch if run.reach is None else Reached.of(batch, run.reach)
            rows = on.buffer_indices, on.visible
        past[run.occurrence] = BufferRows(buffer, *rows, batch.read, common)
    return past


def _run_call(
    executor: Executor,
    frames: Frames,
    call: BlockCall,
    past: Mapping[Occurrence, BufferRows],
    earlier: Float[Tensor, "batch new hidden"],
    current: Float[Tensor, "batch new hidden"],
) -> None:
    """Run a call of a block, and write the states that it changes in place."""
    span = call.span
    for joint in call.joint:
        current[joint] = earlier[joint]
    kv_only = None
    if call.kv_only:
        kv_only = torch.zeros(len(frames.batch.ids), dtype=torch.bool, device=earlier.device)
        for each in call.kv_only:
            kv_only[each.start - span.start : each.stop - span.start] = True
    rows = call.instruction.rows
    state = State(earlier[span], None if rows == "joint" else current[span])
    after = executor.part(frames, past, kv_only).step(call.instruction, state)
    if after.current is not None:
        current[span] = after.current
    if rows != "kv-only":
        earlier[span] = after.earlier


def _is_drawn_ahead(operation: Operation) -> TypeGuard[EditEarlier]:
    """Whether an operation draws noise: all noise of a step is drawn at once."""
    return isinstance(operation, EditEarlier) and isinstance(operation.instruction, ReplaceByNoise)


def _draw_noise(
    executor: Executor, operations: Sequence[EditEarlier]
) -> list[Shaped[Tensor, "_ new hidden"]]:
    """Return the numbers that each marker draws for its sequences."""
    if not operations:
        return []
    keys = [executor.batch.hashed[0][each.span] for each in operations]
    counts = [each.numel() for each in keys]
    each_marks = marks([source_of(each.instruction) for each in operations])
    markers = sent(each_marks.repeat_interleave(torch.tensor(counts), 0), keys[0].device)
    seeded = seeds(torch.cat([each.flatten() for each in keys]), markers).split(counts)
    kinds: list[Kind] = [each.instruction.kind for each in operations]
    drawn: dict[int, Tensor] = {}
    for kind in dict.fromkeys(kinds):
        same = [at for at, each in enumerate(kinds) if each == kind]
        numbers = draw(kind, torch.cat([seeded[at] for at in same]), executor.model.hidden)
        parts = numbers.split([counts[at] for at in same])
        for at, part in zip(same, parts, strict=True):
            drawn[at] = part.unflatten(0, keys[at].shape)
    return [drawn[at] for at in range(len(operations))]


def _replace_by_noise(
    executor: Executor,
    marker: EditEarlier,
    states: Float[Tensor, "some new hidden"],
    drawn: Shaped[Tensor, "some new hidden"],
) -> Float[Tensor, "some new hidden"]:
    """Return noise of the same norms in the place of states, the first ``keep`` tokens excepted."""
    noise = fitted(states, drawn.to(states.device), marker.instruction.kind)
    if not marker.instruction.keep:
        return noise
    is_spared = executor.batch.index[marker.span] < marker.instruction.keep
    return torch.where(is_spared[..., None].to(states.device), states, noise)
