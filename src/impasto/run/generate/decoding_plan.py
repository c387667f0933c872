"""Plans that have read their prompts and write behind them."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Int
from torch import Tensor

from impasto.plan.program import Occurrence, Program
from impasto.run.generate.stopping import Stopping
from impasto.run.kv.cache import KeysValues


@dataclass(slots=True)
class GeneratedText:
    """What one plan writes behind one prompt.

    Attributes:
        prompt: How many tokens the prompt has.
        written: The new tokens so far, the last of them not yet read.
        is_done: Whether nothing is to follow.
    """

    prompt: int
    written: list[int] = field(default_factory=list)
    is_done: bool = False

    @property
    def read(self) -> int:
        """How many tokens have been read, and have left keys and values."""
        return self.prompt + len(self.written) - 1

    def write(self, token: int, limits: Stopping) -> None:
        """Write the next token; nothing follows a text that is done."""
        if not self.is_done:
            self.written.append(token)
            self.is_done = limits.is_done(self.written)


@dataclass(slots=True)
class DecodingPlan:
    """A plan under way.

    Attributes:
        program: What it runs.
        texts: What it writes, one for each batch entry.
        total: The noise sums over the tokens read.
        kept: What earlier tokens left at each attention, until it moves into a room.
        rows: Where the batch entries stand in what is kept.
        slot_bytes: How much memory a token's keys and values take.
    """

    program: Program
    texts: list[GeneratedText]
    total: Int[Tensor, "batch"]
    kept: dict[Occurrence, KeysValues]
    rows: Int[Tensor, "batch"]
    slot_bytes: int

    @property
    def slots(self) -> int:
        """How many slots the tokens take that texts which are not done have read."""
        return max(text.read for text in self.texts if not text.is_done)

    def slots_after(self, steps: int, max_new_tokens: int) -> int:
        """Return how many slots they take so many tokens later, at the most."""
        return max(
            min(text.read + steps, text.prompt + max_new_tokens - 1)
            for text in self.texts
            if not text.is_done
        )

    @property
    def unfinished(self) -> int:
        """How many texts are not done."""
        return sum(not text.is_done for text in self.texts)

    def moved(self, occurrence: Occurrence) -> KeysValues:
        """Give away what was left at an occurrence."""
        return self.kept.pop(occurrence).of(self.rows, self.slots)


def unfinished(
    program: Program,
    texts: Sequence[GeneratedText],
    total: Int[Tensor, "batch"],
    kept: dict[Occurrence, KeysValues],
) -> DecodingPlan | None:
    """Return a plan with those of its texts that are not done; None if all are."""
    rows = [row for row, text in enumerate(texts) if not text.is_done]
    if not rows:
        return None
    index = torch.tensor(rows, device=total.device)
    entries = [one for each in kept.values() for one in each]
    slot_bytes = sum(one.shape[1] * one.shape[3] * one.itemsize for one in entries)
    return DecodingPlan(
        program, [texts[row] for row in rows], total[index], kept, index, slot_bytes
    )
