"""Where plans that decode together keep their keys and values.

A room belongs to one attention occurrence of a run of neighbouring plans, so that a call for any
of them, or for several side by side, reads and writes its part of it in place.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

import torch

from impasto.run.begun import Begun
from impasto.run.slot import KeysValues, Room

Label = tuple[int, int]  # a layer, and how often the plan's attention ran there before


@dataclass(frozen=True)
class Rooms:
    """The rooms of each occurrence, each with the batch entries that it is for."""

    rooms: Mapping[Label, Sequence[tuple[slice, Room]]]

    @classmethod
    def furnished(
        cls, begun: list[Begun], labels: Sequence[Sequence[Label]], width: int, more: int
    ) -> "Rooms":
        """Return rooms that hold what some plans kept.

        Plans leave the list as what they kept is copied, so that it is never there twice.

        Args:
            begun: The plans, neighbours side by side.
            labels: Of each, its attention occurrences in order.
            width: How many slots there are at first.
            more: For how many slots behind them there is to be room.
        """
        spans = spans_of(len(each.written) for each in begun)
        rooms = _unfilled(begun, labels, spans, width, more)
        for own, span in reversed(list(zip(labels, spans, strict=True))):
            each = begun.pop()
            for label, kept in zip(own, each.kept, strict=True):
                rooms.room(label, span).fill(kept.of(each.slots))
        return rooms

    def room(self, label: Label, span: slice) -> Room:
        """Return the room of some batch entries, all of which have the occurrence."""
        for place, room in self.rooms[label]:
            if place.start <= span.start and span.stop <= place.stop:
                return room.part(slice(span.start - place.start, span.stop - place.start))
        raise KeyError(label, span)

    def left(self, active: Sequence[bool]) -> "Rooms":
        """Return the rooms with the active batch entries only."""
        mask = torch.tensor(active)
        rooms: dict[Label, list[tuple[slice, Room]]] = {}
        for label, entries in self.rooms.items():
            for span, room in entries:
                index = mask[span].nonzero()[:, 0].to(room.keys.device)
                begin = sum(active[: span.start])
                if len(index):
                    place = slice(begin, begin + len(index))
                    rooms.setdefault(label, []).append((place, room.of(index)))
        return Rooms(rooms)

    def lengthen(self) -> None:
        """Take the next slot of every room as filled."""
        for entries in self.rooms.values():
            for _, room in entries:
                room.length += 1


def spans_of(counts: Iterable[int]) -> list[slice]:
    """Return which batch entries are each one's, given how many each has."""
    return [slice(begin, end) for begin, end in pairwise(accumulate(counts, initial=0))]


def _unfilled(
    begun: Sequence[Begun],
    labels: Sequence[Sequence[Label]],
    spans: Sequence[slice],
    width: int,
    more: int,
) -> Rooms:
    runs: dict[Label, list[tuple[slice, KeysValues]]] = {}
    for each, own, span in zip(begun, labels, spans, strict=True):
        for label, kept in zip(own, each.kept, strict=True):
            known = runs.setdefault(label, [])
            if known and known[-1][0].stop == span.start:
                known[-1] = (slice(known[-1][0].start, span.stop), kept)
            else:
                known.append((span, kept))
    return Rooms(
        {
            label: [(span, Room.like(k, span.stop - span.start, width, more)) for span, k in known]
            for label, known in runs.items()
        }
    )
