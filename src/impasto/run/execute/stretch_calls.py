"""What a stretch of tokens is called with, what was read before it, and which rows donors give.

For the executor of sequences that run as they are (:mod:`impasto.run.execute.sequential`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from impasto.model.decoder import OpenedModel
from impasto.model.opened import SequentialHabits
from impasto.model.sequential import enter_behind
from impasto.model.structure.block import Entered
from impasto.plan.program import Occurrence
from impasto.run.batching.request import Transplant
from impasto.run.batching.stretches import Stretch
from impasto.run.kv.states import LayerState


@dataclass(frozen=True)
class Read:
    """Sequences that were read before, equally many tokens of each.

    Attributes:
        ids: The tokens.
        states: The state of each occurrence.
        total: The sums of :func:`impasto.run.noise.prefix_keys` over the tokens.
        lengths: How many of the tokens are no padding.
    """

    ids: Int[Tensor, "batch past"]
    states: Mapping[Occurrence, LayerState]
    total: Int[Tensor, "batch"]
    lengths: Int[Tensor, "batch"]

    def select(self, sequences: Int[Tensor, "some"]) -> "Read":
        """Return some of the sequences, given by index."""
        states = {each: state.select(sequences) for each, state in self.states.items()}
        own = sequences.to(self.ids.device)
        return Read(self.ids[own], states, self.total[own], self.lengths[own])


class Before(NamedTuple):
    """What each of some sequences has read.

    Attributes:
        ids: The tokens.
        rows: Their rows in the tree, of those that are in it.
        roots: The sequence before the tree that each goes on from, by index.
    """

    ids: Int[Tensor, "batch past"]
    rows: Int[Tensor, "batch read"]
    roots: Int[Tensor, "batch"]


class Path(NamedTuple):
    """The rows of a tree that lie behind the new rows of some sequences, and those themselves.

    Attributes:
        roots: The sequence before the tree that each goes on from, by index.
        rows: The rows of the tree that are seen as joint or earlier ones, new ones included.
        new: The new rows; current ones by their places among the predictions.
        is_real: Which of them are no padding.
        scored: The place among the predictions of each current row; None where no rows are current.
    """

    roots: Int[Tensor, "batch"]
    rows: Int[Tensor, "batch read"]
    new: Int[Tensor, "batch new"]
    is_real: Bool[Tensor, "batch new"]
    scored: Int[Tensor, "batch"] | None = None


class StretchCall:
    """A stretch as tensors, and what blocks are called with on it.

    Args:
        model: The model.
        stretch: The stretch.
        ids: The token of each row of the tree.
        before: What each sequence has read that it goes on from.
        scored: The place among the predictions of each scored row.
    """

    def __init__(
        self,
        model: OpenedModel,
        stretch: Stretch,
        ids: Int[Tensor, "tokens"],
        before: Before,
        scored: Mapping[int, int],
    ) -> None:
        self.model, self.stretch, device = model, stretch, ids.device
        self.rows = torch.tensor(stretch.rows, device=device)
        self.parents = torch.tensor(stretch.parents, device=device)
        self.ids, self.before = ids[self.rows], before.ids[self.parents]
        self.rows_before, self.roots = before.rows[self.parents], before.roots[self.parents]
        places = torch.arange(self.rows.shape[1], device=device)
        self.is_real = places < torch.tensor(stretch.counts, device=device)[:, None]
        first = [(at, scored[row[0]]) for at, row in enumerate(stretch.rows) if row[0] in scored]
        self.current = torch.tensor([at for at, _ in first], dtype=torch.long, device=device)
        self.scored = torch.tensor([place for _, place in first], dtype=torch.long, device=device)
        self._single: dict[int, Entered] = {}

    @property
    def read(self) -> Int[Tensor, "batch read"]:
        """The tokens that each sequence has read at the end."""
        return torch.cat([self.before, self.ids], 1)

    @property
    def after(self) -> Before:
        """What each sequence has read at the end."""
        return Before(self.read, torch.cat([self.rows_before, self.rows], 1), self.roots)

    def path(self, begin: int, end: int) -> Path:
        """Return what lies behind some of its rows, by place, and these."""
        rows = torch.cat([self.rows_before, self.rows[:, :end]], 1)
        return Path(self.roots, rows, self.rows[:, begin:end], self.is_real[:, begin:end])

    @property
    def path_of_current(self) -> Path:
        """What lies behind the scored first rows, and these, as current ones."""
        at, scored = self.current, self.scored
        new, rows = scored[:, None], self.rows_before[at]
        return Path(self.roots[at], rows, new, torch.ones_like(new, dtype=torch.bool), scored)

    def is_given(self, entered: Entered) -> None:
        """Let blocks be called with what the model's own forward has prepared."""
        self.__dict__["entered"] = entered
        if self.ids.shape[1] == 1:
            self.__dict__["entered_current"] = entered

    @cached_property
    def entered(self) -> Entered:
        """The embeddings, and the call arguments of each block."""
        return self._enter(self.before, self.ids)

    @cached_property
    def entered_current(self) -> Entered:
        """The same for the first tokens alone, of those sequences whose first token is scored."""
        return self._enter(self.before[self.current], self.ids[self.current, :1])

    def entered_at(self, place: int) -> Entered:
        """The same for one token of each sequence."""
        if place not in self._single:
            before = torch.cat([self.before, self.ids[:, :place]], 1)
            self._single[place] = self._enter(before, self.ids[:, place : place + 1])
        return self._single[place]

    @property
    def embedded(self) -> Float[Tensor, "batch new hidden"]:
        """The tokens' embeddings."""
        return self.entered.states[:, -self.ids.shape[1] :]

    def _enter(self, before: Tensor, ids: Tensor) -> Entered:
        if habits_of(self.model).goes_on:
            return enter_behind(self.model, ids, before.shape[1])
        return enter_behind(self.model, torch.cat([before, ids], 1), 0)


@dataclass(frozen=True)
class TreeSplice:
    """Rows of a tree to be set to rows of a donor's tree.

    Attributes:
        target: The rows to be replaced.
        source: The donor's rows that replace them.
    """

    target: Int[Tensor, "rows"]
    source: Int[Tensor, "rows"]

    @classmethod
    def of(
        cls,
        transplants: Sequence[Transplant],
        begins: tuple[Sequence[int], Sequence[int]],
        prefixes: tuple[int, int],
        device: torch.device,
    ) -> "TreeSplice":
        """Return which rows are replaced by which.

        Args:
            transplants: One for each prefix tree.
            begins: The first row of each prefix tree, and of each donor prompt.
            prefixes: How many tokens all of them, and all donor prompts, follow.
            device: Where the indices go.
        """
        pairs = [
            (begin + target - prefixes[0], first + source - prefixes[1])
            for transplant, begin, first in zip(transplants, *begins, strict=True)
            for source, target in transplant.rows
        ]
        target, source = torch.tensor(pairs, dtype=torch.long, device=device).reshape(-1, 2).T
        return cls(target, source)


def habits_of(model: OpenedModel) -> SequentialHabits:
    """Return how a model is called whose rows are not packed."""
    assert model.sequential is not None, "its rows cannot be packed"
    return model.sequential
