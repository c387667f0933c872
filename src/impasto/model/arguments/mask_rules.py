"""How a model masks, read from the masks that its own forward makes for its blocks.

For short texts the forward is run once and gives the whole mask. For long ones it would take
memory of tokens × tokens, so single rows are read instead, each at the cost of one token: a cache
without content says that the tokens before it were read already. A rule (causal, a window, chunks)
is taken for a layer's own once it agrees with the whole mask of a short text, with the rows next to
where the rule changes, and with others spread over the whole length. A model whose rows follow no
such rule, or that makes no such rows, gives the whole mask at any length.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Int, Shaped
from torch import Tensor
from transformers import Cache
from transformers.cache_utils import DynamicIndexedLayer

from impasto.model.arguments.visibility import (
    Causal,
    Chunk,
    Interval,
    MaskTable,
    Rule,
    Visibility,
    Window,
)
from impasto.model.structure.anatomy import KEY_ARGUMENTS
from impasto.model.structure.block import Arguments

WHOLE = 128  # positions whose whole mask is read, however long a text is
_AHEAD = 64  # positions; whole masks are read for a multiple of it
_AXES = 3  # of positions, as an indexer counts them: of a text, all the same


class LengthOnlyCache(Cache):
    """A cache without content: it says how many tokens were read, and has no keys of theirs.

    Args:
        past: The number of tokens that count as read.
        keys: The number of keys that masks are made for; None for those of all tokens.
        positions: Those of the tokens that count as read, for a forward that takes them from the
            layer of an indexer.
    """

    def __init__(
        self,
        past: int,
        keys: int | None = None,
        positions: Int[Tensor, "batch past"] | None = None,
    ) -> None:
        super().__init__(layers=[])
        if positions is not None:
            self.__dict__["layers"] = _PositionsAlone(positions)
        self._past, self._keys = past, keys

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Return the number of tokens that count as read."""
        return self._past

    def get_query_offset(self, layer_idx: int = 0) -> int:
        """Return the position of the first new token."""
        return self._past

    def has_previous_state(
        self, layer_idx: int | None = None, state_idx: int | None = None
    ) -> bool:
        """Whether a recurrence counts as having read anything."""
        return self._past > 0

    def get_mask_sizes(self, query_length: int, layer_idx: int) -> tuple[int, int]:
        """Return the number of keys in a mask, and the position of the first."""
        return self._past + query_length if self._keys is None else self._keys, 0


class _PositionsAlone(list[Any]):
    """The layers of a cache without any; one that a forward asks for holds positions."""

    def __init__(self, positions: Int[Tensor, "batch past"]) -> None:
        super().__init__()
        self._positions = positions

    def __getitem__(self, index: Any) -> Any:
        layer = DynamicIndexedLayer()
        layer.indexer_position_ids = self._positions.expand(_AXES, -1, -1)
        return layer


