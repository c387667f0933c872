"""How many bytes a model's blocks, embeddings and head work on: counted on a few rows, once.

Nothing is written down for a family. A layer of each kind runs on batches of a few sizes, and what
is alive after each of its operations is counted (:mod:`impasto.run.batching.live_bytes`). That
grows with the rows, with the keys, and, where scores are made, with their pairs; which operation
has most alive depends on the sizes.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils._pytree import tree_leaves

from impasto.model.decoder import OpenedModel
from impasto.model.structure.block import Arguments, Entered
from impasto.run.batching.live_bytes import LiveBytes
from impasto.run.kv.buffers import KeysValues
from impasto.run.kv.cache import BlockCache, KeysAndValuesReady

_SEQUENCES, _TOKENS = 2, 64  # of a sequence, keys and rows, where the model reads so many
Course = NDArray[np.float64]
"""By operation: bytes in any case, and for each row, key and pair of them."""


@dataclass(frozen=True)
class Working:
    """What a model works on.

    Attributes:
        plain: For each kind of layer, the bytes beside what it reads, what it returns included,
            where tokens follow one another and nothing else.
        behind: The same where there is a mask, and keys before the rows.
        keys_alone: The bytes for each row that runs for its keys and values alone.
        kept: The bytes of the keys and values of a token at an attention, at the most.
        entered: The bytes for each row of the embeddings and of what blocks are called with.
        logits: The bytes for each row on the way to its logits, them included.
    """

    plain: Sequence[Course]
    behind: Sequence[Course]
    keys_alone: float
    kept: int
    entered: float
    logits: float

    def block(self, rows: int, keys: int, pairs: int, is_plain: bool = False) -> float:
        """Return the most bytes that a block takes beside what it reads."""
        sizes = np.array([1.0, rows, keys, pairs])
        return max(
            float((each @ sizes).max()) for each in (self.plain if is_plain else self.behind)
        )


_counted: WeakKeyDictionary[OpenedModel, Working] = WeakKeyDictionary()


def working(model: OpenedModel) -> Working:
    """Return what a model works on, counted once for each opening."""
    if model not in _counted:
        with torch.no_grad():
            _counted[model] = _Counted(model).all()
    return _counted[model]


class _Counted:
    """Counts a model's bytes on small batches, of no more tokens than it reads."""

    def __init__(self, model: OpenedModel) -> None:
        self._model = model
        self._weights = [*model.hf.parameters(), *model.hf.buffers()]
        most = min(_TOKENS, model.max_positions or _TOKENS)
        few, many = max(2, most // 8), max(3, most // 4)
        self._rows = few, many  # of a sequence
        self._plain = (max(1, few // 2), 0), (few, 0), (many, 0)  # rows, and keys before them
        self._pasts = max(1, most // 4), most - many
        self._behind = [(rows, past) for past in self._pasts for rows in self._rows]

    def all(self) -> Working:
        layers = self._kinds()
        rows = [_SEQUENCES * count for count in self._rows]
        alone = [self._keys_alone(layer, count) for layer in layers for count in self._rows]
        entered = [self._alive(lambda count=count: self._enter(count)) for count in self._rows]
        states = [self._enter(count).states.flatten(0, 1) for count in self._rows]
        logits = [self._run(lambda each=each: self._model.leave(each), [each]) for each in states]
        return Working(
            [self._course(layer, self._plain) for layer in layers],
            [self._course(layer, self._behind) for layer in layers],
            max(_slope(rows, pair) for pair in zip(alone[::2], alone[1::2], strict=True)),
            max(self._kept(layer) for layer in layers),
            _slope(rows, entered),
            _slope(rows, [most for most, _ in logits]),
        )

    def _kinds(self) -> list[int]:
        """Return a layer of each kind: of one class, with weights of the same shapes."""
        kinds: dict[object, int] = {}
        for layer in self._model.present:
            module = self._model.blocks[layer].module
            shapes = tuple((name, weight.shape) for name, weight in module.named_parameters())
            kinds.setdefault((type(module), shapes), layer)
        return list(kinds.values())

    def _enter(self, count: int) -> Entered:
        positions = torch.arange(count, device=self._model.device).expand(_SEQUENCES, -1)
        return self._model.enter(positions % self._model.vocabulary, positions)

    def _course(self, layer: int, sizes: Sequence[tuple[int, int]]) -> Course:
        """Return how what a layer takes grows, of batches of some sizes.

        Where it does other operations at other sizes, as experts are chosen, of the most alone.
        """
        runs = [self._run(*self._call(layer, rows, past)) for rows, past in sizes]
        known = np.array([[1, r, r + p, r * (r + p)] for r, p in sizes], float)
        known[:, 1:] *= _SEQUENCES
        if sizes is self._plain:
            known[:, 2] = 0
        courses = [course for _, course in runs]
        if len({len(course) for course in courses}) > 1:
            courses = [[most] for most, _ in runs]
        lines, *_ = np.linalg.lstsq(known, np.array(courses, float), rcond=None)
        return lines.T

    def _call(self, layer: int, rows: int, past: int) -> tuple[Callable[[], object], list[Tensor]]:
        """Return a call of a layer on rows behind so many keys, and what was there before it."""
        block, entered = self._model.blocks[layer], self._enter(rows)
        arguments, before = entered.arguments[layer], [entered.states]
        if past and block.leaves_keys:
            given = self._recorded(layer, past)
            arguments = self._cached(arguments, BlockCache(given, rows)) | self._masked(
                layer, rows, past + rows, entered.states.dtype
            )
            before += given
        return lambda: block(entered.states, arguments), [*before, *_tensors(arguments)]

    def _masked(self, layer: int, rows: int, keys: int, dtype: torch.dtype) -> Arguments:
        """Return a mask by a layer's rule for the last rows of some keys, and what goes along."""
        every = torch.arange(keys, device=self._model.device).expand(_SEQUENCES, -1)
        last, visibility = every[:, -rows:], self._model.visibility(keys)
        allowed = torch.ones(_SEQUENCES, rows, keys, dtype=torch.bool, device=every.device)
        mask = visibility.mask(visibility.kinds[layer], last, every, allowed, dtype)
        return visibility.further(every) | {"attention_mask": mask}

    def _recorded(self, layer: int, count: int) -> KeysValues:
        """Return the keys and values of some tokens at a layer."""
        entered, cache = self._enter(count), BlockCache(None, count)
        arguments = self._cached(entered.arguments[layer], cache)
        self._model.blocks[layer](entered.states, arguments)
        return cache.keys_values

    def _kept(self, layer: int) -> int:
        """Return the bytes of the keys and values of a token at a layer."""
        if not self._model.blocks[layer].leaves_keys:
            return 0
        both = self._recorded(layer, self._rows[0])
        return sum(each.numel() * each.itemsize for each in both) // (_SEQUENCES * self._rows[0])

    def _keys_alone(self, layer: int, count: int) -> int:
        """Return the most bytes that rows take for their keys and values alone."""
        block, entered = self._model.blocks[layer], self._enter(count)
        if not block.leaves_keys:
            return 0
        cache = BlockCache(None, count, kv_only=True)
        arguments = self._cached(entered.arguments[layer], cache)

        def call() -> None:
            with suppress(KeysAndValuesReady), block.without_queries():
                block(entered.states, arguments)

        return self._run(call, [entered.states, *_tensors(arguments)])[0]

    def _cached(self, arguments: Arguments, cache: BlockCache) -> Arguments:
        name = self._model.habits.cache_argument
        return arguments | {name: cache} | ({"use_cache": True} if "use_cache" in arguments else {})

    def _run(self, call: Callable[[], object], before: Sequence[Tensor]) -> tuple[int, list[int]]:
        """Return the most bytes alive in a call, and those after each of its operations."""
        with LiveBytes([*self._weights, *before]) as live:
            call()
        return live.most, live.course

    def _alive(self, call: Callable[[], object]) -> int:
        """Return the bytes that are alive in what a call returns."""
        with LiveBytes(self._weights) as live:
            result = call()
        alive = live.alive
        del result
        return alive


def _tensors(arguments: Arguments) -> list[Tensor]:
    return [each for each in tree_leaves(arguments) if isinstance(each, Tensor)]


def _slope(counts: Sequence[int], sizes: Sequence[int]) -> float:
    """Return the bytes for each row, of sizes at two counts of rows."""
    return max(0.0, (sizes[1] - sizes[0]) / (counts[1] - counts[0]))
