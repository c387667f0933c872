"""Which position may see which, and how much: a layer's own rule, as a table that rows look up.

The table is not computed here. It is what the model's own forward handed to its blocks for a plain
sequence, so that a sliding window, a chunk or an ALiBi slope needs no code of ours; rows of any
batch, packed in any order, find their entries by position.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor

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

    def further(self, keys: Int[Tensor, "batch keys"]) -> Arguments:
        """Return the further arguments for keys at these positions; batch and heads stay folded."""
        return {
            name: table[..., keys].movedim(-2, 0).flatten(0, 1)
            for name, table in self.by_key.items()
        }


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
