"""Noise in place of a token's state: a pure function of the tokens up to it.

The noise of a row depends on the seed, on which marker draws it, and on the tokens t₁…tⱼ that the
row has read, on nothing else. So it is the same in any batch, order, padding and generation step,
with or without a cache, on any device. No random generator is involved: every number comes from
hashing (SplitMix64) integers, which all devices compute alike.

Paper A (arXiv 2409.03621), section 3: "random vectors of the same norm"; shuffle and gaussian.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

Kind = Literal["shuffle", "gaussian"]

# Numbers that are drawn at once, by device, so that they stay in the caches: by noise_cost.py. They
# stand here, for exported folders have this module without any other of impasto's.
NUMBERS_DRAWN_AT_ONCE = {"cpu": 2**16}
NUMBERS_DRAWN_AT_ONCE_ELSEWHERE = 2**24

_GOLDEN = 0x9E3779B97F4A7C15 - 2**64
_MIX_1 = 0xBF58476D1CE4E5B9 - 2**64
_MIX_2 = 0x94D049BB133111EB - 2**64


@dataclass(frozen=True, slots=True)
class NoiseSource:
    """What a marker draws from.

    Attributes:
        kind: ``shuffle`` permutes a row's entries; ``gaussian`` draws N(0, 1) and rescales.
        seed: The user's seed.
        depth: The layer steps before the marker.
        number: The noise markers before it in the plan.
    """

    kind: Kind
    seed: int
    depth: int
    number: int


def prefix_keys(
    ids: Int[Tensor, "batch rows"],
    is_real: Bool[Tensor, "batch rows"],
    past_lengths: Int[Tensor, "batch"],
    total: Int[Tensor, "batch"],
    end: Int[Tensor, "batch rows"] | None = None,
) -> tuple[Int[Tensor, "batch rows"], Int[Tensor, "batch rows"]]:
    """Hash every prefix t₁…tⱼ of token sequences.

    Args:
        ids: New tokens.
        is_real: Where they are no padding; padding leaves no trace in a key.
        past_lengths: How many tokens came before them.
        total: The running sum over those earlier tokens (zeros when there are none).
        end: Where the descendants of each new token end, where they are a prefix tree and no plain
            sequence (:func:`along`).

    Returns:
        A key for every row, and the running sums after every row.
    """
    index = past_lengths[:, None] + along(is_real.long(), end)
    terms = torch.where(is_real, _mix(_mix(index * _GOLDEN) ^ ids), 0)
    sums = total[:, None] + along(terms, end)
    return _mix(sums), sums


def along(
    numbers: Int[Tensor, "batch rows"], end: Int[Tensor, "batch rows"] | None
) -> Int[Tensor, "batch rows"]:
    """Return the sum over each token and those before it, in a prefix tree over its ancestors.

    Args:
        numbers: What is summed.
        end: The descendants of token k are the tokens behind it up to, not including, ``end[k]``;
            None where all tokens behind it are.
    """
    if end is not None:
        past = numbers.new_zeros(len(numbers), numbers.shape[1] + 1)
        numbers = numbers - past.scatter_add_(1, end, numbers)[:, :-1]
    return numbers.cumsum(1)


def noise(
    states: Float[Tensor, "*rows hidden"], keys: Int[Tensor, "*rows"], source: NoiseSource
) -> Float[Tensor, "*rows hidden"]:
    """Return noise with the L2 norm of each of the given states."""
    width = states.shape[-1]
    at_once = NUMBERS_DRAWN_AT_ONCE.get(states.device.type, NUMBERS_DRAWN_AT_ONCE_ELSEWHERE)
    rows = max(1, at_once // width)
    parts = zip(states.reshape(-1, width).split(rows), keys.reshape(-1).split(rows), strict=True)
    [marker] = marks([source])  # on the processor: three numbers, for which no device waits
    drawn = [
        fitted(some, draw(source.kind, seeds(key, marker), width), source.kind)
        for some, key in parts
    ]
    return torch.cat(drawn).reshape(states.shape)


def marks(sources: Sequence[NoiseSource]) -> Int[Tensor, "sources 3"]:
    """Return what makes the noise of markers differ, their kinds apart; on the processor."""
    rows = [(source.seed, source.depth, source.number) for source in sources]
    return _mix(torch.tensor(rows) + _GOLDEN)


def seeds(keys: Int[Tensor, "rows"], markers: Int[Tensor, "*rows 3"]) -> Int[Tensor, "rows"]:
    """Return what rows draw from, given the :func:`marks` of each row's marker, or of one."""
    for value in markers.unbind(-1):
        keys = _mix(keys ^ value)
    return keys


