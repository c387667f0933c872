"""Sequences that a plan has read, and that wait to be gone on with."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from impasto.plan import Plan
from impasto.run.slot import KeysValues

IsDone = Callable[[list[int]], bool]  # whether nothing is to follow some new tokens


@dataclass(frozen=True)
class Begun:
    """A plan's sequences, read but for their last token.

    Attributes:
        plan: The plan.
        written: The new tokens of each sequence so far, the last of them not yet read.
        kept: What earlier tokens left at each attention occurrence, in the plan's order.
        past: The positions of those tokens.
        has_past: Where they are no padding.
        total: The noise sums over them.
    """

    plan: Plan
    written: list[list[int]]
    kept: tuple[KeysValues, ...]
    past: Int[Tensor, "batch past"]
    has_past: Bool[Tensor, "batch past"]
    total: Int[Tensor, "batch"]

    @property
    def bytes(self) -> int:
        """How much memory the keys and values take."""
        return sum(entry.keys.nbytes + entry.values.nbytes for entry in self.kept)

    @cached_property
    def slots(self) -> Int[Tensor, "batch slots"]:
        """The slots that hold tokens, and as few others behind them as can be."""
        order = (~self.has_past).to(torch.uint8).argsort(dim=1, stable=True)
        return order[:, : int(self.has_past.sum(1).max())]

    def left(self, is_done: IsDone) -> "Begun | None":
        """Return what is left when only sequences go on that are not done; None if all are."""
        rows = [row for row, tokens in enumerate(self.written) if not is_done(tokens)]
        if len(rows) == len(self.written) or not rows:
            return self if rows else None
        index = torch.tensor(rows, device=self.past.device)
        return Begun(
            self.plan,
            [self.written[row] for row in rows],
            tuple(KeysValues(*(one[index.to(one.device)] for one in each)) for each in self.kept),
            self.past[index],
            self.has_past[index],
            self.total[index],
        )
