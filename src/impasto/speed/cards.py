"""Graphics cards by name: what their makers' data sheets promise, and what may be expected of it.

Rates are nominal and dense (no sparsity), with sums in single precision; memory in units of 10⁹
bytes, as makers count. An estimate for a card assumes the shares of them below. No torch here.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from types import MappingProxyType

from impasto.error import UserError, shown

OF_PRODUCTS, OF_BANDWIDTH = 0.6, 0.8
"""The shares of a card's nominal rates that an estimate assumes (chosen: what large products and
copies of torch's usually reach)."""
_HALVES = ("bfloat16", "float16")
_VARIANTS = ("Ti", "SUPER", "NVL", "Laptop", "D")  # other cards, with rates of their own


@dataclass(frozen=True, slots=True)
class Card:
    """What a card's data sheet says.

    Attributes:
        name: The card's name.
        products: Operations a second of matrix products, by dtype; those that it lacks are not
            there. ``tf32`` is single precision with rounded factors.
        bandwidth: Bytes that its memory moves in a second.
        memory: Bytes of its memory.
        known_as: Words that all stand in what its driver calls it.
    """

    name: str
    products: Mapping[str, float]
    bandwidth: float
    memory: int
    known_as: tuple[str, ...]

    def rate(self, dtype: str) -> float:
        """Return the nominal operations a second in a dtype; raises UserError where it lacks it."""
        if dtype not in self.products:
            has = " or ".join(name for name in self.products if name != "tf32")
            raise UserError(f"a {self.name} has no {dtype}; --dtype {has}")
        return self.products[dtype]


def _card(
    name: str,
    half: float,
    tf32: float | None,
    single: float,
    gigabytes_per_second: float,
    gigabytes: int,
    *known_as: str,
) -> Card:
    """Return a card, its rates given in 10¹² operations a second; without TF32 it has no bf16."""
    products = dict.fromkeys(_HALVES if tf32 else _HALVES[1:], half * 1e12)
    products |= {"float32": single * 1e12} | ({"tf32": tf32 * 1e12} if tf32 else {})
    known = known_as or (name.upper(),)
    return Card(
        name, MappingProxyType(products), gigabytes_per_second * 1e9, gigabytes * 10**9, known
    )


_EVERY = (
    _card("h200", 989.5, 494.7, 67, 4800, 141),
    _card("h100-sxm", 989.5, 494.7, 67, 3350, 80, "H100", "HBM3"),
    _card("h100-pcie", 756, 378, 51, 2000, 80, "H100", "PCIe"),
    _card("a100-40", 312, 156, 19.5, 1555, 40, "A100", "40GB"),
    _card("a100-80", 312, 156, 19.5, 2039, 80, "A100", "80GB"),
    _card("l40s", 362, 183, 91.6, 864, 48),
    _card("l4", 121, 60, 30.3, 300, 24, "NVIDIA L4"),
    _card("a10", 125, 62.5, 31.2, 600, 24, "NVIDIA A10"),
    _card("rtx-4090", 165.2, 82.6, 82.6, 1008, 24, "RTX 4090"),
    _card("rtx-3090", 71, 35.6, 35.6, 936, 24, "RTX 3090"),
    _card("v100", 125, None, 15.7, 900, 32, "V100", "32GB"),
    _card("t4", 65, None, 8.1, 300, 16, "Tesla T4"),
)
CARDS: Mapping[str, Card] = MappingProxyType({card.name: card for card in _EVERY})
"""The cards that are known, by name."""


def card_named(name: str) -> Card:
    """Return the card of a name; raises UserError, which lists those that are known."""
    if name in CARDS:
        return CARDS[name]
    near = get_close_matches(name, CARDS, n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    raise UserError(
        f"{shown(name, 80)} is no card that is known here; {hint}Known are {', '.join(CARDS)}"
    )


def card_behind(driver_name: str) -> Card | None:
    """Return the card that a driver calls by a name, as ``NVIDIA A100-SXM4-80GB``; or None.

    A name must end where a word does, and none of a variant may follow: an A10 is no A100.
    """
    padded = f"{driver_name.replace('-', ' ')} "
    if any(word in _VARIANTS for word in padded.split()):
        return None
    for card in _EVERY:
        if all(f"{words} " in padded for words in card.known_as):
            return card
    return None
