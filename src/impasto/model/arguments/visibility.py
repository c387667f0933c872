"""Which position may see which: a layer's own rule, looked up by the positions of rows and keys.

No rule is written down for a family. Rules are read from the masks that the model's own forward
hands to its blocks (:mod:`impasto.model.arguments.mask_rules`), so a sliding window, a chunk or an
ALiBi slope needs no code here. Where a row sees one interval of keys that ends at its own, the rule
says where the interval begins (:class:`Causal`, :class:`Window`, :class:`Chunk`) and takes no
memory. Anything else is a :class:`MaskTable` of tokens × tokens.
"""

from dataclasses import dataclass, field
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor
from torch.nn import functional

from impasto.model.structure.block import Arguments


@dataclass(frozen=True, slots=True)
class Causal:
    """A row sees every key up to its own."""

    def first_visible(self, rows: Int[Tensor, "*any"]) -> Int[Tensor, "*any"]:
        """Return the lowest position visible to rows at these positions."""
        return torch.zeros_like(rows)


@dataclass(frozen=True, slots=True)
class Window:
    """A row sees ``size`` keys, the last of which is its own."""

    size: int

    def first_visible(self, rows: Int[Tensor, "*any"]) -> Int[Tensor, "*any"]:
        """Return the lowest position visible to rows at these positions."""
        return (rows - (self.size - 1)).clamp(min=0)


@dataclass(frozen=True, slots=True)
class Chunk:
    """A row sees the keys up to its own that lie in the same chunk of ``size`` positions."""

    size: int

    def first_visible(self, rows: Int[Tensor, "*any"]) -> Int[Tensor, "*any"]:
        """Return the lowest position visible to rows at these positions."""
        return rows - rows % self.size


@dataclass(frozen=True, eq=False)
class MaskTable:
    """A mask with a value for each row and key; both are positions from 0.

    Attributes:
        values: True where a key is visible, or the numbers that are added to attention scores.
            ``heads`` is 1 where all heads are masked alike.
    """

    values: Shaped[Tensor, "heads rows keys"]

    def first_visible(self, rows: Int[Tensor, "*any"]) -> Int[Tensor, "*any"]:
        """Return the lowest position visible to rows at these positions, by any head."""
        return self._first[rows.to(self._first.device)].to(rows.device)

    @cached_property
    def _first(self) -> Int[Tensor, "rows"]:
        values = self.values
        is_bool = values.dtype == torch.bool
        visible = values if is_bool else values > torch.finfo(values.dtype).min
        return visible.any(0).byte().argmax(-1)


Interval = Causal | Window | Chunk
"""A rule by which a row sees one interval of keys that ends at its own."""

Rule = Interval | MaskTable


