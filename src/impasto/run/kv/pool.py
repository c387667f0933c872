"""Where plans that decode together keep their keys and values.

A room belongs to one attention occurrence of a run of neighbouring plans, so that a call for any
of them, or for several side by side, reads and writes its part of it in place.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, groupby, pairwise

from impasto.plan.program import Occurrence
from impasto.run.generate.decoding_plan import DecodingPlan
from impasto.run.kv.cache import KVBuffer


@dataclass(frozen=True)
class KVPool:
    """The rooms of each occurrence, each with the batch entries that it is for."""

    rooms: Mapping[Occurrence, Sequence[tuple[slice, KVBuffer]]]
    _parts: dict[tuple[Occurrence, int, int], KVBuffer] = field(default_factory=dict)

    @classmethod
    def filled_with(cls, decoding: Sequence[DecodingPlan], length: int) -> "KVPool":
        """Return rooms of a length for some plans, neighbours side by side.

        What the plans kept is moved into them, occurrence by occurrence, so that it is never there
        twice.
        """
        spans = spans_of(len(each.texts) for each in decoding)
        rooms: dict[Occurrence, list[tuple[slice, KVBuffer]]] = {}
        for label in dict.fromkeys(label for each in decoding for label in each.kept):
            pairs = zip(decoding, spans, strict=True)
            for has, run in groupby(pairs, key=lambda pair: label in pair[0].kept):
                if has:
                    rooms.setdefault(label, []).append(_filled_with(label, list(run), length))
        return cls(rooms)

    def room(self, label: Occurrence, span: slice) -> KVBuffer:
        """Return the room of some batch entries, all of which have the occurrence."""
        key = (label, span.start, span.stop)
        if key not in self._parts:
            self._parts[key] = self._part(label, span)
        return self._parts[key]

    def _part(self, label: Occurrence, span: slice) -> KVBuffer:
        for place, room in self.rooms[label]:
            if place.start <= span.start and span.stop <= place.stop:
                return room.part(slice(span.start - place.start, span.stop - place.start))
        raise KeyError(label, span)


def spans_of(counts: Iterable[int]) -> list[slice]:
    """Return which batch entries are each one's, given how many each has."""
    return [slice(begin, end) for begin, end in pairwise(accumulate(counts, initial=0))]


def _filled_with(
    label: Occurrence, run: Sequence[tuple[DecodingPlan, slice]], length: int
) -> tuple[slice, KVBuffer]:
    """Return the room of one occurrence of neighbouring plans, and their batch entries."""
    span = slice(run[0][1].start, run[-1][1].stop)
    room = KVBuffer.like(run[0][0].kept[label], span.stop - span.start, length, transposed=True)
    room.fill_all([(own.start - span.start, each.moved(label)) for each, own in run])
    return span, room
