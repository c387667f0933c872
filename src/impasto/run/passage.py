"""Passages: what a batch reads, cut where its sequences part.

Sequences that begin alike (a few-shot prompt, an instruction) read that beginning once: it is a
batch of one sequence, whose keys and values serve all of them. Answers to one question read their
context once, too: contexts are a batch of their own, and each answer follows its own.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile

import torch

from impasto.model.opened import OpenedModel
from impasto.run.donors import Transplant, splice
from impasto.run.rows import first_batch, following_batch
from impasto.run.tree import DonorRun
from impasto.run.walk import Walker

ROWS_PER_BATCH = 8192
_ROWS_PER_CALL = 512  # about as many rows as a batch of its own costs in calls
_STEP = 8  # passages whose lengths differ by less are as long


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
    """Return the walker of passages, those of one context behind a single reading of it."""
    contexts = _contexts(passages)
    saved = sum((len(members) - 1) * len(context) for context, members in contexts.items())
    if len(contexts) < 2 or saved < _ROWS_PER_CALL or min(map(len, contexts)) == 0:
        scored = [passage.scored for passage in passages]
        return _beginning(
            model, [p.ids for p in passages], scored, min(p.common for p in passages), records
        )
    unscored = [range(0)] * len(contexts)
    longest = min(map(len, contexts)) - 1  # each keeps a token of its own
    prefix = _beginning(model, [list(c) for c in contexts], unscored, longest, records=True)
    owner = {i: n for n, members in enumerate(contexts.values()) for i in members}
    owners = torch.tensor([owner[i] for i in range(len(passages))], device=prefix.batch.ids.device)
    batch = following_batch(
        prefix.batch,
        [passage.ids[passage.common :] for passage in passages],
        [range(len(passage.scored)) for passage in passages],
        owners,
    )
    return Walker(model, batch, records=records, prefix=prefix, owners=owners)


def _beginning(
    model: OpenedModel,
    sequences: list[list[int]],
    scored: list[range],
    most: int,
    records: bool,
) -> Walker:
    """Return the walker of sequences that read their common beginning, `most` tokens, together."""
    shared = _alike(sequences, most)
    if shared * (len(sequences) - 1) < _ROWS_PER_CALL:
        return Walker(model, first_batch(sequences, scored, model.device), records=records)
    prefix = first_batch([sequences[0][:shared]], [range(0)], model.device)
    batch = following_batch(
        prefix,
        [sequence[shared:] for sequence in sequences],
        [range(max(0, rows.start - shared), max(0, rows.stop - shared)) for rows in scored],
        prefix.ids.new_zeros(len(sequences)),
    )
    return Walker(model, batch, records=records, prefix=Walker(model, prefix, records=True))


def _contexts(passages: Sequence[Passage]) -> dict[tuple[int, ...], list[int]]:
    """Return which passages read the same tokens before what is scored, by these tokens.

    Where anything is injected, each passage counts as the only one of its context.
    """
    if any(passage.transplants for passage in passages):
        return {}
    contexts: dict[tuple[int, ...], list[int]] = {}
    for index, passage in enumerate(passages):
        contexts.setdefault(tuple(passage.ids[: passage.common]), []).append(index)
    return contexts


@dataclass(frozen=True, slots=True)
class Bundle:
    """Passages that run together because they have a context in common, or one alone.

    Attributes:
        members: Their indices.
        context: How many rows they read together.
        longest: How many rows the longest of them reads by itself, scored ones counted twice.
    """

    members: list[int]
    context: int
    longest: int


def batches(passages: Sequence[Passage], rows: int = ROWS_PER_BATCH) -> Iterator[list[int]]:
    """Yield the indices of passages that run together: alike at their beginning, and about as long.

    Args:
        passages: The passages.
        rows: The most token rows, padding included, that a batch may have. What is longer alone
            makes a batch of its own.
    """
    for group in _groups(passages):
        shared = _alike([passages[i].ids for i in group], min(passages[i].common for i in group))
        bundles = _bundles(passages, group, shared)
        bundles.sort(key=lambda bundle: (-(bundle.longest // _STEP), -bundle.context))
        for begin, end in _cuts(bundles, rows):
            yield [index for bundle in bundles[begin:end] for index in bundle.members]


def _bundles(passages: Sequence[Passage], group: Sequence[int], shared: int) -> list[Bundle]:
    """Return the passages of a group, those of one context together, past what all share."""
    members = _contexts([passages[index] for index in group]).values()
    bundles = []
    for some in [[group[i] for i in some] for some in members] or [[index] for index in group]:
        context = passages[some[0]].common - shared
        longest = max(
            len(passages[i].ids) - passages[i].common + len(passages[i].scored) for i in some
        )
        alone = len(some) == 1
        bundles.append(Bundle(some, 0 if alone else context, longest + context * alone))
    return bundles


def _cuts(bundles: Sequence[Bundle], rows: int) -> list[tuple[int, int]]:
    """Cut bundles into runs of at most so many rows, so that padding and calls cost least."""
    best: dict[int, tuple[int, int]] = {len(bundles): (0, len(bundles))}  # cost from here, next cut
    for begin in reversed(range(len(bundles))):
        context = longest = count = 0
        for end in range(begin + 1, len(bundles) + 1):
            bundle = bundles[end - 1]
            context, longest = max(context, bundle.context), max(longest, bundle.longest)
            count += len(bundle.members)
            size = (end - begin) * context + count * longest
            if begin in best and size > rows:
                break
            cost = _ROWS_PER_CALL + size + best[end][0]
            if begin not in best or cost < best[begin][0]:
                best[begin] = cost, end
    cuts, begin = [], 0
    while begin < len(bundles):
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
