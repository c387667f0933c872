"""Where a plan's time goes: attention, MLP, the rest of the layers, the head, all else.

Marks are set as a layer's parts begin and end, which costs something by itself: a profile tells
shares, :mod:`impasto.speed.bench` tells times.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor, nn

from impasto.plan import Plan
from impasto.run import Model
from impasto.run.opening import opened
from impasto.speed.clock import Stopwatch
from impasto.speed.ways import Way, run

ATTENTION, MLP, REST, HEAD, ELSE = "attention", "mlp", "norms and residuals", "head", "all else"
PARTS = (ATTENTION, MLP, REST, HEAD, ELSE)
"""Of a layer its two parts, and what is left of it; then the head; then embeddings, masks and the
walk through the plan."""

_LAYER = "layer"


@dataclass(frozen=True)
class Profile:
    """Where the time of one kind of work went, in the run that took the median time.

    Attributes:
        work: ``prefill`` or ``token``.
        seconds: The whole of it.
        parts: Seconds by part.
        layers: Seconds by layer, all its occurrences together.
        pieces: Seconds by part and layer, what is left of the layer (`REST`) among them.
    """

    work: str
    seconds: float
    parts: Mapping[str, float]
    layers: Mapping[int, float]
    pieces: Mapping[tuple[str, int], float]


def profile(
    model: Model,
    plan: Plan,
    ids: Int[Tensor, "batch tokens"],
    way: Way,
    new_tokens: int = 2,
    rounds: int = 5,
) -> list[Profile]:
    """Return where the time of a prefill goes, and that of a token more behind it."""
    watch = _Parts(ids.device)
    found: dict[str, list[_Split]] = {"prefill": [], "token": []}
    with _watched(model, watch):
        for turn in range(rounds + 1):
            run(model, way, plan, ids, new_tokens, watch)
            prefill, *tokens = watch.splits()
            if turn:  # the first one warms up
                found["prefill"].append(prefill)
                found["token"] += tokens
    return [_middle(work, splits) for work, splits in found.items() if splits]


class _Key(NamedTuple):
    what: str
    layer: int | None = None


@dataclass
class _Open:
    """Something that has decoding and not ended."""

    key: _Key | None
    begin: float
    inside: float = 0.0  # seconds of what began and ended in it
    has_parts: bool = False


@dataclass
class _Split:
    """The seconds of one piece of work, split."""

    seconds: float = 0.0
    parts: dict[str, float] = field(default_factory=lambda: dict.fromkeys(PARTS, 0.0))
    layers: dict[int, float] = field(default_factory=lambda: defaultdict(float))
    pieces: dict[tuple[str, int], float] = field(default_factory=lambda: defaultdict(float))

    def add(self, done: _Open, end: float) -> None:
        """Count what has ended, less what ended inside of it."""
        own, key = end - done.begin - done.inside, done.key
        if key is None or (key.what == _LAYER and not done.has_parts):
            self.parts[ELSE] += own  # a layer that only notes what it is called with
        else:
            what = REST if key.what == _LAYER else key.what
            self.parts[what] += own
            if key.layer is not None:
                self.pieces[what, key.layer] += own
        if key is not None and key.what == _LAYER and key.layer is not None and done.has_parts:
            self.layers[key.layer] += end - done.begin


class _Parts(Stopwatch):
    """A stopwatch that is also told what begins and ends between its marks."""

    def __init__(self, device: torch.device) -> None:
        super().__init__(device)
        self._log: list[tuple[_Key, bool] | None] = []

    def start(self) -> None:
        """Begin anew."""
        self._log = []
        super().start()

    def mark(self) -> None:
        """Set a mark between two pieces of work."""
        self._log.append(None)
        super().mark()

    def note(self, key: _Key, begins: bool) -> None:
        """Set a mark where something begins or ends."""
        self._log.append((key, begins))
        super().mark()

    def splits(self) -> list[_Split]:
        """Return each piece of work, split."""
        found, split = [], _Split()
        now, decoding = 0.0, [_Open(None, 0.0)]
        for entry, taken in zip(self._log[1:], self.seconds(), strict=True):
            now += taken
            if entry is None:
                done = decoding.pop()
                split.seconds = now - done.begin
                split.add(done, now)
                found.append(split)
                split, decoding = _Split(), [_Open(None, now)]
                continue
            key, begins = entry
            if begins:
                decoding[-1].has_parts |= key.what in (ATTENTION, MLP)
                decoding.append(_Open(key, now))
            else:
                done = decoding.pop()
                split.add(done, now)
                decoding[-1].inside += now - done.begin
        return found


@contextmanager
def _watched(model: Model, watch: _Parts) -> Iterator[None]:
    """Tell a stopwatch of a model's layers, their parts and its head for the length of a block."""
    inner = opened(model.hf)
    modules: list[tuple[nn.Module, _Key]] = []
    for index in inner.present:
        block = inner.blocks[index]
        modules.append((block.module, _Key(_LAYER, index)))
        modules += [(part.module, _Key(ATTENTION, index)) for part in block.attention]
        modules += [(part.module, _Key(MLP, index)) for part in block.mlp]
    head: Any = model.hf.get_output_embeddings()
    modules.append((head, _Key(HEAD)))
    hooks: list[Any] = []
    for module, key in modules:
        hooks.append(module.register_forward_pre_hook(partial(_noted, watch, key, True)))
        hooks.append(
            module.register_forward_hook(partial(_noted, watch, key, False), always_call=True)
        )
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _noted(watch: _Parts, key: _Key, begins: bool, *_: Any) -> None:
    watch.note(key, begins)


def _middle(work: str, splits: Sequence[_Split]) -> Profile:
    """Return the run that took the median time, so that its parts are its parts."""
    ordered = sorted(splits, key=lambda split: split.seconds)
    middle = ordered[(len(ordered) - 1) // 2]
    layers, pieces = dict(sorted(middle.layers.items())), dict(sorted(middle.pieces.items()))
    return Profile(work, middle.seconds, middle.parts, layers, pieces)
