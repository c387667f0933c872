"""How a model masks, asked of the model itself: its own forward, with its blocks only noting.

Of a few positions the whole table is asked. Where texts are longer, single rows of it are, each at
the cost of one token: the model is told that the tokens before it have been read already. A rule
that those rows show is taken for the layer's own once it agrees with the table, with the rows next
to where it changes, and with others spread over the whole length. A model that shows no such rule,
or no such rows, is asked for the whole table at any length.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import Cache

from impasto.model.arguments.visibility import (
    Causal,
    Chunk,
    Interval,
    Rule,
    Table,
    Visibility,
    Window,
)
from impasto.model.structure.block import Arguments

WHOLE = 128  # positions of which the whole table is asked, however long a text is


class Read(Cache):
    """A cache that holds nothing and says that so many tokens have been read.

    Args:
        taken: How many.
        masked: How many keys a mask is wanted for; None for those read and the new ones.
    """

    def __init__(self, taken: int, masked: int | None = None) -> None:
        super().__init__(layers=[])
        self._taken, self._masked = taken, masked

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Return how many tokens have been read."""
        return self._taken

    def get_query_offset(self, layer_idx: int = 0) -> int:
        """Return where the new tokens begin."""
        return self._taken

    def get_mask_sizes(self, query_length: int, layer_idx: int) -> tuple[int, int]:
        """Return how many keys a mask is for, and where they begin."""
        return self._taken + query_length if self._masked is None else self._masked, 0


@dataclass(frozen=True)
class Row:
    """One row of every layer's mask.

    Attributes:
        position: Its position.
        first: For each layer, the lowest position that it sees; None where what it sees is no run
            of keys that ends at its own.
        by_key: Further arguments, by name, whose last index is the key's position.
    """

    position: int
    first: list[int | None]
    by_key: Arguments


class Rows:
    """The rows of a model's masks, each asked once.

    Args:
        model: The model: an :class:`impasto.model.decoder.OpenedModel`.
        by_key: The names of arguments whose last index is the key.
    """

    def __init__(self, model: Any, by_key: tuple[str, ...]) -> None:
        self._model, self._by_key = model, by_key
        self._known: dict[int, Row | None] = {}

    def at(self, position: int) -> Row | None:
        """Return the row at a position; None where the model makes no such row."""
        if position not in self._known:
            self._known[position] = self._ask(position)
        return self._known[position]

    def first(self, layer: int, position: int) -> int | None:
        """Return the lowest position that a layer's row sees; None where that says not all."""
        row = self.at(position)
        return None if row is None else row.first[layer]

    def _ask(self, position: int) -> Row | None:
        """Ask for one token behind a pad (lest a plain mask be left out) and ``position`` more."""
        device = self._model.device
        present = torch.ones(1, position + 2, dtype=torch.long, device=device)
        present[:, 0] = 0
        ids = torch.zeros(1, 1, dtype=torch.long, device=device)
        try:
            calls = self._model.enter(
                ids, torch.full_like(ids, position), present, Read(position + 1)
            ).arguments
        except (AttributeError, LookupError, RuntimeError, ValueError):
            return None  # its forward asks more of a cache than this one can say
        masks = [call.get("attention_mask") for call in calls]
        if not all(isinstance(m, Tensor) and m.shape == (1, 1, 1, position + 2) for m in masks):
            return None
        known: dict[int, int | None] = {}  # layers of a kind are handed the same mask
        for mask in masks:
            if id(mask) not in known:
                known[id(mask)] = _run_to_itself(mask[0, 0, 0, 1:])
        further = {n: calls[0][n][..., 1:] for n in self._by_key if calls[0].get(n) is not None}
        return Row(position, [known[id(mask)] for mask in masks], further)


def whole_table(calls: Sequence[Arguments], by_key: tuple[str, ...]) -> Visibility:
    """Read the rules from what blocks were called with for every position.

    Args:
        calls: One for each layer, from a batch of one sequence that begins with one pad (which
            keeps a model from leaving a plain causal mask out).
        by_key: The names of further arguments whose last index is the key.
    """
    rules: list[Rule] = []
    kinds, known = [], dict[int, int]()
    for call in calls:
        mask = call["attention_mask"]
        if id(mask) not in known:
            table = mask[0, :, 1:, 1:].to(calls[0]["attention_mask"].device)
            known[id(mask)] = _placed(rules, _rule_of(table))
        kinds.append(known[id(mask)])
    first = calls[0]["attention_mask"]
    further = {name: calls[0][name][..., 1:] for name in by_key if calls[0].get(name) is not None}
    numbers = None if first.dtype == torch.bool else first.dtype
    return Visibility(first.shape[-1] - 1, kinds, rules, numbers, further)


