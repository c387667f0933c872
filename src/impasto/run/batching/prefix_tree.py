"""Passages that begin alike, merged: every distinct beginning is one row.

The answers to a question share its text, so their tokens form a tree. A prefix tree is read as one
sequence of rows in which each row sees its ancestors and itself, which is what it would have seen
in its own passage. Nothing else has to know: a passage alone is a prefix tree without branches.

Rows stand in the order of a walk that goes down first: behind a row come all its descendants, then
the next branch. So where they end says who sees whom.
"""

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from impasto.run.batching.request import TokenRequest


@dataclass(slots=True)
class PrefixTree:
    """Passages merged.

    Attributes:
        ids: The token of each row.
        parents: The row before it; −1 where it is the first.
        depths: How many rows of this prefix tree come before it.
        scored: The rows after which predictions are wanted.
        passages: The passages (by index) that are in here.
        predictions: For each of them, where its predictions stand in ``scored``.
        common: How many leading rows may be cut off.
    """

    ids: list[int] = field(default_factory=list)
    parents: "array[int]" = field(default_factory=lambda: array("q"))
    depths: "array[int]" = field(default_factory=lambda: array("q"))
    scored: list[int] = field(default_factory=list)
    passages: list[int] = field(default_factory=list)
    predictions: list[list[int]] = field(default_factory=list)
    common: int = 0
    _path: "array[int]" = field(default_factory=lambda: array("q"))  # the last passage's rows
    _last: list[int] = field(default_factory=list)
    _asked: dict[int, int] = field(default_factory=dict)

    def add(self, index: int, passage: TokenRequest) -> None:
        """Take in a passage; what it shares with the one before it, it shares."""
        shared = alike([self._last, passage.ids], len(passage.ids)) if self._path else 0
        first, count = len(self.ids), len(passage.ids) - shared
        path = self._path = self._path[:shared] + array("q", range(first, first + count))
        self._last = passage.ids
        self.ids += passage.ids[shared:]
        self.parents += array("q", [path[shared - 1] if shared else -1] * bool(count))
        self.parents += array("q", range(first, first + count - 1))
        self.depths += array("q", range(shared, shared + count))
        for asked in passage.scored:
            if path[asked] not in self._asked:
                self._asked[path[asked]] = len(self.scored)
                self.scored.append(path[asked])
        self.common = min(passage.common, self.common) if self.passages else passage.common
        self.passages.append(index)
        self.predictions.append([self._asked[path[asked]] for asked in passage.scored])

    def cut(self, length: int) -> "PrefixTree":
        """Return the prefix tree without its first rows, which all its passages share."""
        return replace(
            self,
            ids=self.ids[length:],
            parents=array("q", (max(-1, parent - length) for parent in self.parents[length:])),
            depths=array("q", (depth - length for depth in self.depths[length:])),
            scored=[row - length for row in self.scored],
        )

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


def chain(index: int, passage: TokenRequest) -> PrefixTree:
    """Return a passage as a prefix tree of its own."""
    prefix_tree = PrefixTree()
    prefix_tree.add(index, passage)
    return prefix_tree


def prefix_trees(passages: Sequence[TokenRequest], width: int, most: int) -> Iterator[PrefixTree]:
    """Merge passages, in the order of their tokens, as long as that costs less than it saves.

    A row costs its share of the layer's weights, and attention over all rows of its prefix tree, seen or
    not: n rows cost about n + n² / (6 · width) for states of ``width`` units. No prefix tree of several
    passages has more than ``most`` rows.
    """

    def cost(rows: int) -> float:
        return rows + rows * rows / (6 * width)

    prefix_tree: PrefixTree | None = None
    last = passages[0] if passages else None
    for index in sorted(range(len(passages)), key=lambda index: passages[index].ids):
        passage = passages[index]
        if prefix_tree is not None and last is not None:
            shared = alike([last.ids, passage.ids], len(passage.ids))
            merged = len(prefix_tree.ids) + len(passage.ids) - shared
            apart = cost(len(prefix_tree.ids)) + cost(len(passage.ids))
            if merged <= most and cost(merged) < apart and passage.may_share(last, shared):
                prefix_tree.add(index, passage)
                last = passage
                continue
            yield prefix_tree
        prefix_tree, last = chain(index, passage), passage
    if prefix_tree is not None:
        yield prefix_tree


def alike(sequences: Sequence[Sequence[int]], most: int) -> int:
    """Return how many leading tokens, ``most`` at the most, all sequences share."""
    first, count = sequences[0], min(most, *map(len, sequences))
    for other in sequences[1:]:
        if first[:count] != other[:count]:
            count = next(i for i in range(count) if first[i] != other[i])
    return count
