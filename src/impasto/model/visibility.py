"""Which position may see which, and how much: a layer's own rule, as a table that rows look up.

The table is not computed here. It is what the model's own forward handed to its blocks for a plain
sequence, so that a sliding window, a chunk or an ALiBi slope needs no code of ours; rows of any
batch, packed in any order, find their entries by position.
"""

from dataclasses import dataclass, field
from functools import cached_property

import torch
from jaxtyping import Bool, Int
from torch import Tensor
from torch.nn import functional

from impasto.model.block import Arguments


@dataclass(frozen=True)
class Visibility:
    """What a model's blocks were told about who sees whom in a sequence of ``length`` tokens.

    Attributes:
        length: How many positions the tables hold.
        kinds: For each layer, which of ``masks`` is its own. Layers with and without a sliding
            window, for instance, are of two kinds.
        masks: heads × query position × key position: True and False, or numbers that are added to
            attention scores. ``heads`` is 1 where all heads see alike.
        by_key: Further arguments of a block, by name, whose last index is the key's position.
    """

    length: int
    kinds: list[int]
    masks: list[Tensor]
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
        seen = self.masks[kind][:, rows[:, :, None], keys[:, None, :]].transpose(0, 1)
        if seen.dtype == torch.bool:
            hidden = ~(seen & allowed[:, None])
            return torch.zeros_like(hidden, dtype=dtype).masked_fill_(hidden, -torch.inf)
        return seen.masked_fill(~allowed[:, None], torch.finfo(seen.dtype).min)

    def in_order(self, dtype: torch.dtype) -> "InOrder":
        """Return the tables for keys that lie in the order of their positions, made once."""
        if dtype not in self._in_order:
            self._in_order[dtype] = InOrder([_numbers(table, dtype) for table in self.masks])
        return self._in_order[dtype]

    def further(self, keys: Int[Tensor, "batch keys"]) -> Arguments:
        """Return the further arguments for keys at these positions; batch and heads stay folded."""
        return {
            name: table[..., keys].movedim(-2, 0).flatten(0, 1)
            for name, table in self.by_key.items()
        }


@dataclass(frozen=True)
class InOrder:
    """Masks for keys that lie in the order of their positions: whole rows of the tables.

    Attributes:
        tables: One for each kind of layer: heads × query position × key position, to be added to
            attention scores.
    """

    tables: list[Tensor]

    def mask(self, kind: int, rows: Int[Tensor, "batch rows"], count: int) -> Tensor:
        """Return the mask (batch × heads × rows × keys) of ``count`` keys for rows at positions.

        A row sees, as the layer's rule has it, the keys before its own and its own.
        """
        return _rows(self.tables[kind], rows, count)

    def mask_apart(
        self,
        kind: int,
        rows: Int[Tensor, "batch rows"],
        own: Int[Tensor, "batch rows"],
        count: int,
    ) -> Tensor:
        """Return the same for rows whose own keys lie elsewhere: each at index ``own``."""
        table = self.tables[kind]
        itself = table.diagonal(dim1=1, dim2=2)[:, rows.to(table.device)].transpose(0, 1)
        own = own.to(table.device)[:, None, :, None].expand_as(itself[..., None])
        return _rows(self._before[kind], rows, count).scatter_(3, own, itself[..., None])

    @cached_property
    def _before(self) -> list[Tensor]:
        """The tables, with nobody seeing itself."""
        itself = torch.eye(self.tables[0].shape[-1], dtype=torch.bool)
        return [table.masked_fill(itself.to(table.device), -torch.inf) for table in self.tables]


def _rows(table: Tensor, rows: Int[Tensor, "batch rows"], count: int) -> Tensor:
    """Return a table's rows, as far as ``count`` keys; those beyond it are not seen."""
    found = table[:, :, :count].index_select(1, rows.flatten().to(table.device))
    found = functional.pad(found, (0, count - found.shape[2]), value=-torch.inf)
    return found.unflatten(1, rows.shape).transpose(0, 1)


def read_visibility(calls: list[Arguments], by_key: tuple[str, ...]) -> Visibility:
    """Read the tables from what the blocks were called with.

    Args:
        calls: One for each layer, from a batch of one sequence that begins with one pad (which
            keeps a model from leaving a plain causal mask out).
        by_key: The names of further arguments whose last index is the key.
    """
    kinds: list[int] = []
    masks: list[Tensor] = []
    for call in calls:
        mask = call["attention_mask"][0, :, 1:, 1:].to(calls[0]["attention_mask"].device)
        kind = next((k for k, known in enumerate(masks) if torch.equal(known, mask)), len(masks))
        if kind == len(masks):
            masks.append(mask)
        kinds.append(kind)
    further = {name: calls[0][name][..., 1:] for name in by_key if calls[0].get(name) is not None}
    return Visibility(masks[0].shape[-1], kinds, masks, further)


def _numbers(table: Tensor, dtype: torch.dtype) -> Tensor:
    """Return what a table says as numbers to be added to attention scores."""
    if table.dtype != torch.bool:
        return table
    return torch.zeros_like(table, dtype=dtype).masked_fill_(~table, -torch.inf)
