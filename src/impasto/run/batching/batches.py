"""Which requests run together: batches of prefix trees with little padding, in groups.

Requests that begin alike are merged into prefix trees (:mod:`impasto.run.batching.prefix_tree`).
Trees that begin alike (a few-shot prompt, an instruction) make a group: their beginning is read
once, as a batch of one sequence, and its keys and values serve all batches of the group. What is
read once saves rows and costs further calls of each block, so all choices here weigh rows against
calls, in rows (:func:`rows_per_call`).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch

from impasto.model.decoder import OpenedModel
from impasto.run.batching.prefix_tree import PrefixTree, chain, prefix_trees, shared_length
from impasto.run.batching.request import TokenRequest
from impasto.run.tuning import (
    LEAST_PREFIX,
    LEAST_TEXTS,
    MASK_ALIGNMENT,
    NUMBERS_OF_MASKS,
    NUMBERS_OF_MASKS_ELSEWHERE,
    PRODUCTS_PER_CALL,
    PRODUCTS_PER_CALL_ELSEWHERE,
    ROWS_AT_ONCE,
    ROWS_PER_CALL,
)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class BatchGroup:
    """Batches that run together, and the prefix that is read once for all of them.

    Attributes:
        batches: The prefix trees of each batch, the longest first, without the prefix.
        prefix: The token ids that all of them follow; empty without any.
    """

    batches: list[list[PrefixTree]]
    prefix: list[int]

    @property
    def prefix_trees(self) -> list[PrefixTree]:
        """The prefix trees, batch by batch."""
        return [prefix_tree for batch in self.batches for prefix_tree in batch]

    @property
    def requests(self) -> list[int]:
        """The requests (by index) in this group, prefix tree by prefix tree."""
        return [index for prefix_tree in self.prefix_trees for index in prefix_tree.requests]

    @property
    def predictions(self) -> list[list[int]]:
        """For each of these requests, its predictions (by index) among those of the executor."""
        predictions, before = [], 0
        for prefix_tree in self.prefix_trees:
            for indices in prefix_tree.predictions:
                predictions.append([before + index for index in indices])
            before += len(prefix_tree.scored)
        return predictions

    @property
    def rows(self) -> int:
        """The rows of all batches, padding and prefix included."""
        return len(self.prefix) + sum(map(_rows, self.batches))

    @property
    def rows_at_once(self) -> int:
        """The rows of the largest batch, padding and prefix included."""
        return len(self.prefix) + max(map(_rows, self.batches))

    @property
    def pairs(self) -> int:
        """The pairs of rows and keys of all batches, where every scored row runs twice."""
        rows = [(len(batch), len(batch[0].ids) + _scored(batch)) for batch in self.batches]
        return sum(size * each * (len(self.prefix) + each) for size, each in rows)

    def lets_masks_go(self, device: torch.device) -> bool:
        """Whether each batch's masks are made for a step and let go after it: they are too many."""
        most = NUMBERS_OF_MASKS.get(device.type, NUMBERS_OF_MASKS_ELSEWHERE)
        return len(self.batches) > 1 and self.pairs > most

    def halves(self) -> "list[BatchGroup]":
        """Return two groups in the place of this one; or this one, if it has a single sequence."""
        if len(self.batches) > 1:
            middle = len(self.batches) // 2
            return [BatchGroup(part, self.prefix) for part in _parts(self.batches, middle)]
        [batch] = self.batches
        return [BatchGroup([part], self.prefix) for part in _parts(batch, len(batch) // 2)]


def cut(group: BatchGroup, requests: Sequence[TokenRequest]) -> list[BatchGroup]:
    """Return two groups in the place of one with a single tree; that one, if it has one request.

    What requests of both halves share beside the prefix is then read twice.
    """
    [tree] = group.prefix_trees
    parts = _parts(tree.requests, len(tree.requests) // 2)
    if len(parts) == 1:
        return [group]
    groups = []
    for part in parts:
        half = PrefixTree()
        for index in part:
            half.add(index, requests[index])
        groups.append(BatchGroup([[half.without_prefix(len(group.prefix))]], group.prefix))
    return groups


def batch_groups(
    model: OpenedModel,
    requests: Sequence[TokenRequest],
    rows: int = ROWS_PER_CALL,
    merge: bool = True,
    whole_prompts: bool = False,
) -> Iterator[BatchGroup]:
    """Yield groups of requests that begin alike, in batches of requests of about the same length.

    Args:
        model: The model that will read the requests.
        requests: The requests.
        rows: The most rows, padding included, that a group may have. A longer prefix tree makes a
            group of its own.
        merge: Whether requests may share rows; else each is a prefix tree of its own, and batches
            without a prefix share a group too, since they decode together: as many as it takes
            until more texts at once would be no faster.
        whole_prompts: Whether only requests of one prompt may share rows beside the prefix.
    """
    if merge:
        least = max(LEAST_PREFIX, rows_per_call(model))
        trees = list(prefix_trees(requests, model.hidden, rows, whole_prompts, least))
    else:
        order = sorted(range(len(requests)), key=lambda index: requests[index].ids)
        trees = [chain(index, requests[index]) for index in order]
    call_cost, at_once = rows_per_call(model), min(rows, ROWS_PER_CALL)
    at_once = min(at_once, ROWS_AT_ONCE.get(model.counted_device.type, at_once))
    for alike, length in _beginning_alike(trees, call_cost):
        prefix = alike[0].ids[:length]
        remaining = sorted((tree.without_prefix(length) for tree in alike), key=_negative_size)
        batches: list[list[PrefixTree]] = []
        own = 0 if merge else length - in_common(model, length)  # of the prefix, each its own
        kept = rows, own
        for batch in _batches(remaining, at_once, call_cost if model.packs_rows else None, kept):
            if merge:
                is_full = not prefix or length + sum(map(_rows, [*batches, batch])) > rows
            else:
                is_full = _decode_apart(batches, batch, own, rows, texts_at_once(model))
            if batches and is_full:
                yield BatchGroup(batches, prefix)
                batches = []
            batches.append(batch)
        yield BatchGroup(batches, prefix)


def _decode_apart(
    batches: Sequence[list[PrefixTree]],
    batch: list[PrefixTree],
    prefix: int,
    rows: int,
    enough: int,
) -> bool:
    """Whether a batch does not decode with those before it.

    Args:
        batches: Those before it.
        batch: The batch.
        prefix: How many further tokens each sequence has keys and values of.
        rows: The most rows of which keys and values fit into memory.
        enough: How many texts decode together before more would be no faster; rows that are few
            are no reason to part.
    """
    new = sum(map(_rows, [*batches, batch]))
    texts = sum(map(len, batches))
    is_enough = texts >= enough and prefix + new > ROWS_PER_CALL
    return is_enough or new + prefix * (texts + len(batch)) > rows


def in_common(model: OpenedModel, prefix: int) -> int:
    """Return of how many tokens of a prefix all texts behind it have keys and values in common."""
    is_aligned = model.counted_device.type != "cpu"
    return prefix - prefix % (MASK_ALIGNMENT if is_aligned else 1) if model.reads_common else 0


def rows_per_call(model: OpenedModel) -> int:
    """Return about how many rows a layer could run in the time that a call of it costs anyway."""
    products = PRODUCTS_PER_CALL.get(model.counted_device.type, PRODUCTS_PER_CALL_ELSEWHERE)
    return int(products / (24 * model.hidden**2)) + 1


def texts_at_once(model: OpenedModel) -> int:
    """Return how many texts decode together before more would be no faster."""
    return max(LEAST_TEXTS, rows_per_call(model))


def _negative_size(prefix_tree: PrefixTree) -> int:
    return -len(prefix_tree.ids)


def _rows(batch: Sequence[PrefixTree]) -> int:
    """Return the rows of a batch, padding included; its longest prefix tree comes first."""
    return len(batch) * len(batch[0].ids)


def _scored(batch: Sequence[PrefixTree]) -> int:
    """Return how many rows of each sequence of a batch are scored, padding included."""
    return max(len(tree.scored) for tree in batch)


def _parts(values: list[T], at: int) -> list[list[T]]:
    """Return the values before an index and those from it on; only one list if one is empty."""
    return [part for part in (values[:at], values[at:]) if part]


def _batches(
    prefix_trees: Sequence[PrefixTree], at_once: int, call_cost: int | None, kept: tuple[int, int]
) -> Iterator[list[PrefixTree]]:
    """Yield batches of prefix trees of like length, each with at most about ``at_once`` rows.

    Args:
        prefix_trees: The trees, the longest first.
        at_once: The most rows of a batch; a longer tree makes a batch of its own.
        call_cost: What one more call of a block costs, in rows; None where nothing is padded.
        kept: The most rows of which there are keys and values, and how many each sequence has
            beside its own.
    """
    (most, before), sizes = kept, [len(tree.ids) for tree in prefix_trees]
    for begin, end in [(0, len(sizes))] if call_cost is None else cuts(sizes, call_cost):
        count = max(1, min(at_once // sizes[begin], most // (before + sizes[begin])))
        for at in range(begin, end, count):
            yield list(prefix_trees[at : min(at + count, end)])


def cuts(sizes: Sequence[int], call_cost: int) -> list[tuple[int, int]]:
    """Cut descending sizes into runs (begin, end), each of which is padded to its first size.

    Fewer runs cost fewer calls, more runs less padding: their sum is made as small as it can be,
    by dynamic programming from the end. Cuts are tried only where sizes change.
    """
    bounds = [0, *(i for i in range(1, len(sizes)) if sizes[i] != sizes[i - 1]), len(sizes)]
    best: dict[int, tuple[int, int]] = {len(sizes): (0, len(sizes))}  # cost from here on, next cut
    for at, begin in reversed(list(enumerate(bounds[:-1]))):
        best[begin] = min(
            (call_cost + (end - begin) * sizes[begin] + best[end][0], end)
            for end in bounds[at + 1 :]
        )
    cuts, begin = [], 0
    while begin < len(sizes):
        cuts.append((begin, best[begin][1]))
        begin = best[begin][1]
    return cuts


def _beginning_alike(
    prefix_trees: Sequence[PrefixTree], call_cost: int
) -> Iterator[tuple[list[PrefixTree], int]]:
    """Yield runs of prefix trees that share a beginning, and how many of its rows to read once.

    Reading s rows once for n trees saves s × (n − 1) rows. A tree that shares fewer tokens than
    those before it joins them unless that would lose more than a call costs.

    Args:
        prefix_trees: The trees in the order of their tokens, so that those alike are neighbours.
        call_cost: What one more call of a block costs, in rows.
    """
    alike: list[PrefixTree] = []
    shared = 0
    for tree in prefix_trees:
        if alike:
            fewer = shared_length([alike[-1].ids, tree.ids], min(shared, tree.shareable))
            if shared * (len(alike) - 1) - fewer * len(alike) <= call_cost:
                alike.append(tree)
                shared = fewer
                continue
            yield alike, prefix_length(shared, len(alike), call_cost)
        alike, shared = [tree], tree.shareable
    if alike:
        yield alike, prefix_length(shared, len(alike), call_cost)


def prefix_length(shared: int, count: int, call_cost: int) -> int:
    """Return how many rows to read once for so many trees: none if the calls cost more."""
    return shared if shared * (count - 1) >= call_cost else 0
