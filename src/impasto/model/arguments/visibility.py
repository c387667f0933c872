"""Which position may see which: a layer's own rule, looked up by the positions of rows and keys.

A rule is not written down for any family. It is what the model's own forward hands to its blocks
(:mod:`impasto.model.arguments.mask_rules`), so that a sliding window, a chunk or an ALiBi slope needs no code of
ours. Where a row sees one run of keys that ends at its own, the rule says where that run begins
(:class:`Causal`, :class:`Window`, :class:`Chunk`) and takes no memory. Whatever else a model does
is kept as a :class:`Table` of tokens × tokens.
"""

from dataclasses import dataclass, field
from functools import cached_property

import torch
from jaxtyping import Bool, Int
from torch import Tensor
from torch.nn import functional

from impasto.model.structure.block import Arguments


@dataclass(frozen=True, slots=True)
class Causal:
    """A row sees every key up to its own."""

    def first_seen(self, rows: Int[Tensor, "*any"]) -> Int[Tensor, "*any"]:
        """Return the lowest position that rows at these positions see."""
        return torch.zeros_like(rows)


@dataclass(frozen=True, slots=True)
class Window:
    """A row sees so many keys, the last of which is its own."""

    size: int

    def first_seen(self, rows: Int[Tensor, "*any"]) -> Int[Tensor, "*any"]:
        """Return the lowest position that rows at these positions see."""
        return (rows - (self.size - 1)).clamp(min=0)


@dataclass(frozen=True, slots=True)
class Chunk:
    """A row sees the keys up to its own that lie in the same chunk of so many."""

    size: int

    def first_seen(self, rows: Int[Tensor, "*any"]) -> Int[Tensor, "*any"]:
        """Return the lowest position that rows at these positions see."""
        return rows - rows % self.size


@dataclass(frozen=True, eq=False)
class Table:
    """What each row sees of each key, one by one.

    Attributes:
        seen: heads × query position × key position: True and False, or numbers that are added to
            attention scores. ``heads`` is 1 where all heads see alike.
    """

    seen: Tensor


Interval = Causal | Window | Chunk
"""A rule by which a row sees one run of keys that ends at its own."""

Rule = Interval | Table


@dataclass(frozen=True)
class Visibility:
    """What a model's blocks are told about who sees whom in a sequence of ``length`` tokens.

    Attributes:
        length: For how many positions the rules are known.
        kinds: For each layer, which of ``rules`` is its own. Layers with and without a sliding
            window, for instance, are of two kinds.
        rules: The rules, each once.
        numbers: The type of the numbers that the model itself adds to scores, the lowest where a
            key is not seen; None where it says True and False.
        by_key: Further arguments of a block, by name, whose last index is the key's position.
    """

    length: int
    kinds: list[int]
    rules: list[Rule]
    numbers: torch.dtype | None
    by_key: Arguments
    _in_order: "dict[torch.dtype, InOrder]" = field(default_factory=dict)

    def mask(
        self,
        kind: int,
        rows: Int[Tensor, "batch rows"],
        keys: Int[Tensor, "batch keys"],
        allowed: Bool[Tensor, "batch rows keys"],
        dtype: torch.dtype,
    ) -> Tensor:
        """Return the mask (batch × heads × rows × keys) for rows and keys at these positions.

        A row sees a key where the layer's rule and ``allowed`` both say so. The mask is numbers to
        be added to attention scores, which attention would else make of it at every call.
        """
        rule = self.rules[kind]
        if not isinstance(rule, Table):
            hidden = _is_hidden(rule, rows, keys[:, None, :]) | ~allowed
            return _added(hidden.unsqueeze(1), dtype, self.numbers)
        seen = rule.seen[:, rows[:, :, None], keys[:, None, :]].transpose(0, 1)
        if seen.dtype == torch.bool:
            return _added(~(seen & allowed[:, None]), dtype, None)
        return seen.masked_fill(~allowed[:, None], torch.finfo(seen.dtype).min)

    def in_order(self, dtype: torch.dtype) -> "InOrder":
        """Return the rules for keys that lie in the order of their positions, made once."""
        if dtype not in self._in_order:
            self._in_order[dtype] = InOrder(self.rules, dtype, self.numbers)
        return self._in_order[dtype]

    def further(self, keys: Int[Tensor, "batch keys"]) -> Arguments:
        """Return the further arguments for keys at these positions; batch and heads stay folded."""
        return {
            name: table[..., keys].movedim(-2, 0).flatten(0, 1)
            for name, table in self.by_key.items()
        }


