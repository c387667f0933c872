"""What runs together: bundles of token tries, padded as little as can be.

Tries that begin alike (a few-shot prompt, an instruction) read that beginning once: it is a batch
of one sequence, whose keys and values serve all of them.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from impasto.model.opened import OpenedModel
from impasto.run.donors import splice
from impasto.run.passage import Passage, Transplant
from impasto.run.rows import first_batch, following_batch
from impasto.run.tree import DonorRun
from impasto.run.trie import Trie, alike, chain, tries
from impasto.run.walk import Walker

ROWS_PER_BATCH = 8192
_AT_ONCE = {"cpu": 2048}  # rows after which more at once is no faster: they outgrow the caches
_CALL = {"cpu": 2.5e7}  # what a call costs, in the products that could be computed meanwhile


@dataclass(frozen=True, slots=True)
class Bundle:
    """Tries that run as one batch, and the tokens that all of them follow."""

    tries: list[Trie]
    prefix: list[int]

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
        """The rows of the batch, padding and prefix included."""
        return len(self.prefix) + len(self.tries) * max(len(trie.ids) for trie in self.tries)

    def halves(self) -> "list[Bundle]":
        """Return two bundles in the place of this one; one that cannot be cut stays as it is."""
        middle = len(self.tries) // 2
        parts = [self.tries[:middle], self.tries[middle:]]
        return [Bundle(part, self.prefix) for part in parts if part]


def bundles(
    model: OpenedModel,
    passages: Sequence[Passage],
    rows: int = ROWS_PER_BATCH,
    merge: bool = True,
) -> Iterator[Bundle]:
    """Yield what runs together: alike at its beginning, and about as long.

    Args:
        model: The model that will read the passages.
        passages: The passages.
        rows: The most rows, padding included, that a bundle may have. A trie that is longer makes
            a bundle of its own.
        merge: Whether passages may share rows; else each is a trie of its own.
    """
    if merge:
        found = list(tries(passages, model.hidden, rows))
    else:
        order = sorted(range(len(passages)), key=lambda index: passages[index].ids)
        found = [chain(index, passages[index]) for index in order]
    call, at_once = rows_per_call(model), rows
    if merge:  # what is to be gone on with decodes together, the more the better
        at_once = min(rows, _AT_ONCE.get(model.device.type, rows))
    for group, shared in _groups(found, call):
        prefix = group[0].ids[:shared]
        group = sorted((trie.cut(shared) for trie in group), key=lambda trie: -_size(trie))
        for begin, end in _cuts([_size(trie) for trie in group], call):
            count = max(1, at_once // _size(group[begin]))
            for at in range(begin, end, count):
                yield Bundle(group[at : min(at + count, end)], prefix)


def open_bundle(
    model: OpenedModel,
    passages: Sequence[Passage],
    bundle: Bundle,
    donors: Collection[str],
    records: bool,
) -> tuple[Walker, dict[str, DonorRun]]:
    """Return the walker of a bundle, and the donors (of these names) beside it."""
    walker = _walker(model, bundle, records)
    runs = {}
    for name in donors:
        transplants = [passages[trie.passages[0]].transplants[name] for trie in bundle.tries]
        given = [chain(row, _donor(name, t)) for row, t in enumerate(transplants)]
        shared = _shared(given, rows_per_call(model))
        cut = Bundle([trie.cut(shared) for trie in given], given[0].ids[:shared])
        splices = splice(transplants, shared, walker.shared, model.device)
        runs[name] = DonorRun(_walker(model, cut, records=False), splices)
    return walker, runs


def _donor(name: str, transplant: Transplant) -> Passage:
    """Return a donor prompt, of which the last token is current, as in any prompt."""
    last = len(transplant.ids) - 1
    return Passage(list(transplant.ids), range(last, last + 1), {name: transplant.mirrored()})


def _walker(model: OpenedModel, bundle: Bundle, records: bool) -> Walker:
    if not bundle.prefix:
        return Walker(model, first_batch(bundle.tries, model.device), records=records)
    prefix = first_batch([chain(0, Passage(bundle.prefix, range(0), {}))], model.device)
    batch = following_batch(prefix, bundle.tries)
    return Walker(model, batch, records=records, prefix=Walker(model, prefix, records=True))


def rows_per_call(model: OpenedModel) -> int:
    """Return about how many rows a layer could run in the time that a call of it costs anyway."""
    return int(_CALL.get(model.device.type, 1e11) / (24 * model.hidden**2)) + 1


def _size(trie: Trie) -> int:
    return len(trie.ids)


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
