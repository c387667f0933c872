"""Reading the next tokens of plans side by side: one run of a schedule.

Noise depends on the states by their norm alone. So what all markers draw for the new tokens is
drawn at once, before the first layer runs.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from impasto.plan.program import occurrences
from impasto.run.execute.executor import Executor, source_of
from impasto.run.execute.frames import Frames
from impasto.run.execute.layers import State
from impasto.run.execute.noise import Kind, draw, fitted, marks, seeds
from impasto.run.generate.call_order import BeginCurrent, BlockCall, DrawNoise, Operation
from impasto.run.kv.cache import BufferSlots
from impasto.run.kv.pool import KVPool


def read(
    executor: Executor, operations: Sequence[Operation], rooms: KVPool, places: Sequence[slice]
) -> Float[Tensor, "batch new hidden"]:
    """Return the final states of new tokens, each as the current one.

    Args:
        executor: Walks the new tokens of all plans, whose past lies in rooms.
        operations: The schedule.
        rooms: The rooms; keys and values of the new tokens are written there.
        places: Which entries of the rooms each plan has.
    """
    earlier = executor.start().earlier.clone()
    current = torch.empty_like(earlier)
    drawn = _drawn(executor, [each for each in operations if isinstance(each, DrawNoise)])
    frames: dict[tuple[int, int], Frames] = {}  # of the spans of calls
    for operation in operations:
        match operation:
            case BeginCurrent(span):
                current[span] = earlier[span]
            case DrawNoise(span):
                earlier[span] = _noised(executor, operation, earlier[span], drawn.pop(0))
            case BlockCall():
                past = slice(places[operation.plans[0]].start, places[operation.plans[-1]].stop)
                key = (span := operation.span).start, span.stop
                frames[key] = frames.get(key) or executor.frames.part(span)
                _run(executor, frames[key], operation, (rooms, past), earlier, current)
    return current


def _run(
    executor: Executor,
    frames: Frames,
    call: BlockCall,
    past: tuple[KVPool, slice],
    earlier: Float[Tensor, "batch new hidden"],
    current: Float[Tensor, "batch new hidden"],
) -> None:
    """Run a call, in place."""
    rooms, entries = past
    span, batch = call.span, frames.batch
    for copied in call.copied:
        current[copied] = earlier[copied]
    held = None
    if call.held:
        held = torch.zeros(len(batch.ids), dtype=torch.bool, device=earlier.device)
        for each in call.held:
            held[each.start - span.start : each.stop - span.start] = True
    places = {
        each: BufferSlots(rooms.room(each, entries), batch.slots, batch.room)
        for each in occurrences(call.instruction)
    }
    rows = call.instruction.rows
    state = State(earlier[span], None if rows == "joint" else current[span])
    after = executor.part(frames, places, held).step(call.instruction, state)
    if after.current is not None:
        current[span] = after.current
    if rows != "kv-only":
        earlier[span] = after.earlier


def _drawn(
    executor: Executor, operations: Sequence[DrawNoise]
) -> list[Shaped[Tensor, "some new hidden"]]:
    """Return what each marker draws."""
    if not operations:
        return []
    keys = [executor.batch.hashed[0][each.span] for each in operations]
    counts = [each.numel() for each in keys]
    rows = torch.tensor(counts, device=keys[0].device)
    markers = marks(
        [source_of(each.instruction) for each in operations], rows.device
    ).repeat_interleave(rows, 0)
    seeded = seeds(torch.cat([each.flatten() for each in keys]), markers).split(counts)
    kinds: list[Kind] = [each.instruction.kind for each in operations]
    found: dict[int, Tensor] = {}
    for kind in dict.fromkeys(kinds):
        alike = [at for at, each in enumerate(kinds) if each == kind]
        numbers = draw(kind, torch.cat([seeded[at] for at in alike]), executor.model.hidden)
        parts = numbers.split([counts[at] for at in alike])
        found |= {
            at: part.unflatten(0, keys[at].shape) for at, part in zip(alike, parts, strict=True)
        }
    return [found[at] for at in range(len(operations))]


def _noised(
    executor: Executor,
    marker: DrawNoise,
    states: Float[Tensor, "some new hidden"],
    drawn: Shaped[Tensor, "some new hidden"],
) -> Float[Tensor, "some new hidden"]:
    noised = fitted(states, drawn.to(states.device), marker.instruction.kind)
    if not marker.instruction.keep:
        return noised
    spared = executor.batch.index[marker.span] < marker.instruction.keep
    return torch.where(spared[..., None].to(states.device), states, noised)