@dataclass(frozen=True)
class InOrder:
    """Masks for keys that lie in the order of their positions.

    Attributes:
        rules: One for each kind of layer.
        dtype: The type of a mask that is made of True and False.
        numbers: As in :class:`Visibility`.
    """

    rules: list[Rule]
    dtype: torch.dtype
    numbers: torch.dtype | None

    def mask(self, kind: int, rows: Int[Tensor, "batch rows"], count: int) -> Tensor:
        """Return the mask (batch × heads × rows × keys) of ``count`` keys for rows at positions.

        A row sees, as the layer's rule has it, the keys before its own and its own.
        """
        rule = self.rules[kind]
        if isinstance(rule, Table):
            return _rows(self._tables[kind], rows, count)
        hidden = _is_hidden(rule, rows, torch.arange(count, device=rows.device))
        return _added(hidden.unsqueeze(1), self.dtype, self.numbers)

    def mask_apart(
        self,
        kind: int,
        rows: Int[Tensor, "batch rows"],
        own: Int[Tensor, "batch rows"],
        count: int,
    ) -> Tensor:
        """Return the same for rows whose own keys lie elsewhere: each at index ``own``."""
        rule = self.rules[kind]
        if not isinstance(rule, Table):
            keys = torch.arange(count, device=rows.device)
            hidden = _is_hidden(rule, rows, keys, itself=True)
            hidden &= keys != own.unsqueeze(-1)
            return _added(hidden.unsqueeze(1), self.dtype, self.numbers)
        table = self._tables[kind]
        itself = table.diagonal(dim1=1, dim2=2)[:, rows.to(table.device)].transpose(0, 1)
        own = own.to(table.device)[:, None, :, None].expand_as(itself[..., None])
        return _rows(self._before[kind], rows, count).scatter_(3, own, itself[..., None])

    @cached_property
    def _tables(self) -> dict[int, Tensor]:
        """The tables, by kind, as numbers to be added to attention scores."""
        return {
            kind: _added(~rule.seen, self.dtype, None)
            if rule.seen.dtype == torch.bool
            else rule.seen
            for kind, rule in enumerate(self.rules)
            if isinstance(rule, Table)
        }

    @cached_property
    def _before(self) -> dict[int, Tensor]:
        """The tables, with nobody seeing itself."""
        found = {}
        for kind, table in self._tables.items():
            itself = torch.eye(table.shape[-1], dtype=torch.bool, device=table.device)
            found[kind] = table.masked_fill(itself, -torch.inf)
        return found


def _is_hidden(
    rule: Interval,
    rows: Int[Tensor, "batch rows"],
    keys: Int[Tensor, "*keys"],
    itself: bool = False,
) -> Bool[Tensor, "batch rows keys"]:
    """Return whether keys at positions are hidden from rows by a layer's rule, each from itself."""
    rows = rows.unsqueeze(-1)
    hidden = keys >= rows if itself else keys > rows
    return hidden if isinstance(rule, Causal) else hidden | (keys < rule.first_seen(rows))


def _added(hidden: Tensor, dtype: torch.dtype, numbers: torch.dtype | None) -> Tensor:
    """Return what is added to scores where keys are hidden: −∞, or what the model itself adds."""
    lowest = -torch.inf if numbers is None else torch.finfo(numbers).min
    zeros = torch.zeros(hidden.shape, dtype=numbers or dtype, device=hidden.device)
    return zeros.masked_fill_(hidden, lowest)


def _rows(table: Tensor, rows: Int[Tensor, "batch rows"], count: int) -> Tensor:
    """Return a table's rows, as far as ``count`` keys; those beyond it are not seen."""
    found = table[:, :, :count].index_select(1, rows.flatten().to(table.device))
    found = functional.pad(found, (0, count - found.shape[2]), value=-torch.inf)
    return found.unflatten(1, rows.shape).transpose(0, 1)
