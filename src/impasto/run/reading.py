"""Reading the next tokens of plans side by side: one run of a schedule.

Noise depends on the states by their norm alone. So what all markers draw for the new tokens is
drawn at once, before the first layer runs.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from impasto.plan.program import occurrences
from impasto.run.noise import Kind, draw, fitted, marks, seeds
from impasto.run.rooms import Rooms
from impasto.run.rows import Frames
from impasto.run.schedule import Call, Noised, Operation, Parted
from impasto.run.slot import Place
from impasto.run.walk import State, Walker, source_of


def read(
    walker: Walker, operations: Sequence[Operation], rooms: Rooms, places: Sequence[slice]
) -> Float[Tensor, "batch new hidden"]:
    """Return the final states of new tokens, each as the current one.

    Args:
        walker: Walks the new tokens of all plans, whose past lies in rooms.
        operations: The schedule.
        rooms: The rooms; keys and values of the new tokens are written there.
        places: Which entries of the rooms each plan has.
    """
    earlier = walker.start().earlier.clone()
    current = torch.empty_like(earlier)
    drawn = _drawn(walker, [each for each in operations if isinstance(each, Noised)])
    frames: dict[tuple[int, int], Frames] = {}  # of the spans of calls
    for operation in operations:
        match operation:
            case Parted(span):
                current[span] = earlier[span]
            case Noised(span):
                earlier[span] = _noised(walker, operation, earlier[span], drawn.pop(0))
            case Call():
                past = slice(places[operation.plans[0]].start, places[operation.plans[-1]].stop)
                key = (span := operation.span).start, span.stop
                frames[key] = frames.get(key) or walker.frames.part(span)
                _run(walker, frames[key], operation, (rooms, past), earlier, current)
    return current


def _run(
    walker: Walker,
    frames: Frames,
    call: Call,
    past: tuple[Rooms, slice],
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
        each: Place(rooms.room(each, entries), batch.slots, batch.room)
        for each in occurrences(call.instruction)
    }
    rows = call.instruction.rows
    state = State(earlier[span], None if rows == "joint" else current[span])
    after = walker.part(frames, places, held).step(call.instruction, state)
    if after.current is not None:
        current[span] = after.current
    if rows != "kv-only":
        earlier[span] = after.earlier


def _drawn(walker: Walker, operations: Sequence[Noised]) -> list[Shaped[Tensor, "some new hidden"]]:
    """Return what each marker draws."""
    if not operations:
        return []
    keys = [walker.batch.hashed[0][each.span] for each in operations]
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
        numbers = draw(kind, torch.cat([seeded[at] for at in alike]), walker.model.hidden)
        parts = numbers.split([counts[at] for at in alike])
        found |= {
            at: part.unflatten(0, keys[at].shape) for at, part in zip(alike, parts, strict=True)
        }
    return [found[at] for at in range(len(operations))]


def _noised(
    walker: Walker,
    marker: Noised,
    states: Float[Tensor, "some new hidden"],
    drawn: Shaped[Tensor, "some new hidden"],
) -> Float[Tensor, "some new hidden"]:
    noised = fitted(states, drawn.to(states.device), marker.instruction.kind)
    if not marker.instruction.keep:
        return noised
    spared = walker.batch.index[marker.span] < marker.instruction.keep
    return torch.where(spared[..., None].to(states.device), states, noised)
