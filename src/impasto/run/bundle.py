"""What runs together: bundles of token tries, padded as little as can be.

Tries that begin alike (a few-shot prompt, an instruction) read that beginning once: it is a batch
of one sequence, whose keys and values serve all of them, however many batches they make.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from impasto.model.opened import OpenedModel
from impasto.run.donors import splice
from impasto.run.flock import Flock
from impasto.run.passage import Passage, Transplant
from impasto.run.rows import first_batch, following_batch
from impasto.run.tree import DonorRun
from impasto.run.trie import Trie, alike, chain, tries
from impasto.run.walk import Walker

_T = TypeVar("_T")

ROWS_PER_CALL = 8192  # at the most
_AT_ONCE = {"cpu": 2048}  # rows after which more at once is no faster: they outgrow the caches
_CALL = {"cpu": 2.6e7}  # what a call costs, in the products that could be computed meanwhile


@dataclass(frozen=True, slots=True)
class Bundle:
    """Batches of tries, and the tokens that all of them follow."""

    batches: list[list[Trie]]
    prefix: list[int]

    @property
    def tries(self) -> list[Trie]:
        """The tries, batch by batch."""
        return [trie for batch in self.batches for trie in batch]

    @property
    def passages(self) -> list[int]:
        """The passages in here, by index, trie by trie."""
        return [index for trie in self.tries for index in trie.passages]

    @property
    def predictions(self) -> list[list[int]]:
        """For each of them, which of the walker's predictions are its own."""
        found, before = [], 0
        for trie in self.tries:
            found += [[before + place for place in places] for places in trie.predictions]
            before += len(trie.scored)
        return found

    @property
    def rows(self) -> int:
        """The rows of all batches, padding and prefix included."""
        return len(self.prefix) + sum(map(_rows, self.batches))

    @property
    def widest(self) -> int:
        """The rows of the largest batch, prefix included."""
        return len(self.prefix) + max(map(_rows, self.batches))

    def halves(self) -> "list[Bundle]":
        """Return two bundles in the place of this one; one that cannot be cut stays as it is."""
        if len(self.batches) > 1:
            middle = len(self.batches) // 2
            return [Bundle(part, self.prefix) for part in _parted(self.batches, middle)]
        [batch] = self.batches
        return [Bundle([part], self.prefix) for part in _parted(batch, len(batch) // 2)]


def bundles(
    model: OpenedModel,
    passages: Sequence[Passage],
    rows: int = ROWS_PER_CALL,
    merge: bool = True,
) -> Iterator[Bundle]:
    """Yield what runs together: alike at its beginning, and about as long.

    Args:
        model: The model that will read the passages.
        passages: The passages.
        rows: The most rows, padding included, that a bundle may have. A trie that is longer makes
            a bundle of its own.
        merge: Whether passages may share rows; else each passage is a trie of its own.
    """
    if merge:
        found = list(tries(passages, model.hidden, rows))
    else:
        order = sorted(range(len(passages)), key=lambda index: passages[index].ids)
        found = [chain(index, passages[index]) for index in order]
    if not merge:  # what is to be gone on with leaves its keys and values
        rows = min(rows, ROWS_PER_CALL)
    call, at_once = rows_per_call(model), min(rows, ROWS_PER_CALL)
    at_once = min(at_once, _AT_ONCE.get(model.device.type, at_once))
    for group, shared in _groups(found, call):
        prefix = group[0].ids[:shared]
        group = sorted((trie.cut(shared) for trie in group), key=lambda trie: -_size(trie))
        waiting: list[list[Trie]] = []
        for batch in _batches(group, at_once, call):
            is_full = len(prefix) + sum(map(_rows, [*waiting, batch])) > rows
            if waiting and (is_full or not (prefix or not merge)):
                yield Bundle(waiting, prefix)
                waiting = []
            waiting.append(batch)
        yield Bundle(waiting, prefix)


def open_flock(
    model: OpenedModel,
    passages: Sequence[Passage],
    bundle: Bundle,
    donors: Collection[str],
    records: bool = False,
) -> tuple[Flock, dict[str, DonorRun]]:
    """Return the walkers of a bundle's batches, and the donors (of these names) beside them.

    They keep keys and values for tokens to come if ``records``.
    """
    prefix = _prefix_walker(model, bundle.prefix)
    walkers = [_walker(model, batch, prefix, records) for batch in bundle.batches]
    return Flock(walkers), {name: _donor_run(model, passages, bundle, name) for name in donors}


def _donor_run(
    model: OpenedModel, passages: Sequence[Passage], bundle: Bundle, name: str
) -> DonorRun:
    """Return the walkers of the donors of this name, batch by batch, and the rows that they give.

    What all donors of the bundle begin with is a prefix of theirs.
    """
    transplants = [
        [passages[trie.passages[0]].transplants[name] for trie in batch] for batch in bundle.batches
    ]
    prompts = [
        [chain(row, _donor(name, each)) for row, each in enumerate(batch)] for batch in transplants
    ]
    every = [prompt for batch in prompts for prompt in batch]
    shared = _shared(every, rows_per_call(model))
    before = _prefix_walker(model, every[0].ids[:shared])
    walkers = [
        _walker(model, [trie.cut(shared) for trie in batch], before, records=False)
        for batch in prompts
    ]
    ahead, device = len(bundle.prefix), model.device
    return DonorRun(Flock(walkers), [splice(batch, shared, ahead, device) for batch in transplants])


def _donor(name: str, transplant: Transplant) -> Passage:
    """Return a donor prompt, of which the last token is current, as in any prompt."""
    last = len(transplant.ids) - 1
    return Passage(list(transplant.ids), range(last, last + 1), {name: transplant.mirrored()})


def _prefix_walker(model: OpenedModel, ids: list[int]) -> Walker | None:
    if not ids:
        return None
    batch = first_batch([chain(0, Passage(ids, range(0), {}))], model.device)
    return Walker(model, batch, records=True)


def _walker(
    model: OpenedModel, tries: Sequence[Trie], prefix: Walker | None, records: bool
) -> Walker:
    if prefix is None:
        return Walker(model, first_batch(tries, model.device), records=records)
    return Walker(model, following_batch(prefix.batch, tries), records=records, prefix=prefix)


def rows_per_call(model: OpenedModel) -> int:
    """Return about how many rows a layer could run in the time that a call of it costs anyway."""
    return int(_CALL.get(model.device.type, 1e11) / (24 * model.hidden**2)) + 1


def _size(trie: Trie) -> int:
    return len(trie.ids)


def _rows(batch: Sequence[Trie]) -> int:
    """Return the rows of a batch, the longest trie of which comes first."""
    return len(batch) * _size(batch[0])


def _batches(group: Sequence[Trie], at_once: int, call: int) -> Iterator[list[Trie]]:
    """Yield tries of like length, as many as one call of a block is to run."""
    for begin, end in _cuts([_size(trie) for trie in group], call):
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


def _groups(found: Sequence[Trie], call: int) -> Iterator[tuple[list[Trie], int]]:
    """Yield groups, and how many rows each reads first, parted where a larger one shares less."""
    group: list[Trie] = []
    shared = 0
    for trie in found:
        if group:
            less = alike([group[-1].ids, trie.ids], min(shared, trie.common))
            if shared * (len(group) - 1) - less * len(group) <= call:  # what parting them saves
                group.append(trie)
                shared = less
                continue
            yield group, _worth(shared, len(group), call)
        group, shared = [trie], trie.common
    if group:
        yield group, _worth(shared, len(group), call)


def _shared(found: Sequence[Trie], call: int) -> int:
    shared = alike([trie.ids for trie in found], min(trie.common for trie in found))
    return _worth(shared, len(found), call)


def _worth(shared: int, count: int, call: int) -> int:
    """Return how many rows to read first: none where that saves less than it costs in calls."""
    return shared if shared * (count - 1) >= call else 0
