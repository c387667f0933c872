"""A batch of token sequences, and which of their tokens a prediction is wanted after.

``batch`` sequences of ``new`` tokens, padded on the right, follow ``past`` tokens whose keys and
values are there already. A sequence may be a prefix tree (:mod:`impasto.run.batching.prefix_tree`):
then the tokens before a token are its ancestors. A token is *scored* where the model's prediction
of its successor is wanted.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from impasto.run.batching.padding import padded, sent
from impasto.run.batching.prefix_tree import PrefixTree
from impasto.run.noise import along, prefix_keys


@dataclass(frozen=True)
class Known:
    """What is known of a batch as it is made, and would have to be waited for later.

    Attributes:
        positions: How many positions its tokens, and those before them, have at the most.
        are_scored_alike: Whether the same tokens are scored in every sequence.
        most_later: How many new tokens of a sequence are not the prompt's, at the most.
        read: How many tokens of a sequence lie in buffers, at the most.
        predictions: Which of the rows that scored tokens have stand for one, as they lie.
    """

    positions: int
    are_scored_alike: bool
    most_later: int | None = None
    read: int = 0
    predictions: Int[Tensor, "predictions"] | None = None


@dataclass(frozen=True)
class Batch:
    """Sequences of new tokens, padded on the right.

    Attributes:
        ids: New tokens.
        positions: Their positions.
        is_real: Where they are no padding.
        scored: Which of them (by index) a prediction is wanted after, padded on the right.
        is_scored: Where ``scored`` is real.
        past: The positions of the past keys.
        has_past: Where a past key is no padding's.
        total: The sums of :func:`impasto.run.noise.prefix_keys` over the past.
        end: Where, among the new tokens, the descendants of each end, where they are a prefix tree
            (:attr:`impasto.run.batching.prefix_tree.PrefixTree.ends`); None where each follows the
            one before it.
        buffered: How many tokens of each sequence lie in KV buffers
            (:class:`impasto.run.kv.buffers.KVBuffer`), where the past does. Then ``past`` is empty
            and every new token is scored.
        visible: How many tokens in the buffers, or before them, rows may see then.
        common: How many leading tokens of each sequence lie before the buffers, since others have
            them in common.
        prompt: How many leading new tokens are the prompt's, its last one excepted; None for none.
        known: What is known without asking the device; None: it is asked.
    """

    ids: Int[Tensor, "batch new"]
    positions: Int[Tensor, "batch new"]
    is_real: Bool[Tensor, "batch new"]
    scored: Int[Tensor, "batch scored"]
    is_scored: Bool[Tensor, "batch scored"]
    past: Int[Tensor, "batch past"]
    has_past: Bool[Tensor, "batch past"]
    total: Int[Tensor, "batch"]
    end: Int[Tensor, "batch new"] | None = None
    buffered: Int[Tensor, "batch"] | None = None
    visible: int = 0
    common: int = 0
    prompt: Int[Tensor, "batch"] | None = None
    known: Known | None = None

    @cached_property
    def past_lengths(self) -> Int[Tensor, "batch"]:
        """How many tokens came before the new ones."""
        return self.has_past.sum(1) if self.buffered is None else self.buffered

    @cached_property
    def index(self) -> Int[Tensor, "batch new"]:
        """How many tokens came before each new one."""
        return self.past_lengths[:, None] + along(self.is_real.long(), self.end) - 1

    @cached_property
    def hashed(self) -> tuple[Int[Tensor, "batch new"], Int[Tensor, "batch new"]]:
        """A noise key for every new token, and the running sums after it."""
        return prefix_keys(self.ids, self.is_real, self.past_lengths, self.total, self.end)

    def are_ancestors(self, rows: Int[Tensor, "*batch rows"]) -> Bool[Tensor, "batch rows new"]:
        """Return which new tokens of a prefix tree are ancestors of others, or they themselves."""
        assert self.end is not None, "it is a prefix tree"
        keys, rows = torch.arange(self.ids.shape[1], device=rows.device), rows[..., None]
        return (keys <= rows) & (rows < self.end[:, None])

    @cached_property
    def reached(self) -> dict[Any, Any]:
        """By reach, what there is within it (:mod:`impasto.run.execute.reached`), once asked."""
        return {}

    @cached_property
    def buffer_indices(self) -> Int[Tensor, "batch rows"]:
        """The indices among visible tokens of new ones as earlier rows, then as current rows."""
        rows = torch.arange(2 * self.ids.shape[1], device=self.ids.device)
        return self.past_lengths[:, None] + rows

    @cached_property
    def indices_behind_common(self) -> Int[Tensor, "batch rows"]:
        """The same in buffers that begin behind the tokens that lie before them."""
        return self.buffer_indices - self.common

    @cached_property
    def is_prompt(self) -> Bool[Tensor, "batch new"]:
        """Which new tokens are the prompt's, its last one excepted."""
        places = torch.arange(self.ids.shape[1], device=self.ids.device)
        prompt = self.total.new_zeros(()) if self.prompt is None else self.prompt[:, None]
        return (places < prompt).expand_as(self.ids)

    @cached_property
    def later(self) -> "Later":
        """The new tokens that are not."""
        every = torch.arange(self.ids.shape[1], device=self.ids.device)
        begins = self.is_prompt.sum(1, keepdim=True)
        counts = (((every + 1) * self.is_real).amax(1, keepdim=True) - begins).clamp(min=0)
        known = None if self.known is None else self.known.most_later
        most = int(counts.max()) if known is None else known
        is_later = every[:most] < counts
        source = every - begins
        is_none = (source < 0) | (source >= counts)
        index = torch.where(is_later, begins + every[:most], 0)
        return Later(index, is_later, source.masked_fill(is_none, -1))

    @cached_property
    def scored_alike(self) -> Int[Tensor, "scored"] | None:
        """Which tokens are scored, where they are the same ones in every sequence."""
        first = self.scored[0]
        are_alike = (
            (self.scored == first).all() if self.known is None else self.known.are_scored_alike
        )
        return first if bool(are_alike) else None

    def length(self, keys: Int[Tensor, "batch keys"]) -> int:
        """Return how many positions there are at the most, those of keys among them."""
        return int(keys.max()) + 1 if self.known is None else self.known.positions

    @property
    def read(self) -> int:
        """How many tokens of a sequence lie in buffers, at the most."""
        assert self.known is not None, "such batches are made of lists"
        return self.known.read

    def predictions(self, rows: Float[Tensor, "batch scored hidden"]) -> Tensor:
        """Return those of rows that stand for scored tokens, sequence by sequence."""
        places = None if self.known is None else self.known.predictions
        if places is None:
            return rows[self.is_scored.to(rows.device)]
        return rows.flatten(0, 1).index_select(0, places.to(rows.device))

    def part(self, span: slice) -> "Batch":
        """Return some of the sequences."""
        values: dict[str, Any] = {each.name: getattr(self, each.name) for each in fields(self)}
        for name, value in values.items():
            values[name] = value[span] if isinstance(value, Tensor) else value
        if self.known is not None:
            values["known"] = replace(self.known, predictions=None)
        return Batch(**values)

    def pick(self, rows: Tensor) -> Tensor:
        """Return the scored ones of ``rows`` (batch × new × …)."""
        return picked(rows, self.scored)


