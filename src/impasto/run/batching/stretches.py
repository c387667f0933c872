"""In which calls sequences are read whose rows cannot be packed: stretches of their tokens.

Requests that begin alike are a tree of tokens. A stretch is a rectangle of it: as many tokens of
each of some sequences, which have all read equally many before. So no call needs padding between
tokens, and every sequence goes on from the state in which the stretch before left it, or left the
one that it parted from. A sequence of which nothing follows may be padded on the right, for no
token sees what comes after it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from impasto.run.batching.batches import BatchGroup, cuts
from impasto.run.batching.prefix_tree import PrefixTree


@dataclass(slots=True)
class TokenTree:
    """The tokens of some requests, those that they begin with in common once.

    Attributes:
        ids: The token of each row.
        parents: The row before it; −1 where it is the first.
        scored: The rows after which predictions are wanted, in the order of the predictions.
        begins: For each prefix tree that was added, its first row.
        ends: For each prefix tree that was added, its last row.
        is_prompt: Of each row, whether it is the prompt's, and not its last one.
    """

    ids: list[int] = field(default_factory=list)
    parents: list[int] = field(default_factory=list)
    scored: list[int] = field(default_factory=list)
    begins: list[int] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    is_prompt: list[bool] = field(default_factory=list)

    @classmethod
    def of(cls, prefix: Sequence[int], prefix_trees: Sequence[PrefixTree]) -> "TokenTree":
        """Return the tokens of prefix trees that all follow a prefix."""
        tree = cls(list(prefix), list(range(-1, len(prefix) - 1)))
        tree.is_prompt = [True] * len(prefix)
        for prefix_tree in prefix_trees:
            first = len(tree.ids)
            tree.ids += prefix_tree.ids
            tree.parents += [
                first + parent if parent >= 0 else len(prefix) - 1 for parent in prefix_tree.parents
            ]
            tree.scored += [first + row for row in prefix_tree.scored]
            tree.begins.append(first)
            tree.ends.append(len(tree.ids) - 1)
            tree.is_prompt += [row < prefix_tree.prompt for row in range(len(prefix_tree.ids))]
        return tree

    @classmethod
    def of_group(cls, group: BatchGroup) -> "TokenTree":
        """Return the tokens of a group of batches."""
        return cls.of(group.prefix, group.prefix_trees)

    @classmethod
    def of_next(cls, tokens: Sequence[int]) -> "TokenTree":
        """Return one token for each of some sequences, whose successors are all predicted."""
        rows = list(range(len(tokens)))
        return cls(list(tokens), [-1] * len(rows), rows, rows, rows, [False] * len(rows))


@dataclass(frozen=True, slots=True)
class Stretch:
    """Some tokens of each of some sequences, read in one call of a block.

    Attributes:
        before: The stretch (by index) from whose sequences these go on; None for the first ones.
        rows: The rows of each sequence; padding repeats the last one.
        counts: How many of them are no padding.
        parents: The sequence of the stretch before that each goes on from.
        is_followed: Whether any sequence goes on, or its state is wanted at its end.
        ended: The sequences whose state is wanted at their end, and of which request each is.
    """

    before: int | None
    rows: list[list[int]]
    counts: list[int]
    parents: list[int]
    is_followed: bool
    ended: list[tuple[int, int]]


Head = tuple[int, int]
"""The row at which a sequence goes on, and the sequence before that it goes on from."""


def stretches(
    tree: TokenTree,
    single: bool,
    keeps_ends: bool,
    in_step: bool,
    call_cost: int,
) -> list[Stretch]:
    """Return the stretches in which a tree is read; each comes behind the one that it follows.

    Args:
        tree: The tokens.
        single: Whether each scored token begins a stretch, so that the state before it is there.
        keeps_ends: Whether the state at the end of each request is wanted.
        in_step: Whether all sequences go on together, as far as the shortest of them goes: fewer
            calls, of fewer tokens each.
        call_cost: What one more call of a block costs, in rows.
    """
    layout = _Layout(tree, single, keeps_ends)
    roots = [(row, sequence) for sequence, row in enumerate(layout.roots)]
    pending: list[tuple[list[Head], int | None]] = [(roots, None)]
    found: list[Stretch] = []
    while pending:
        heads, before = pending.pop()
        for some in [heads] if in_step else layout.alike(heads, call_cost):
            stretch, after = layout.next(some, before)
            if after:
                pending.append((after, len(found)))
            found.append(stretch)
    return found


class _Layout:
    """How far each row of a tree runs on before sequences part, or must wait."""

    def __init__(self, tree: TokenTree, single: bool, keeps_ends: bool) -> None:
        self._children: list[list[int]] = [[] for _ in tree.ids]
        self.roots: list[int] = []
        for row, parent in enumerate(tree.parents):
            (self._children[parent] if parent >= 0 else self.roots).append(row)
        self._ends = {row: place for place, row in enumerate(tree.ends)} if keeps_ends else {}
        scored = set(tree.scored) if single else set()
        self._length, self._is_open = [1] * len(tree.ids), [False] * len(tree.ids)
        for row in reversed(range(len(tree.ids))):
            children = self._children[row]
            goes_on = len(children) == 1 and children[0] not in scored and row not in self._ends
            if goes_on:
                self._length[row] = 1 + self._length[children[0]]
                self._is_open[row] = self._is_open[children[0]]
            else:
                self._is_open[row] = bool(children) or row in self._ends

    def alike(self, heads: list[Head], call_cost: int) -> Iterator[list[Head]]:
        """Part sequences into those that are followed, by their lengths, and the others.

        The others, which may be padded, are cut into runs of about one length.
        """
        lasting: dict[int, list[Head]] = {}
        closed: list[Head] = []
        for head in heads:
            row = head[0]
            if self._is_open[row]:
                lasting.setdefault(self._length[row], []).append(head)
            else:
                closed.append(head)
        yield from lasting.values()
        closed.sort(key=lambda head: -self._length[head[0]])
        sizes = [self._length[row] for row, _ in closed]
        for begin, end in cuts(sizes, call_cost) if closed else ():
            yield closed[begin:end]

    def next(self, heads: list[Head], before: int | None) -> tuple[Stretch, list[Head]]:
        """Return the stretch that begins at some rows, and where what follows it begins."""
        lasting = [self._length[row] for row, _ in heads if self._is_open[row]]
        width = min(lasting) if lasting else max(self._length[row] for row, _ in heads)
        rows, counts, ended, after = [], [], [], []
        for sequence, (head, _) in enumerate(heads):
            path = [head]
            while len(path) < min(width, self._length[head]):
                path += self._children[path[-1]]
            last = path[-1]
            counts.append(len(path))
            rows.append(path + [last] * (width - len(path)))
            if last in self._ends:
                ended.append((sequence, self._ends[last]))
            after += [(child, sequence) for child in self._children[last]]
        parents = [parent for _, parent in heads]
        return Stretch(before, rows, counts, parents, bool(after or ended), ended), after
