"""The executable form of a plan: what runs, in order, with nothing left to expand.

A plan *is* a tuple of these frozen values. A ``Layer`` or a ``Parallel`` moves the rows on; a
``Marker`` (``Freeze``, ``Noise``, ``Inject``) stands between two layers at the top level. Groups,
ranges and repeats belong to the notation and leave no trace here.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import cache
from itertools import repeat
from typing import Literal, TypeAlias, get_args

from impasto.error import shown
from impasto.plan.error import PlanError

Part: TypeAlias = Literal["block", "attention", "mlp"]
Combine: TypeAlias = Literal["mean", "sum"]
NoiseKind: TypeAlias = Literal["shuffle", "gaussian"]

MAX_OCCURRENCES = 10_000
MAX_INDEX = 99_999
MAX_NESTING = 32
MAX_OPTION = 2**63 - 1
MAX_SCALE = 8
MAX_DECIMALS = 20  # of a scale
INJECT_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")
SCALE_RULE = "a scale is a decimal between -8 and 8, as in 8@0.5"
NO_REACH = "a reach sees at least one position: {first=1, last=64}, {last=64} or {first=1}"
NO_ATTENTION = "an MLP alone has no attention whose reach could be less"
NO_BRANCH = "brackets need at least one branch that runs something, as in [8|9] or [8|]"
INJECT_NAME_RULE = "a letter or _, then letters, digits, _ or -, at most 64 in all"


@dataclass(frozen=True, slots=True)
class Reach:
    """What attention sees: the first ``first`` positions, the last ``last`` up to a row's own."""

    first: int = 0
    last: int = 0

    @property
    def held(self) -> int:
        """The tokens of a text whose keys and values are held for later ones, at the most.

        A token sees itself in any case where it would see nothing else.
        """
        return self.first + max(self.last, 1)


@dataclass(frozen=True, slots=True)
class Layer:
    """All rows go through layer ``index``, or through only one part of it.

    Its attention sees no more than ``reach``; what the layer adds is scaled by ``scale``.
    """

    index: int
    part: Part = "block"
    reach: Reach | None = None
    scale: float = 1.0

    @property
    def is_whole(self) -> bool:
        """Whether it runs as in the model itself."""
        return self.part == "block" and self.is_plain

    @property
    def is_plain(self) -> bool:
        """Whether what of it runs does so as in the model itself, neither narrowed nor scaled."""
        return self.reach is None and self.scale == 1


@dataclass(frozen=True, slots=True)
class Parallel:
    """Every branch reads the same state; the outcome is the mean, or the sum of what they add.

    An empty branch adds nothing. What all of them add together is scaled by ``scale``.
    """

    branches: tuple[tuple[Step, ...], ...]
    combine: Combine = "mean"
    scale: float = 1.0


@dataclass(frozen=True, slots=True)
class Freeze:
    """From here on, earlier tokens keep the state they have here; only the prompt's if asked."""

    prompt: bool = False


@dataclass(frozen=True, slots=True)
class Noise:
    """Here, earlier tokens' states become noise of the same norm, the first ``keep`` excepted.

    With ``prompt``, only those of the prompt, its last token excepted.
    """

    kind: NoiseKind
    seed: int = 0
    keep: int = 0
    prompt: bool = False


@dataclass(frozen=True, slots=True)
class Inject:
    """Here, the target tokens' states are replaced by those of the donor prompt ``name``."""

    name: str


Marker: TypeAlias = Freeze | Noise | Inject
Step: TypeAlias = Layer | Parallel | Freeze | Noise | Inject


_SHARED = 2048  # layers below this are the same objects in every plan
_SET_INDEX = Layer.__dict__["index"].__set__
_SET_PART = Layer.__dict__["part"].__set__
_SET_REACH = Layer.__dict__["reach"].__set__
_SET_SCALE = Layer.__dict__["scale"].__set__


def span(first: int, last: int, part: Part = "block") -> list[Step]:
    """Return the layers from ``first`` to ``last``, both included, ascending or descending."""
    low, high = min(first, last), max(first, last)
    steps: list[Step] = [*_shared(part)[low : high + 1]]
    steps += _layers(range(max(low, _SHARED), high + 1), part)
    return steps if first <= last else steps[::-1]


@cache
def _shared(part: Part) -> tuple[Layer, ...]:
    return tuple(_layers(range(_SHARED), part))


def _layers(indices: range, part: Part) -> list[Layer]:
    """Return ``[Layer(index, part) for index in indices]``.

    A frozen dataclass makes ten thousand values several times slower than its slots can be filled.
    """
    layers = [object.__new__(Layer) for _ in indices]
    deque(map(_SET_INDEX, layers, indices), maxlen=0)
    deque(map(_SET_PART, layers, repeat(part)), maxlen=0)
    deque(map(_SET_REACH, layers, repeat(None)), maxlen=0)
    deque(map(_SET_SCALE, layers, repeat(1.0)), maxlen=0)
    return layers


def scaled(steps: Sequence[Step], scale: float) -> list[Step]:
    """Return what adds ``scale`` times what ``steps`` add together, in its plainest form."""
    if scale == 1:
        return list(steps)
    if len(steps) == 1 and isinstance(steps[0], Layer | Parallel) and steps[0].scale == 1:
        return [replace(steps[0], scale=scale)]
    return [Parallel((tuple(steps),), scale=scale)]


