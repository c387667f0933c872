"""Passages: what a batch reads, cut where its sequences part.

Sequences that begin alike (a few-shot prompt, an instruction, the context of several answers) read
that beginning once: it is a batch of one sequence, whose keys and values serve all of them.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile

from impasto.model.opened import OpenedModel
from impasto.run.donors import Transplant, splice
from impasto.run.rows import first_batch, following_batch
from impasto.run.tree import DonorRun
from impasto.run.walk import Walker

ROWS_PER_BATCH = 8192
_ROWS_PER_CALL = 512  # about as many rows as a batch of its own costs in calls


@dataclass(frozen=True, slots=True)
class Passage:
    """Tokens to read, the rows after which predictions are wanted, and what is injected."""

    ids: list[int]
    scored: range
    transplants: Mapping[str, Transplant]

    @property
    def common(self) -> int:
        """How many leading tokens may be read together with other passages'."""
        targets = [row for t in self.transplants.values() for _, row in t.rows]
        return min([self.scored.start, *targets])


def open_passages(
    model: OpenedModel, passages: Sequence[Passage], donors: Collection[str], records: bool
) -> tuple[Walker, dict[str, DonorRun]]:
    """Return the walker of some passages, and the donors (of these names) beside it."""
    walker = _walker(model, passages, records)
    runs = {}
    for name in donors:
        transplants = [passage.transplants[name] for passage in passages]
        given = [
            Passage(list(t.ids), range(len(t.ids) - 1, len(t.ids)), {name: t.mirrored()})
            for t in transplants
        ]
        donor = _walker(model, given, records=False)
        runs[name] = DonorRun(donor, splice(transplants, donor.shared, walker.shared, model.device))
    return walker, runs


def _walker(model: OpenedModel, passages: Sequence[Passage], records: bool) -> Walker:
    sequences = [passage.ids for passage in passages]
    scored = [passage.scored for passage in passages]
    shared = _alike(sequences, min(passage.common for passage in passages))
    if shared * (len(sequences) - 1) < _ROWS_PER_CALL:
        return Walker(model, first_batch(sequences, scored, model.device), records=records)
    prefix = first_batch([sequences[0][:shared]], [range(0)], model.device)
    batch = following_batch(
        prefix,
        [sequence[shared:] for sequence in sequences],
        [range(rows.start - shared, rows.stop - shared) for rows in scored],
    )
    return Walker(model, batch, records=records, prefix=Walker(model, prefix, records=True))


def batches(passages: Sequence[Passage], rows: int = ROWS_PER_BATCH) -> Iterator[list[int]]:
    """Yield the indices of passages that run together: alike at their beginning, and about as long.

    Args:
        passages: The passages.
        rows: The most token rows, padding included, that a batch may have. A passage that is
            longer makes a batch of its own.
    """
    for group in _groups(passages):
        shared = _alike([passages[i].ids for i in group], min(passages[i].common for i in group))
        sizes = {i: len(passages[i].ids) - shared + len(passages[i].scored) for i in group}
        order = sorted(group, key=lambda index: -sizes[index])
        for begin, end in _cuts([sizes[index] for index in order]):
            count = max(1, rows // sizes[order[begin]])
            for at in range(begin, end, count):
                yield order[at : min(at + count, end)]


def _cuts(sizes: Sequence[int]) -> list[tuple[int, int]]:
    """Cut descending sizes into runs, so that padding and the calls for each run cost least."""
    bounds = [0, *(i for i in range(1, len(sizes)) if sizes[i] != sizes[i - 1]), len(sizes)]
    best: dict[int, tuple[int, int]] = {len(sizes): (0, len(sizes))}  # cost from here on, next cut
    for at, begin in reversed(list(enumerate(bounds[:-1]))):
        best[begin] = min(
            (_ROWS_PER_CALL + (end - begin) * sizes[begin] + best[end][0], end)
            for end in bounds[at + 1 :]
        )
    cuts, begin = [], 0
    while begin < len(sizes):
        cuts.append((begin, best[begin][1]))
        begin = best[begin][1]
    return cuts


def _groups(passages: Sequence[Passage]) -> Iterator[list[int]]:
    """Yield groups in the order of their tokens, parted where a larger group would share less."""
    group: list[int] = []
    shared = 0
    for index in sorted(range(len(passages)), key=lambda index: passages[index].ids):
        passage = passages[index]
        if group:
            less = _alike([passages[group[-1]].ids, passage.ids], min(shared, passage.common))
            if (shared - less) * len(group) - less <= _ROWS_PER_CALL:
                group.append(index)
                shared = less
                continue
            yield group
        group, shared = [index], passage.common
    if group:
        yield group


def _alike(sequences: Sequence[list[int]], most: int) -> int:
    """Return how many leading tokens, ``most`` at the most, all sequences share."""
    columns = zip(*(sequence[:most] for sequence in sequences), strict=False)
    return sum(1 for _ in takewhile(lambda column: len(set(column)) == 1, columns))