def longer(known: Visibility, rows: Rows, length: int) -> Visibility | None:
    """Return the rules for more positions than the whole table was asked of.

    Args:
        known: What the whole table showed.
        rows: The rows of the model's masks.
        length: How many positions.

    Returns:
        The rules; None where rows do not show them.
    """
    rules: list[Rule] = []
    kinds: list[int] = []
    for layer, kind in enumerate(known.kinds):
        small = known.rules[kind]
        rule = (
            None if isinstance(small, Table) else _rule_by_rows(rows, layer, length, small, known)
        )
        if rule is None:
            return None
        kinds.append(_placed(rules, rule))
    last = rows.at(length - 1)
    assert last is not None, "a rule was found by it"
    for name, table in known.by_key.items():
        if not torch.equal(last.by_key[name][..., : known.length], table):
            return None
    return Visibility(length, kinds, rules, known.numbers, last.by_key)


def _rule_by_rows(
    rows: Rows, layer: int, length: int, small: Interval, known: Visibility
) -> Interval | None:
    """Return the rule that all rows of a layer that are looked at follow; None where none is."""
    last = length - 1
    first = rows.first(layer, last)
    if first is None:
        return None
    candidates: list[Interval] = [Causal()]
    looked_at = {known.length, length // 3, length // 2, 2 * length // 3 + 1, last - 1, last}
    if first:
        before = rows.first(layer, first - 1)
        if before is None:
            return None
        sizes = (last - first + 1, first - before)
        candidates = [Window(sizes[0]), Chunk(sizes[1])]
        edges = {size * turn + by for size in sizes for turn in (1, 2) for by in (-1, 0, 1)}
        looked_at |= {edge for edge in edges if 0 <= edge <= last} | {first - 1, first}
    told = [(position, rows.first(layer, position)) for position in sorted(looked_at)]
    every = torch.arange(known.length)
    told += zip(every.tolist(), small.first_seen(every).tolist(), strict=True)
    return next((rule for rule in candidates if _agrees(rule, told)), None)


def _agrees(rule: Interval, told: Iterable[tuple[int, int | None]]) -> bool:
    """Whether a rule says of positions what the model did."""
    told = list(told)
    positions = torch.tensor([position for position, _ in told])
    return rule.first_seen(positions).tolist() == [first for _, first in told]


def _rule_of(table: Tensor) -> Rule:
    """Return the rule that a whole table (heads × query × key position) follows."""
    seen = _where_seen(table[0]) if table.shape[0] == 1 else None
    if seen is None:
        return Table(table)
    every = torch.arange(len(seen), device=seen.device)
    firsts = seen.byte().argmax(1)
    if not torch.equal(seen, (every >= firsts[:, None]) & (every <= every[:, None])):
        return Table(table)
    told = list(enumerate(firsts.tolist()))
    last, first = told[-1]
    candidates: list[Interval] = [Causal(), Window(last - first + 1)]
    candidates += [Chunk(at) for at, begin in told if begin == at > 0][:1]
    return next((rule for rule in candidates if _agrees(rule, told)), Table(table))


def _run_to_itself(row: Tensor) -> int | None:
    """Return where the run of keys begins that a row sees, its own being the last of them."""
    seen = _where_seen(row)
    if seen is None:
        return None
    first = int(seen.byte().argmax())
    return first if bool(seen[first:].all()) else None


def _where_seen(mask: Tensor) -> Tensor | None:
    """Return where a mask says that a key is seen; None where it says more than that."""
    if mask.dtype == torch.bool:
        return mask
    seen, hidden = mask == 0, mask <= torch.finfo(mask.dtype).min
    return seen if bool((seen | hidden).all()) else None


def _placed(rules: list[Rule], rule: Rule) -> int:
    """Return where a rule stands among others, at their end if it is none of them."""
    for place, known in enumerate(rules):
        if isinstance(known, Table) and isinstance(rule, Table):
            if torch.equal(known.seen, rule.seen):
                return place
        elif known == rule:
            return place
    rules.append(rule)
    return len(rules) - 1
