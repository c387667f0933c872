"""The KV buffers of plans that decode together, and the keys and values before them.

A buffer belongs to one occurrence of neighbouring plans, so that a call for any of them, or for
several side by side, reads and writes its part of it in place. What all texts of a plan have in
common, since one prefix stands before all prompts, lies before the buffers and is never copied.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, groupby, pairwise

from impasto.plan.program import Occurrence
from impasto.plan.steps import Reach
from impasto.run.attention.few_rows import reads_transposed_keys
from impasto.run.common_keys import CommonKeys, CommonRun
from impasto.run.generate.decoding_plan import DecodingPlan
from impasto.run.kv.buffers import KeysValues, KVBuffer
from impasto.run.kv.ring import Ring


def spans_of(counts: Iterable[int]) -> list[slice]:
    """Return each plan's span of the sequences, given how many each has, side by side."""
    return [slice(begin, end) for begin, end in pairwise(accumulate(counts, initial=0))]


@dataclass(frozen=True)
class KVPool:
    """The KV buffers of plans that decode together.

    Attributes:
        buffers: By occurrence, buffers and the span of sequences that each is for.
        common: By occurrence, the keys and values before those, and the span of sequences that have
            them in common; none where the buffers hold all.
    """

    buffers: Mapping[Occurrence, Sequence[tuple[slice, KVBuffer]]]
    common: Mapping[Occurrence, Sequence[tuple[slice, KeysValues]]]
    _parts: dict[tuple[Occurrence, int, int], tuple[KVBuffer, CommonKeys | None]] = field(
        default_factory=dict
    )

    @classmethod
    def of(cls, plans: Sequence[DecodingPlan], capacity: int) -> "KVPool":
        """Return buffers of a capacity (tokens) that hold the keys and values of some plans.

        The plans release theirs occurrence by occurrence, so that not all are in memory twice.
        """
        spans = spans_of(len(plan.texts) for plan in plans)
        buffers: dict[Occurrence, list[tuple[slice, KVBuffer]]] = {}
        common: dict[Occurrence, list[tuple[slice, KeysValues]]] = {}
        for plan, span in zip(plans, spans, strict=True):
            for occurrence, pair in plan.common.items():
                common.setdefault(occurrence, []).append((span, pair))
        for occurrence in dict.fromkeys(each for plan in plans for each in plan.keys_values):
            pairs = zip(plans, spans, strict=True)
            for (has, reach), some in groupby(pairs, key=lambda pair: _holds(pair[0], occurrence)):
                run = list(some)
                if has:
                    in_buffer = capacity - run[0][0].in_common
                    held = in_buffer if reach is None else min(capacity, Ring.of(reach).size + 1)
                    filled = _fill_buffer(occurrence, run, held)
                    buffers.setdefault(occurrence, []).append(filled)
        return cls(buffers, common)

    def part(self, occurrence: Occurrence, span: slice) -> tuple[KVBuffer, CommonKeys | None]:
        """Return the buffer of some sequences, all of whose plans have the occurrence.

        Beside it, what they have in common before it.
        """
        key = (occurrence, span.start, span.stop)
        if key not in self._parts:
            self._parts[key] = self._view(occurrence, span), self._common_keys(occurrence, span)
        return self._parts[key]

    def _common_keys(self, occurrence: Occurrence, span: slice) -> CommonKeys | None:
        """Plans that began alike have the very same ones, and are one run."""
        runs: list[CommonRun] = []
        for own, pair in self.common.get(occurrence, ()):
            if not (span.start <= own.start and own.stop <= span.stop):
                continue
            count = own.stop - own.start
            if runs and runs[-1].keys is pair.keys:
                runs[-1] = runs[-1]._replace(sequences=runs[-1].sequences + count)
            else:
                runs.append(CommonRun(count, *pair))
        return CommonKeys(runs[0].keys.shape[2], runs) if runs else None

    def _view(self, occurrence: Occurrence, span: slice) -> KVBuffer:
        for whole, buffer in self.buffers[occurrence]:
            if whole.start <= span.start and span.stop <= whole.stop:
                return buffer.sequences(slice(span.start - whole.start, span.stop - whole.start))
        raise KeyError(occurrence, span)


def _holds(plan: DecodingPlan, occurrence: Occurrence) -> tuple[bool, Reach | None]:
    """Return whether a plan has keys and values at an occurrence, and what that sees at the most.

    Plans of which some see less than others have no buffer together.
    """
    return occurrence in plan.keys_values, plan.program.reaches.get(occurrence)


def _fill_buffer(
    occurrence: Occurrence, run: Sequence[tuple[DecodingPlan, slice]], capacity: int
) -> tuple[slice, KVBuffer]:
    """Return the span of some neighbouring plans, and the buffer with their keys and values."""
    span = slice(run[0][1].start, run[-1][1].stop)
    example = run[0][0].keys_values[occurrence]
    transposed = reads_transposed_keys(example.keys)
    buffer = KVBuffer.empty_like(example, span.stop - span.start, capacity, transposed)
    buffer.move_in([(own.start - span.start, plan.release(occurrence)) for plan, own in run])
    return span, buffer