def spelled_scale(scale: float) -> str:
    """Return a scale as a decimal, as short as it can be said."""
    digits = format(Decimal(repr(scale)), "f")
    return digits.rstrip("0").rstrip(".") if "." in digits else digits


def is_scale(scale: object) -> bool:
    """Whether a number can be written as a scale, in its one form: a float between −8 and 8."""
    if type(scale) is not float or not -MAX_SCALE <= scale <= MAX_SCALE or str(scale) == "-0.0":
        return False
    return len(spelled_scale(scale).partition(".")[2]) <= MAX_DECIMALS


def walk(steps: Sequence[Step]) -> Iterator[Step]:
    """Yield every step in the order of the text; a ``Parallel`` comes before its branches."""
    for step in steps:
        yield step
        if isinstance(step, Parallel):
            for branch in step.branches:
                yield from walk(branch)


def check_steps(steps: object) -> None:
    """Raise ``PlanError`` unless ``steps`` is a tuple of well-formed steps within all bounds."""
    if not isinstance(steps, tuple):
        raise PlanError(f"a plan's steps are a tuple, not {type(steps).__name__}")
    if not steps:
        raise PlanError("a plan needs at least one item")
    if _count(steps, nesting=0) > MAX_OCCURRENCES:
        raise PlanError(f"a plan runs at most {MAX_OCCURRENCES} layer occurrences")


def _count(steps: tuple[object, ...], nesting: int) -> int:
    """Return the layer occurrences in ``steps`` (stopping above the bound), checking each one."""
    if nesting > MAX_NESTING:
        raise PlanError(f"brackets nest at most {MAX_NESTING} deep")
    count = 0
    for step in steps:
        if isinstance(step, Layer):
            _check_layer(step)
            count += 1
        elif isinstance(step, Parallel):
            _check_parallel(step)
            count += sum(_count(branch, nesting + 1) or 1 for branch in step.branches)
        elif nesting:
            raise PlanError(f"only layers can stand inside a branch, not {shown(step, 80)}")
        else:
            _check_marker(step)
        if count > MAX_OCCURRENCES:
            break
    return count


def _check_layer(layer: Layer) -> None:
    if not _is_whole(layer.index, MAX_INDEX):
        raise PlanError(f"a layer is a number from 0 to {MAX_INDEX}, not {shown(layer.index, 80)}")
    if layer.part not in get_args(Part):
        raise PlanError(f"a part is block, attention or mlp, not {shown(layer.part, 80)}")
    _check_scale(layer.scale)
    if layer.reach is not None:
        _check_reach(layer.reach, layer.part)


def _check_scale(scale: object) -> None:
    if not is_scale(scale):
        raise PlanError(f"{SCALE_RULE}, not {shown(scale, 80)}")


def _check_reach(reach: object, part: Part) -> None:
    if not isinstance(reach, Reach):
        raise PlanError(f"a reach is a Reach or None, not {shown(reach, 80)}")
    if not (_is_whole(reach.first, MAX_OPTION) and _is_whole(reach.last, MAX_OPTION)):
        raise PlanError("first and last are whole numbers from 0 to 2**63 - 1")
    if not (reach.first or reach.last):
        raise PlanError(NO_REACH)
    if part == "mlp":
        raise PlanError(NO_ATTENTION)


def _check_parallel(parallel: Parallel) -> None:
    if parallel.combine not in get_args(Combine):
        raise PlanError(f"branches combine by mean or sum, not {shown(parallel.combine, 80)}")
    branches = parallel.branches
    if not isinstance(branches, tuple) or not branches:
        raise PlanError("a Parallel holds a tuple of at least one branch")
    if not all(isinstance(branch, tuple) for branch in branches):
        raise PlanError("a branch is a tuple of steps")
    if not any(branches):
        raise PlanError(NO_BRANCH)
    _check_scale(parallel.scale)


def _check_marker(marker: object) -> None:
    if isinstance(marker, Noise):
        if marker.kind not in get_args(NoiseKind):
            raise PlanError(f"noise is shuffle or gaussian, not {shown(marker.kind, 80)}")
        if not (_is_whole(marker.seed, MAX_OPTION) and _is_whole(marker.keep, MAX_OPTION)):
            raise PlanError("seed and keep are whole numbers from 0 to 2**63 - 1")
        _check_prompt(marker.prompt)
    elif isinstance(marker, Inject):
        if not isinstance(marker.name, str) or not INJECT_NAME.fullmatch(marker.name):
            raise PlanError(f"{shown(marker.name, 80)} is no donor name: {INJECT_NAME_RULE}")
    elif isinstance(marker, Freeze):
        _check_prompt(marker.prompt)
    else:
        raise PlanError(f"{shown(marker, 80)} is not a step of a plan")


def _check_prompt(prompt: object) -> None:
    if type(prompt) is not bool:
        raise PlanError(f"prompt is True or False, not {shown(prompt, 80)}")


def _is_whole(value: object, most: int) -> bool:
    return type(value) is int and 0 <= value <= most