@dataclass(frozen=True)
class Visibility:
    """The rules by which a model's layers mask a sequence of at most ``length`` tokens.

    Attributes:
        length: The number of positions that the rules are known for.
        kinds: For each layer, the index of its rule in ``rules``. Layers with and without a sliding
            window, for instance, are of two kinds.
        rules: The rules, each once.
        numbers: The type of the numbers that the model itself adds to scores, the lowest one where
            a key is hidden; None where its masks are True and False.
        by_key: Further arguments of a block, by name, whose last axis is the key's position.
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
    ) -> Shaped[Tensor, "batch heads rows keys"]:
        """Return the mask for rows and keys at these positions.

        A row sees a key where the layer's rule and ``allowed`` both say so. The mask has the
        numbers that are added to attention scores: attention would make them of True and False in
        every call.
        """
        rule = self.rules[kind]
        if not isinstance(rule, MaskTable):
            hidden = _is_hidden(rule, rows, keys[:, None, :]) | ~allowed
            return _added(hidden.unsqueeze(1), dtype, self.numbers)
        values = rule.values[:, rows[:, :, None], keys[:, None, :]].transpose(0, 1)
        if values.dtype == torch.bool:
            return _added(~(values & allowed[:, None]), dtype, None)
        return values.masked_fill(~allowed[:, None], torch.finfo(values.dtype).min)

    def in_order(self, dtype: torch.dtype) -> "InOrder":
        """Return the rules for keys that lie in the order of their positions, made once."""
        if dtype not in self._in_order:
            self._in_order[dtype] = InOrder(self.rules, dtype, self.numbers)
        return self._in_order[dtype]

    def further(self, keys: Int[Tensor, "batch keys"]) -> Arguments:
        """Return the further arguments for keys at these positions, batch and heads in one axis."""
        return {
            name: table[..., keys].movedim(-2, 0).flatten(0, 1)
            for name, table in self.by_key.items()
        }


@dataclass(frozen=True)
class InOrder:
    """Masks for keys that lie in the order of their positions.

    Attributes:
        rules: One for each kind of layer.
        dtype: The type of the numbers where the model's own masks are True and False.
        numbers: As in :class:`Visibility`.
    """

    rules: list[Rule]
    dtype: torch.dtype
    numbers: torch.dtype | None

    def mask(
        self, kind: int, rows: Int[Tensor, "batch rows"], count: int
    ) -> Shaped[Tensor, "batch heads rows keys"]:
        """Return the mask of ``count`` keys for rows at these positions, by the layer's rule."""
        rule = self.rules[kind]
        if isinstance(rule, MaskTable):
            return _rows(self._tables[kind], rows, count)
        hidden = _is_hidden(rule, rows, torch.arange(count, device=rows.device))
        return _added(hidden.unsqueeze(1), self.dtype, self.numbers)

    def mask_apart(
        self,
        kind: int,
        rows: Int[Tensor, "batch rows"],
        own: Int[Tensor, "batch rows"],
        count: int,
    ) -> Shaped[Tensor, "batch heads rows keys"]:
        """Return the same for rows whose own keys lie elsewhere: each at index ``own``."""
        rule = self.rules[kind]
        if not isinstance(rule, MaskTable):
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
        """The tables (heads × rows × keys), by kind, as numbers to be added to attention scores."""
        return {
            kind: _added(~rule.values, self.dtype, None)
            if rule.values.dtype == torch.bool
            else rule.values
            for kind, rule in enumerate(self.rules)
            if isinstance(rule, MaskTable)
        }

    @cached_property
    def _before(self) -> dict[int, Tensor]:
        """The tables, each row's own key hidden from it."""
        tables = {}
        for kind, table in self._tables.items():
            itself = torch.eye(table.shape[-1], dtype=torch.bool, device=table.device)
            tables[kind] = table.masked_fill(itself, -torch.inf)
        return tables


def _is_hidden(
    rule: Interval,
    rows: Int[Tensor, "batch rows"],
    keys: Int[Tensor, "*keys"],
    itself: bool = False,
) -> Bool[Tensor, "batch rows keys"]:
    """Return which keys a layer's rule hides from rows; with ``itself``, also each row's own."""
    rows = rows.unsqueeze(-1)
    hidden = keys >= rows if itself else keys > rows
    return hidden if isinstance(rule, Causal) else hidden | (keys < rule.first_visible(rows))


def _added(
    hidden: Bool[Tensor, "*any"], dtype: torch.dtype, numbers: torch.dtype | None
) -> Float[Tensor, "*any"]:
    """Return the numbers added to scores: 0, and −∞ (or the model's lowest) for hidden keys."""
    lowest = -torch.inf if numbers is None else torch.finfo(numbers).min
    zeros = torch.zeros(hidden.shape, dtype=numbers or dtype, device=hidden.device)
    return zeros.masked_fill_(hidden, lowest)


def _rows(
    table: Float[Tensor, "heads positions positions"], rows: Int[Tensor, "batch rows"], count: int
) -> Float[Tensor, "batch heads rows keys"]:
    """Return a table's rows for ``count`` keys, those beyond the table hidden."""
    picked = table[:, :, :count].index_select(1, rows.flatten().to(table.device))
    picked = functional.pad(picked, (0, count - picked.shape[2]), value=-torch.inf)
    return picked.unflatten(1, rows.shape).transpose(0, 1)
