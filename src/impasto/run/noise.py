"""Noise in place of a token's state: a pure function of the tokens up to it.

The noise of a row depends on the seed, on which marker draws it, and on the tokens t₁…tⱼ that the
row has read, on nothing else. So it is the same in any batch, order, padding and generation step,
with or without a cache, on any device. No random generator is involved: every number comes from
hashing (SplitMix64) integers, which all devices compute alike.

Paper A (arXiv 2409.03621), section 3: "random vectors of the same norm"; shuffle and gaussian.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

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

    kind: Literal["shuffle", "gaussian"]
    seed: int
    depth: int
    number: int


def prefix_keys(
    ids: Int[Tensor, "batch rows"],
    is_real: Bool[Tensor, "batch rows"],
    seen: Int[Tensor, "batch"],
    total: Int[Tensor, "batch"],
) -> tuple[Int[Tensor, "batch rows"], Int[Tensor, "batch rows"]]:
    """Hash every prefix t₁…tⱼ of token sequences.

    Args:
        ids: New tokens.
        is_real: Where they are no padding; padding leaves no trace in a key.
        seen: How many tokens came before them.
        total: The running sum over those earlier tokens (zeros when there are none).

    Returns:
        A key for every row, and the running sums after every row.
    """
    index = seen[:, None] + is_real.cumsum(1)
    terms = torch.where(is_real, _mix(_mix(index * _GOLDEN) ^ ids), 0)
    sums = total[:, None] + terms.cumsum(1)
    return _mix(sums), sums


def noise(
    states: Float[Tensor, "*rows hidden"], keys: Int[Tensor, "*rows"], source: NoiseSource
) -> Float[Tensor, "*rows hidden"]:
    """Return noise with the L2 norm of each of the given states."""
    width = states.shape[-1]
    marker = torch.tensor([source.seed, source.depth, source.number], device=keys.device)
    for value in marker:
        keys = _mix(keys ^ _mix(value + _GOLDEN))
    if source.kind == "shuffle":
        return states.gather(-1, _bits(keys, width).argsort(dim=-1))
    drawn = _normal(keys, width)
    wide = states.float()
    scale = wide.norm(dim=-1, keepdim=True) / drawn.norm(dim=-1, keepdim=True)
    return (drawn * scale).to(states.dtype)


def _normal(keys: Int[Tensor, "*rows"], width: int) -> Float[Tensor, "*rows width"]:
    """Draw N(0, 1) by the Box-Muller transform, two numbers from each 64 bits."""
    bits = _bits(keys, (width + 1) // 2)
    uniform = torch.stack([bits & 0xFFFFFFFF, _shift(bits, 32)]).float().add_(0.5).mul_(2**-32)
    radius = uniform[0].log_().mul_(-2).sqrt_()
    angle = uniform[1].mul_(2 * math.pi)
    return torch.cat([radius * angle.cos(), radius * angle.sin()], dim=-1)[..., :width]


def _bits(keys: Int[Tensor, "*rows"], count: int) -> Int[Tensor, "*rows count"]:
    counter = torch.arange(1, count + 1, device=keys.device) * _GOLDEN
    return _mix(keys[..., None] + counter)


def _mix(value: Tensor) -> Tensor:
    """SplitMix64's finaliser: a bijection of 64-bit integers (which wrap around)."""
    value = (value ^ _shift(value, 30)) * _MIX_1
    value = (value ^ _shift(value, 27)) * _MIX_2
    return value ^ _shift(value, 31)


def _shift(value: Tensor, places: int) -> Tensor:
    """Shift right, filling with zeros."""
    return (value >> places) & ((1 << (64 - places)) - 1)