@dataclass(frozen=True)
class Later:
    """New tokens that are not the prompt's, or its last one.

    Attributes:
        index: The place of each among the new tokens, padded on the right.
        is_real: Where that is no padding.
        source: The place of each new token among these; −1 where it is none of them.
    """

    index: Int[Tensor, "batch later"]
    is_real: Bool[Tensor, "batch later"]
    source: Int[Tensor, "batch new"]

    def pick(self, rows: Tensor) -> Tensor:
        """Return these of ``rows`` (batch × new × …)."""
        return picked(rows, self.index)

    def put(self, rows: Tensor, later: Tensor) -> Tensor:
        """Return ``rows`` (batch × new × …) with these replaced."""
        return replaced(rows, self.source, later)


def picked(rows: Tensor, index: Int[Tensor, "batch some"]) -> Tensor:
    """Return the ones of ``rows`` (batch × new × …) at these indices."""
    index = index.to(rows.device)
    index = index.reshape(*index.shape, *[1] * (rows.ndim - 2))
    return rows.gather(1, index.expand(-1, -1, *rows.shape[2:]))


def replaced(
    rows: Float[Tensor, "batch new hidden"],
    source: Int[Tensor, "batch new"],
    given: Float[Tensor, "batch some hidden"],
) -> Float[Tensor, "batch new hidden"]:
    """Return rows, each replaced by the given one at its source's index; −1 keeps it."""
    given = picked(given, source.clamp(min=0)).to(rows.device)
    return torch.where(source.to(rows.device)[..., None] < 0, rows, given)