def draw(
    kind: Kind, seeds: Int[Tensor, "rows"], width: int
) -> Float[Tensor, "rows hidden"] | Int[Tensor, "rows hidden"]:
    """Return what noise is made of once the states are there, which it does not depend on.

    Args:
        kind: The kind of noise.
        seeds: The :func:`seeds` of rows.
        width: How many units a state has.

    Returns:
        For ``gaussian``, numbers of N(0, 1); for ``shuffle``, which entry goes where.
    """
    return _order(seeds, width) if kind == "shuffle" else _normal(seeds, width)


def fitted(
    states: Float[Tensor, "*rows hidden"],
    drawn: Float[Tensor, "*rows hidden"] | Int[Tensor, "*rows hidden"],
    kind: Kind,
) -> Float[Tensor, "*rows hidden"]:
    """Return noise with the L2 norm of each state, made of what was drawn."""
    if kind == "shuffle":
        return states.gather(-1, drawn)
    scale = states.float().norm(dim=-1, keepdim=True) / drawn.norm(dim=-1, keepdim=True)
    return (drawn * scale).to(states.dtype)


def _order(keys: Int[Tensor, "rows"], width: int) -> Int[Tensor, "rows hidden"]:
    """Order a row's entries by 32 random bits each; below them, the index keeps all apart.

    Numbers alone are sorted, which NumPy does several times faster than an argsort.
    """
    places = (width - 1).bit_length()
    marked = _halves(keys, width).bitwise_left_shift_(places)
    marked |= torch.arange(width, device=keys.device)
    if marked.device.type == "cpu":
        marked.numpy().sort(axis=-1)
    else:
        marked = marked.sort(dim=-1).values
    return marked.bitwise_and_((1 << places) - 1)


def _normal(keys: Int[Tensor, "rows"], width: int) -> Float[Tensor, "rows hidden"]:
    """Draw N(0, 1) by the Box-Muller transform, two numbers from each 64 bits."""
    even = width + width % 2
    uniform = _halves(keys, even).float().add_(0.5).mul_(2**-32)
    radius, angle = uniform.split(even // 2, dim=-1)
    radius, angle = radius.log().mul_(-2).sqrt_(), angle.mul(2 * math.pi)
    return torch.cat([radius * angle.cos(), radius * angle.sin()], dim=-1)[:, :width]


def _halves(keys: Int[Tensor, "rows"], count: int) -> Int[Tensor, "rows count"]:
    """Return ``count`` random numbers of 32 bits for each key: first lower halves, then upper."""
    half = (count + 1) // 2
    bits = torch.arange(1, half + 1, device=keys.device) * _GOLDEN
    bits = _mix(keys[:, None] + bits)
    return torch.cat([bits & 0xFFFFFFFF, _shift(bits, 32)], dim=-1)[:, :count]


def _mix(value: Tensor) -> Tensor:
    """SplitMix64's finaliser: a bijection of 64-bit integers (which wrap around)."""
    value = (value ^ _shift(value, 30)) * _MIX_1
    value = (value ^ _shift(value, 27)) * _MIX_2
    return value ^ _shift(value, 31)


def _shift(value: Tensor, places: int) -> Tensor:
    """Shift right, filling with zeros."""
    return (value >> places) & ((1 << (64 - places)) - 1)