class MaskReader:
    """Reads the rules by which one model masks.

    Attributes:
        shows_rows: Whether single rows of its masks show its rules; False once they did not.
    """

    def __init__(self) -> None:
        self.shows_rows = True

    def read(self, model: Any, length: int) -> Visibility:
        """Return the rules for at least ``length`` positions.

        Some more are read where the model has them, so that it need not be read for each length.

        Args:
            model: Always the same :class:`impasto.model.decoder.OpenedModel`.
            length: The number of positions.
        """
        if length > WHOLE and self.shows_rows and model.takes_cache:
            short = _read_whole(model, min(WHOLE, model.max_positions or WHOLE))
            further = 1 << (length - 1).bit_length()
            longest = max(length, min(further, model.max_positions or further))
            rules = rules_by_rows(short, MaskRows(model, KEY_ARGUMENTS), longest)
            if rules is not None:
                return rules
            self.shows_rows = False
        ahead = -(-length // _AHEAD) * _AHEAD
        return _read_whole(model, max(length, min(ahead, model.max_positions or ahead)))


def _read_whole(model: Any, length: int) -> Visibility:
    ids = torch.zeros(1, length + 1, dtype=torch.long, device=model.device)
    present = torch.ones_like(ids)
    present[:, 0] = 0
    positions = (present.cumsum(-1) - 1).clamp(min=0)
    return rules_of_whole(model.enter(ids, positions, present).arguments, KEY_ARGUMENTS)


@dataclass(frozen=True)
class MaskRow:
    """One row of every layer's mask.

    Attributes:
        position: Its position.
        first: For each layer, the lowest position that is visible to it; None where the visible
            keys are not one interval that ends at its own.
        by_key: Further arguments, by name, whose last axis is the key's position.
    """

    position: int
    first: list[int | None]
    by_key: Arguments


class MaskRows:
    """Single rows of a model's masks, each read once.

    Args:
        model: The model: an :class:`impasto.model.decoder.OpenedModel`.
        by_key: The names of arguments whose last axis is that of keys.
    """

    def __init__(self, model: Any, by_key: tuple[str, ...]) -> None:
        self._model, self._by_key = model, by_key
        self._known: dict[int, MaskRow | None] = {}

    def at(self, position: int) -> MaskRow | None:
        """Return the row at a position; None where the model makes no such row."""
        if position not in self._known:
            self._known[position] = self._read(position)
        return self._known[position]

    def first(self, layer: int, position: int) -> int | None:
        """Return the lowest position visible to a layer's row; None where that says not all."""
        row = self.at(position)
        return None if row is None else row.first[layer]

    def _read(self, position: int) -> MaskRow | None:
        """Read one token behind a pad and ``position`` more; without the pad, masks may be None."""
        device = self._model.device
        present = torch.ones(1, position + 2, dtype=torch.long, device=device)
        present[:, 0] = 0
        ids = torch.zeros(1, 1, dtype=torch.long, device=device)
        try:
            calls = self._model.enter(
                ids, torch.full_like(ids, position), present, LengthOnlyCache(position + 1)
            ).arguments
        except (AttributeError, LookupError, RuntimeError, ValueError):
            return None  # its forward needs more of a cache than this one can say
        masks = [call.get("attention_mask") for call in calls]
        if not all(isinstance(m, Tensor) and m.shape == (1, 1, 1, position + 2) for m in masks):
            return None
        known: dict[int, int | None] = {}  # layers of a kind are handed the same mask
        for mask in masks:
            if id(mask) not in known:
                known[id(mask)] = _interval_start(mask[0, 0, 0, 1:])
        further = {n: calls[0][n][..., 1:] for n in self._by_key if calls[0].get(n) is not None}
        return MaskRow(position, [known[id(mask)] for mask in masks], further)


def rules_of_whole(calls: Sequence[Arguments], by_key: tuple[str, ...]) -> Visibility:
    """Return the rules that whole masks follow.

    Args:
        calls: The arguments of each layer, from one sequence that begins with one pad. (The pad
            makes the model build a mask where it would leave a plain causal one out.)
        by_key: The names of further arguments whose last axis is that of keys.
    """
    rules: list[Rule] = []
    kinds, known = [], dict[int, int]()
    for call in calls:
        mask = call["attention_mask"]
        if id(mask) not in known:
            table = mask[0, :, 1:, 1:].to(calls[0]["attention_mask"].device)
            known[id(mask)] = _index_of(rules, _rule_of(table))
        kinds.append(known[id(mask)])
    first = calls[0]["attention_mask"]
    further = {name: calls[0][name][..., 1:] for name in by_key if calls[0].get(name) is not None}
    numbers = None if first.dtype == torch.bool else first.dtype
    return Visibility(first.shape[-1] - 1, kinds, rules, numbers, further)


def rules_by_rows(short: Visibility, rows: MaskRows, length: int) -> Visibility | None:
    """Return the rules for ``length`` positions; None where single rows do not show them.

    Args:
        short: The rules for fewer positions, from whole masks.
        rows: The rows of the model's masks.
        length: The number of positions.
    """
    rules: list[Rule] = []
    kinds: list[int] = []
    for layer, kind in enumerate(short.kinds):
        small = short.rules[kind]
        if isinstance(small, MaskTable):
            return None
        rule = _rule_by_rows(rows, layer, length, small, short)
        if rule is None:
            return None
        kinds.append(_index_of(rules, rule))
    last = rows.at(length - 1)
    assert last is not None, "the rules rest on it"
    for name, table in short.by_key.items():
        if not torch.equal(last.by_key[name][..., : short.length], table):
            return None
    return Visibility(length, kinds, rules, short.numbers, last.by_key)


def _rule_by_rows(
    rows: MaskRows, layer: int, length: int, small: Interval, short: Visibility
) -> Interval | None:
    """Return the rule that the inspected rows of a layer follow; None where they follow none."""
    last = length - 1
    first = rows.first(layer, last)
    if first is None:
        return None
    candidates: list[Interval] = [Causal()]
    positions = {short.length, length // 3, length // 2, 2 * length // 3 + 1, last - 1, last}
    if first:
        before = rows.first(layer, first - 1)
        if before is None:
            return None
        sizes = (last - first + 1, first - before)
        candidates = [Window(sizes[0]), Chunk(sizes[1])]
        edges = {size * turn + by for size in sizes for turn in (1, 2) for by in (-1, 0, 1)}
        positions |= {edge for edge in edges if 0 <= edge <= last} | {first - 1, first}
    firsts = [(position, rows.first(layer, position)) for position in sorted(positions)]
    every = torch.arange(short.length)
    firsts += zip(every.tolist(), small.first_visible(every).tolist(), strict=True)
    return next((rule for rule in candidates if _agrees(rule, firsts)), None)


def _agrees(rule: Interval, firsts: Iterable[tuple[int, int | None]]) -> bool:
    """Whether a rule gives the first visible position of each of some positions."""
    firsts = list(firsts)
    positions = torch.tensor([position for position, _ in firsts])
    return rule.first_visible(positions).tolist() == [first for _, first in firsts]


def _rule_of(table: Shaped[Tensor, "heads rows keys"]) -> Rule:
    """Return the rule that a whole mask follows; rows and keys are positions from 0."""
    visible = _visible(table[0]) if table.shape[0] == 1 else None
    if visible is None:
        return MaskTable(table)
    every = torch.arange(len(visible), device=visible.device)
    starts = visible.byte().argmax(1)
    if not torch.equal(visible, (every >= starts[:, None]) & (every <= every[:, None])):
        return MaskTable(table)
    firsts = list(enumerate(starts.tolist()))
    last, first = firsts[-1]
    candidates: list[Interval] = [Causal(), Window(last - first + 1)]
    candidates += [Chunk(at) for at, begin in firsts if begin == at > 0][:1]
    return next((rule for rule in candidates if _agrees(rule, firsts)), MaskTable(table))


def _interval_start(row: Shaped[Tensor, "keys"]) -> int | None:
    """Return the first of the keys visible to a row; None where they do not reach to its own."""
    visible = _visible(row)
    if visible is None:
        return None
    first = int(visible.byte().argmax())
    return first if bool(visible[first:].all()) else None


def _visible(mask: Shaped[Tensor, "*any"]) -> Bool[Tensor, "*any"] | None:
    """Return which keys a mask makes visible; None where it adds other numbers to scores, too."""
    if mask.dtype == torch.bool:
        return mask
    visible, hidden = mask == 0, mask <= torch.finfo(mask.dtype).min
    return visible if bool((visible | hidden).all()) else None


def _index_of(rules: list[Rule], rule: Rule) -> int:
    """Return the index of a rule among others; it is appended where it is none of them."""
    for index, known in enumerate(rules):
        if isinstance(known, MaskTable) and isinstance(rule, MaskTable):
            if torch.equal(known.values, rule.values):
                return index
        elif known == rule:
            return index
    rules.append(rule)
    return len(rules) - 1
