"""Requests that begin alike, merged into trees of tokens: every distinct beginning is one row.

The answers to a question share its text, so their tokens form a tree. A prefix tree is read as one
sequence of rows in which each row sees its ancestors and itself, as it would in its own request.
Nothing else has to know: a request alone is a prefix tree without branches.

Rows stand in depth-first order: a row is followed by all its descendants, and then by the next
branch. So where the descendants of each row end says which row sees which.
"""

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from impasto.run.batching.request import TokenRequest
from impasto.run.tuning import LEAST_PREFIX


@dataclass(slots=True)
class PrefixTree:
    """Requests merged into one tree; rows in depth-first order.

    Attributes:
        ids: The token of each row.
        parents: The row before it in its request; −1 where it is the first.
        depths: How many rows of this tree come before it in its request.
        scored: The rows after which predictions are wanted.
        requests: The requests (by index) in this tree.
        predictions: For each of these requests, its scored rows, by index in ``scored``.
        shareable: How many leading rows may be read apart from the rest, as a prefix.
    """

    ids: list[int] = field(default_factory=list)
    parents: "array[int]" = field(default_factory=lambda: array("q"))
    depths: "array[int]" = field(default_factory=lambda: array("q"))
    scored: list[int] = field(default_factory=list)
    requests: list[int] = field(default_factory=list)
    predictions: list[list[int]] = field(default_factory=list)
    shareable: int = 0
    _path: "array[int]" = field(default_factory=lambda: array("q"))  # rows of the last request
    _last: list[int] = field(default_factory=list)  # its token ids
    _index_of: dict[int, int] = field(default_factory=dict)  # of each scored row in ``scored``

    def add(self, index: int, request: TokenRequest) -> None:
        """Add a request; the beginning that it shares with the last one adds no rows."""
        shared = shared_length([self._last, request.ids], len(request.ids)) if self._path else 0
        first, count = len(self.ids), len(request.ids) - shared
        path = self._path = self._path[:shared] + array("q", range(first, first + count))
        self._last = request.ids
        self.ids += request.ids[shared:]
        self.parents += array("q", [path[shared - 1] if shared else -1] * bool(count))
        self.parents += array("q", range(first, first + count - 1))
        self.depths += array("q", range(shared, shared + count))
        rows = [path[token] for token in request.scored]
        for row in rows:
            if row not in self._index_of:
                self._index_of[row] = len(self.scored)
                self.scored.append(row)
        shareable = request.shareable
        self.shareable = min(shareable, self.shareable) if self.requests else shareable
        self.requests.append(index)
        self.predictions.append([self._index_of[row] for row in rows])

    def without_prefix(self, length: int) -> "PrefixTree":
        """Return the tree without so many leading rows, which all its requests share."""
        return replace(
            self,
            ids=self.ids[length:],
            parents=array("q", (max(-1, parent - length) for parent in self.parents[length:])),
            depths=array("q", (depth - length for depth in self.depths[length:])),
            scored=[row - length for row in self.scored],
        )

    @property
    def prompt(self) -> int:
        """How many leading rows are the prompt's, its last one excepted: before what is scored."""
        return min(self.scored, default=len(self.ids))

    @property
    def is_chain(self) -> bool:
        """Whether every row but the first follows the one before it."""
        return self.depths[-1] == len(self.depths) - 1

    @property
    def ends(self) -> list[int]:
        """Where each row's descendants end: row k is an ancestor of row r if k < r < ends[k]."""
        ends = list(range(1, len(self.ids) + 1))
        for row in range(len(ends) - 1, 0, -1):
            parent = self.parents[row]
            if parent >= 0:
                ends[parent] = max(ends[parent], ends[row])
        return ends


def chain(index: int, request: TokenRequest) -> PrefixTree:
    """Return a request as a prefix tree of its own."""
    prefix_tree = PrefixTree()
    prefix_tree.add(index, request)
    return prefix_tree


def prefix_trees(
    requests: Sequence[TokenRequest],
    hidden: int,
    most_rows: int,
    whole_prompts: bool = False,
    least_prefix: int = LEAST_PREFIX,
) -> Iterator[PrefixTree]:
    """Merge requests, in the order of their tokens, as long as that costs less than it saves.

    A row costs its share of the layer's weights, and attention over all rows of its prefix tree,
    whether it sees them or not: n rows cost about n + n² / (6 · hidden). A long beginning that a
    tree's requests have in common is read once in any case, as a prefix of several trees, so
    merging saves but what is shared beyond it.

    Args:
        requests: The requests.
        hidden: The units of a hidden state.
        most_rows: The most rows of a tree of several requests.
        whole_prompts: Whether only requests of one prompt may share rows.
        least_prefix: How long a beginning is that is surely read as a prefix.
    """

    def cost(rows: int, before: int) -> float:
        return rows - before + (rows - before) * rows / (6 * hidden)

    prefix_tree: PrefixTree | None = None
    last, common = (requests[0] if requests else None), 0
    for index in sorted(range(len(requests)), key=lambda index: requests[index].ids):
        request = requests[index]
        if prefix_tree is not None and last is not None:
            shared = shared_length([last.ids, request.ids], len(request.ids))
            fewer = min(common, shared, request.shareable)
            before = fewer if fewer >= least_prefix else 0
            merged = len(prefix_tree.ids) + len(request.ids) - shared
            apart = cost(len(prefix_tree.ids), before) + cost(len(request.ids), before)
            may_share = request.may_share(last, shared)
            if whole_prompts:  # its last token, of which all are scored, and what lies before it
                may_share &= shared >= request.scored.start == last.scored.start
            if merged <= most_rows and cost(merged, before) < apart and may_share:
                prefix_tree.add(index, request)
                last, common = request, fewer
                continue
            yield prefix_tree
        prefix_tree, last, common = chain(index, request), request, request.shareable
    if prefix_tree is not None:
        yield prefix_tree


def shared_length(sequences: Sequence[Sequence[int]], most: int) -> int:
    """Return how many leading tokens all sequences share, counted up to ``most``."""
    first, count = sequences[0], min(most, *map(len, sequences))
    for other in sequences[1:]:
        if first[:count] != other[:count]:
            count = next(i for i in range(count) if first[i] != other[i])
    return count