def first_batch(prefix_trees: Sequence[PrefixTree], device: torch.device) -> Batch:
    """Return the batch of some prefix trees that follow nothing."""
    ids, is_real = padded([prefix_tree.ids for prefix_tree in prefix_trees], 0, device)
    scored, is_scored = padded([prefix_tree.scored for prefix_tree in prefix_trees], 0, device)
    none, end = ids.new_zeros(len(prefix_trees), 0), None
    if not all(prefix_tree.is_chain for prefix_tree in prefix_trees):
        end, _ = padded([prefix_tree.ends for prefix_tree in prefix_trees], ids.shape[1], device)
    return Batch(
        ids=ids,
        positions=padded([prefix_tree.depths for prefix_tree in prefix_trees], 0, device)[0],
        is_real=is_real,
        scored=scored,
        is_scored=is_scored,
        past=none,
        has_past=none.bool(),
        total=none.sum(1),
        end=end,
        prompt=sent(torch.tensor([tree.prompt for tree in prefix_trees]), device),
        known=_known(prefix_trees, device),
    )


def _known(prefix_trees: Sequence[PrefixTree], device: torch.device) -> Known:
    scored = [list(tree.scored) for tree in prefix_trees]
    most = max(map(len, scored))
    places = [row * most + at for row, each in enumerate(scored) for at in range(len(each))]
    return Known(
        positions=1 + max(depth for tree in prefix_trees for depth in tree.depths),
        are_scored_alike=all(each == scored[0] for each in scored),
        most_later=max(len(tree.ids) - tree.prompt for tree in prefix_trees),
        predictions=sent(torch.tensor(places, dtype=torch.long), device),
    )


def following_batch(prefix: Batch, prefix_trees: Sequence[PrefixTree]) -> Batch:
    """Return the batch of prefix trees that all follow one prefix (a batch of one, unpadded)."""
    batch = first_batch(prefix_trees, prefix.ids.device)
    past = prefix.positions.expand(len(prefix_trees), -1)
    assert batch.known is not None
    return replace(
        batch,
        known=replace(batch.known, positions=batch.known.positions + past.shape[1]),
        positions=batch.positions + past.shape[1],
        past=past,
        has_past=torch.ones_like(past, dtype=torch.bool),
        total=prefix.hashed[1][:, -1].expand(len(prefix_trees)),
    )


class Parts(NamedTuple):
    """Which rows run in a call of a block.

    Attributes:
        earlier: Whether new tokens run as earlier rows.
        current: Whether scored tokens run as current rows, behind those.
        later: Whether of new tokens only those run that are not the prompt's.
    """

    earlier: bool
    current: bool
    later: bool = False

    def of(self, new: Shaped[Tensor, "batch new"], batch: Batch) -> Shaped[Tensor, "batch rows"]:
        """Return what is said of new tokens, for each of these rows."""
        earlier = batch.later.pick(new) if self.later else new
        return torch.cat([earlier] * self.earlier + [batch.pick(new)] * self.current, 1)


def visible_rows(
    batch: Batch,
    parts: Parts,
    past: Int[Tensor, "batch past"],
    has_past: Bool[Tensor, "batch past"],
    positions: Int[Tensor, "batch new"],
) -> Bool[Tensor, "batch rows keys"]:
    """Return which rows may see which keys by the batch alone.

    Args:
        batch: The batch.
        parts: The rows.
        past: The positions of past keys.
        has_past: Where a past key is no padding's.
        positions: The positions of new tokens.
    """
    size, count, new, scored = *past.shape, batch.ids.shape[1], batch.scored.shape[1]
    real = torch.cat([has_past, batch.is_real], 1)
    blocks = []
    if parts.earlier:
        places = torch.arange(new, device=real.device)
        rows = batch.later.index if parts.later else places
        visible = real[:, None, :].repeat(1, rows.shape[-1], 1)
        if batch.end is not None:
            visible[:, :, count:] &= batch.are_ancestors(rows)
        own = rows[..., None] == places
        visible[:, :, count:] |= own  # padding sees itself, lest its softmax be empty
        none = real.new_zeros(size, visible.shape[1], scored * parts.current)
        blocks.append(torch.cat([visible, none], 2))
    if parts.current:
        before = torch.cat([past, positions], 1)[:, None] < batch.pick(positions)[:, :, None]
        if batch.end is not None:
            before[:, :, count:] &= batch.are_ancestors(batch.scored)
        itself = torch.eye(scored, dtype=torch.bool, device=real.device)
        itself = itself.expand(size, -1, -1)
        blocks.append(torch.cat([before & real[:, None, :], itself], 2))
    return torch.cat(blocks, 1)
