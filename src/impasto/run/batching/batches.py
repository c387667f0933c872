"""What runs together: bundles of token prefix trees, padded as little as can be.

Tries that begin alike (a few-shot prompt, an instruction) read that beginning once: it is a batch
of one sequence, whose keys and values serve all of them, however many batches they make.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from impasto.model.decoder import OpenedModel
from impasto.run.batching.donors import splice
from impasto.run.batching.prefix_tree import PrefixTree, alike, chain, prefix_trees
from impasto.run.batching.request import TokenRequest, Transplant
from impasto.run.execute.executor import Executor
from impasto.run.execute.plan_tree import DonorRun
from impasto.run.execute.rows import first_batch, following_batch
from impasto.run.execute.shared_prefix import GroupExecutor
from impasto.run.tuning import (
    PRODUCTS_PER_CALL,
    PRODUCTS_PER_CALL_ELSEWHERE,
    ROWS_AT_ONCE,
    ROWS_PER_CALL,
)

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class BatchGroup:
    """Batches of prefix trees, and the tokens that all of them follow."""

    batches: list[list[PrefixTree]]
    prefix: list[int]

    @property
    def prefix_trees(self) -> list[PrefixTree]:
        """The prefix trees, batch by batch."""
        return [prefix_tree for batch in self.batches for prefix_tree in batch]

    @property
    def passages(self) -> list[int]:
        """The passages in here, by index, prefix tree by prefix_tree."""
        return [index for prefix_tree in self.prefix_trees for index in prefix_tree.passages]

    @property
    def predictions(self) -> list[list[int]]:
        """For each of them, which of the executor's predictions are its own."""
        found, before = [], 0
        for prefix_tree in self.prefix_trees:
            found += [[before + place for place in places] for places in prefix_tree.predictions]
            before += len(prefix_tree.scored)
        return found

    @property
    def rows(self) -> int:
        """The rows of all batches, padding and prefix included."""
        return len(self.prefix) + sum(map(_rows, self.batches))

    @property
    def widest(self) -> int:
        """The rows of the largest batch, prefix included."""
        return len(self.prefix) + max(map(_rows, self.batches))

    def halves(self) -> "list[BatchGroup]":
        """Return two bundles in the place of this one; one that cannot be cut stays as it is."""
        if len(self.batches) > 1:
            middle = len(self.batches) // 2
            return [BatchGroup(part, self.prefix) for part in _parted(self.batches, middle)]
        [batch] = self.batches
        return [BatchGroup([part], self.prefix) for part in _parted(batch, len(batch) // 2)]


def bundles(
    model: OpenedModel,
    passages: Sequence[TokenRequest],
    rows: int = ROWS_PER_CALL,
    merge: bool = True,
) -> Iterator[BatchGroup]:
    """Yield what runs together: alike at its beginning, and about as long.

    Args:
        model: The model that will read the passages.
        passages: The passages.
        rows: The most rows, padding included, that a bundle may have. A prefix tree that is longer makes
            a bundle of its own.
        merge: Whether passages may share rows; else each passage is a prefix tree of its own.
    """
    if merge:
        found = list(prefix_trees(passages, model.hidden, rows))
    else:
        order = sorted(range(len(passages)), key=lambda index: passages[index].ids)
        found = [chain(index, passages[index]) for index in order]
    if not merge:  # what is to be gone on with leaves its keys and values
        rows = min(rows, ROWS_PER_CALL)
    call, at_once = rows_per_call(model), min(rows, ROWS_PER_CALL)
    at_once = min(at_once, ROWS_AT_ONCE.get(model.device.type, at_once))
    for group, shared in _groups(found, call):
        prefix = group[0].ids[:shared]
        group = sorted(
            (prefix_tree.cut(shared) for prefix_tree in group),
            key=lambda prefix_tree: -_size(prefix_tree),
        )
        waiting: list[list[PrefixTree]] = []
        for batch in _batches(group, at_once, call):
            is_full = len(prefix) + sum(map(_rows, [*waiting, batch])) > rows
            if waiting and (is_full or not (prefix or not merge)):
                yield BatchGroup(waiting, prefix)
                waiting = []
            waiting.append(batch)
        yield BatchGroup(waiting, prefix)


def open_group(
    model: OpenedModel,
    passages: Sequence[TokenRequest],
    bundle: BatchGroup,
    donors: Collection[str],
    records: bool = False,
) -> tuple[GroupExecutor, dict[str, DonorRun]]:
    """Return the executors of a bundle's batches, and the donors (of these names) beside them.

    They keep keys and values for tokens to come if ``records``.
    """
    prefix = _prefix_walker(model, bundle.prefix)
    executors = [_walker(model, batch, prefix, records) for batch in bundle.batches]
    return GroupExecutor(executors), {
        name: _donor_run(model, passages, bundle, name) for name in donors
    }


def _donor_run(
    model: OpenedModel, passages: Sequence[TokenRequest], bundle: BatchGroup, name: str
) -> DonorRun:
    """Return the executors of the donors of this name, batch by batch, and the rows that they give.

    What all donors of the bundle begin with is a prefix of theirs.
    """
    transplants = [
        [passages[prefix_tree.passages[0]].transplants[name] for prefix_tree in batch]
        for batch in bundle.batches
    ]
    prompts = [
        [chain(row, _donor(name, each)) for row, each in enumerate(batch)] for batch in transplants
    ]
    every = [prompt for batch in prompts for prompt in batch]
    shared = _shared(every, rows_per_call(model))
    before = _prefix_walker(model, every[0].ids[:shared])
    executors = [
        _walker(model, [prefix_tree.cut(shared) for prefix_tree in batch], before, records=False)
        for batch in prompts
    ]
    ahead, device = len(bundle.prefix), model.device
    return DonorRun(
        GroupExecutor(executors), [splice(batch, shared, ahead, device) for batch in transplants]
    )


def _donor(name: str, transplant: Transplant) -> TokenRequest:
    """Return a donor prompt, of which the last token is current, as in any prompt."""
    last = len(transplant.ids) - 1
    return TokenRequest(list(transplant.ids), range(last, last + 1), {name: transplant.mirrored()})


def _prefix_walker(model: OpenedModel, ids: list[int]) -> Executor | None:
    if not ids:
        return None
    batch = first_batch([chain(0, TokenRequest(ids, range(0), {}))], model.device)
    return Executor(model, batch, records=True)


def _walker(
    model: OpenedModel, prefix_trees: Sequence[PrefixTree], prefix: Executor | None, records: bool
) -> Executor:
    if prefix is None:
        return Executor(model, first_batch(prefix_trees, model.device), records=records)
    return Executor(
        model, following_batch(prefix.batch, prefix_trees), records=records, prefix=prefix
    )


def rows_per_call(model: OpenedModel) -> int:
    """Return about how many rows a layer could run in the time that a call of it costs anyway."""
    return (
        int(
            PRODUCTS_PER_CALL.get(model.device.type, PRODUCTS_PER_CALL_ELSEWHERE)
            / (24 * model.hidden**2)
        )
        + 1
    )


def _size(prefix_tree: PrefixTree) -> int:
    return len(prefix_tree.ids)


def _rows(batch: Sequence[PrefixTree]) -> int:
    """Return the rows of a batch, the longest prefix tree of which comes first."""
    return len(batch) * _size(batch[0])


def _batches(group: Sequence[PrefixTree], at_once: int, call: int) -> Iterator[list[PrefixTree]]:
    """Yield prefix trees of like length, as many as one call of a block is to run."""
    for begin, end in _cuts([_size(prefix_tree) for prefix_tree in group], call):
        count = max(1, at_once // _size(group[begin]))
        for at in range(begin, end, count):
            yield list(group[at : min(at + count, end)])


def _parted(some: list[_T], at: int) -> list[list[_T]]:
    return [part for part in (some[:at], some[at:]) if part]


def _cuts(sizes: Sequence[int], call: int) -> list[tuple[int, int]]:
    """Cut descending sizes into runs, so that padding and the calls for each run cost least."""
    bounds = [0, *(i for i in range(1, len(sizes)) if sizes[i] != sizes[i - 1]), len(sizes)]
    best: dict[int, tuple[int, int]] = {len(sizes): (0, len(sizes))}  # cost from here on, next cut
    for at, begin in reversed(list(enumerate(bounds[:-1]))):
        best[begin] = min(
            (call + (end - begin) * sizes[begin] + best[end][0], end) for end in bounds[at + 1 :]
        )
    cuts, begin = [], 0
    while begin < len(sizes):
        cuts.append((begin, best[begin][1]))
        begin = best[begin][1]
    return cuts


def _groups(found: Sequence[PrefixTree], call: int) -> Iterator[tuple[list[PrefixTree], int]]:
    """Yield groups, and how many rows each reads first, parted where a larger one shares less."""
    group: list[PrefixTree] = []
    shared = 0
    for prefix_tree in found:
        if group:
            less = alike([group[-1].ids, prefix_tree.ids], min(shared, prefix_tree.common))
            if shared * (len(group) - 1) - less * len(group) <= call:  # what parting them saves
                group.append(prefix_tree)
                shared = less
                continue
            yield group, _worth(shared, len(group), call)
        group, shared = [prefix_tree], prefix_tree.common
    if group:
        yield group, _worth(shared, len(group), call)


def _shared(found: Sequence[PrefixTree], call: int) -> int:
    shared = alike(
        [prefix_tree.ids for prefix_tree in found], min(prefix_tree.common for prefix_tree in found)
    )
    return _worth(shared, len(found), call)


def _worth(shared: int, count: int, call: int) -> int:
    """Return how many rows to read first: none where that saves less than it costs in calls."""
    return shared if shared * (count - 1) >= call else 0
