"""The plans of the three papers, each a function of the model's number of layers ``T``.

A is *Attend First, Consolidate Later* (arXiv 2409.03621), B is *Transformer Layers as Painters*
(arXiv 2407.09298), C is *Attention Is All You Need But You Don't Need All Of It* (arXiv
2407.15516); with them some of other papers. Each is one entry, its function and what stands above
that: the figure that shows it, its title and look, what it does, what ``all`` means. Figures,
findings and study files read them in ``STRATEGIES``, and ``expand`` turns a name with its choices
into plans. An argument out of range is a ``ValueError`` that says the range.

Where a choice is a number of layers, or a depth, it can be a share of T: ``25%`` is round(0.25·T).
"""

from __future__ import annotations

import itertools
from hashlib import sha256

from impasto.error import UserError, shown
from impasto.look import (
    BLUE,
    DASH_DOT,
    DASHED,
    DOTTED,
    GREEN,
    INK,
    LONG_DASHED,
    ORANGE,
    PURPLE,
    SHORT_DASHED,
    SKY,
    SOLID,
    VERMILION,
    Look,
)
from impasto.plan import Part, Plan
from impasto.strategies.choices import BY_LAYERS as BY_LAYERS
from impasto.strategies.choices import expand as expand
from impasto.strategies.choices import is_share as is_share
from impasto.strategies.registry import ORDER as ORDER
from impasto.strategies.registry import STRATEGIES as STRATEGIES
from impasto.strategies.registry import Strategy as Strategy
from impasto.strategies.registry import check, family

LEFT = {"attention": ".mlp", "mlp": ".attn", "block": ""}  # of a layer without that part


def _depths(T: int) -> range:
    return range(T + 1)


def _middles(T: int) -> range:
    return range(1, T // 2)


# Within one figure no two families share a colour, a dash or a marker. Over all three papers there
# are more families than colours that everyone can tell apart: then the marker tells them.


@family("", Look("Baseline", INK, DASHED, "o"))
def baseline(T: int) -> Plan:
    """Return the plan that runs the model as it is."""
    check("T", T, 1, None)
    return Plan.identity(T)


# ---------------------------------------------------------------------- A: earlier tokens


@family("A2", Look("Freeze", BLUE, SOLID, "o"), "freezing earlier tokens", k=_depths)
def freeze(T: int, k: int) -> Plan:
    """Hold earlier tokens at depth k (A, freezing)."""
    return _marked(T, k, "freeze")


@family(
    "A2",
    Look("Shuffle noise", GREEN, DASHED, "s"),
    "shuffling earlier tokens' states",
    k=_depths,
    seed=lambda T: range(3),
)
def shuffle(T: int, k: int, seed: int = 0) -> Plan:
    """Permute the entries of earlier tokens' states at depth k (A, shuffle noise)."""
    check("seed", seed, 0, None)
    return _marked(T, k, f"noise(shuffle, seed={seed})")


@family(
    "A2",
    Look("Gaussian noise", VERMILION, DOTTED, "^"),
    "replacing earlier tokens' states by noise",
    ran="k: all, seed: [0, 1, 2]",
    k=_depths,
    seed=lambda T: range(3),
)
def gaussian(T: int, k: int, seed: int = 0) -> Plan:
    """Replace earlier tokens' states at depth k by noise of the same norm (A, gaussian noise)."""
    check("seed", seed, 0, None)
    return _marked(T, k, f"noise(gaussian, seed={seed})")


@family("A5", Look("Injection", ORANGE, SOLID, "v"), "injecting another subject", k=_depths)
def inject(T: int, k: int, name: str = "donor") -> Plan:
    """Replace the target tokens' states at depth k by a donor prompt's (A, injection)."""
    if not isinstance(name, str):
        raise UserError(f"name is a donor's name, not {shown(name)}")
    return _marked(T, k, f"inject({name})")


@family("A2", Look("Skip attention", PURPLE, DASH_DOT, "D"), "skipping attention", k=_depths)
def drop_attention_from(T: int, k: int) -> Plan:
    """Run only the MLPs of layers k…T-1 (A, skipping attention); k = T is the baseline."""
    _check_depth(T, k)
    return Plan.parse(f"{_span(0, k - 1)} {_span(k, T - 1, '.mlp')}")


# ---------------------------------------------------------------------- B: layers as painters


@family("B2", Look("Skip one layer", BLUE, SOLID, "P"), n=range)
def skip_one(T: int, n: int) -> Plan:
    """Leave out layer n (B, figure 2)."""
    check("T", T, 2, None)
    check("n", n, 0, T - 1, T)
    return Plan.parse(f"{_span(0, n - 1)} {_span(n + 1, T - 1)}")


@family("B2", Look("Switch neighbours", GREEN, DASHED, "X"), n=lambda T: range(T - 1))
def switch(T: int, n: int) -> Plan:
    """Swap layers n and n+1 (B, figure 2)."""
    check("T", T, 2, None)
    check("n", n, 0, T - 2, T)
    return Plan.parse(f"{_span(0, n - 1)} {n + 1} {n} {_span(n + 2, T - 1)}")


@family("B4", Look("Skip", BLUE, SOLID, "p"), "are left out", n=_middles)
def skip(T: int, n: int) -> Plan:
    """Leave out the middle layers n+1…T-n-1 (B, "Skip")."""
    return _middle(T, n, "")


@family("B5", Look("Middle repeat", PURPLE, DASHED, "*"), "become runs of layer T/2", n=_middles)
def middle_repeat(T: int, n: int) -> Plan:
    """Run layer T//2 in place of each of the middle layers (B, "Middle Repeat")."""
    _check_middle(T, n)
    return _middle(T, n, f"{T // 2}*{T - 2 * n - 1}")


@family("B6", Look("Reverse", GREEN, DOTTED, "<"), "run in reverse", n=_middles)
def reverse(T: int, n: int) -> Plan:
    """Run the middle layers n+1…T-n-1 from the last to the first (B, "Reverse")."""
    return _middle(T, n, f"{T - n - 1}-{n + 1}")


@family(
    "B7",
    Look("Random order", ORANGE, DASH_DOT, ">"),
    "run in random order",
    ran="n: all, seed: all",
    n=_middles,
    seed=lambda T: range(10),
)
def random_order(T: int, n: int, seed: int = 0) -> Plan:
    """Run the middle layers n+1…T-n-1 in an order drawn from ``seed`` (B, "Random Order").

    Layers are sorted by a SHA-256 of seed, T, n and their number: the same order everywhere. Where
    that is the model's own order, which would be the baseline, it is drawn anew; a single layer has
    no other order.
    """
    _check_middle(T, n)
    check("seed", seed, 0, None)
    own = list(range(n + 1, T - n))
    draws = (
        _drawn_order(own, f"random_order {seed} {T} {n}", again) for again in itertools.count()
    )
    middle = next(order for order in draws if order != own or len(own) == 1)
    return _middle(T, n, " ".join(map(str, middle)))


def _drawn_order(layers: list[int], words: str, again: int) -> list[int]:
    """Return layers in the order that these words draw; `again` is how often others were drawn."""
    tail = f" again {again}" if again else ""
    return sorted(layers, key=lambda layer: sha256(f"{words} {layer}{tail}".encode()).digest())


@family("B8", Look("Parallel", SKY, SHORT_DASHED, "h"), "run side by side", n=_middles)
def parallel(T: int, n: int) -> Plan:
    """Run the middle layers n+1…T-n-1 side by side and average them (B, "Middle Parallel")."""
    return _middle(T, n, f"[{n + 1}-{T - n - 1}]")


@family(
    "B9",
    Look("Looped parallel", VERMILION, LONG_DASHED, "d"),
    "side by side",
    ran="n: all, loops: 3",
    n=_middles,
    loops=lambda T: range(1, 29),
)
def looped_parallel(T: int, n: int, loops: int) -> Plan:
    """Feed the average of the middle layers back, ``loops`` times in all (B, figure 10)."""
    _check_middle(T, n)
    check("loops", loops, 1, None)
    return _middle(T, n, f"[{n + 1}-{T - n - 1}]*{loops}")


# ---------------------------------------------------------------------- C: dropping parts


@family(
    "CT1",
    Look("Drop the last", PURPLE, SOLID, "H"),
    ran="part: all, count: [10%, 25%, 33%], keep_last: all",
    parts={
        "attention": Look("Drop attention", PURPLE, SOLID, "D"),
        "mlp": Look("Drop MLPs", ORANGE, DASHED, "s"),
        "block": Look("Drop layers", BLUE, DOTTED, ">"),
    },
    part=lambda T: ("attention", "mlp", "block"),
    count=lambda T: range(1, T),
    keep_last=lambda T: (False, True),
)
def drop_last(T: int, part: Part, count: int, keep_last: bool = False) -> Plan:
    """Drop attention, the MLP or the whole block of the last ``count`` layers (C).

    With ``keep_last`` the model's last layer stays, and the window moves down by one: layers
    T-count-1…T-2.
    """
    check("T", T, 1, None)
    if part not in tuple(LEFT):
        raise UserError(f"part is one of attention, mlp, block, not {shown(part)}")
    if not isinstance(keep_last, bool):
        raise UserError(f"keep_last is true or false, not {shown(keep_last)}")
    check("count", count, 0, T - 1 if keep_last or part == "block" else T, T)
    stop = T - keep_last
    window = (stop - count, stop - 1)
    dropped = "" if part == "block" else _span(*window, LEFT[part])
    return Plan.parse(f"{_span(0, stop - count - 1)} {dropped} {_span(stop, T - 1)}")


# ---------------------------------------------------------------------- beyond the papers

# Of the next two, which layers go is measured on texts: a study file has ``texts`` where these
# functions take ``order``, and a study measures it with its model before it runs.


@family(
    "selectors",
    Look("Layers by block influence", VERMILION, SOLID, "p"),
    ran="count: all, texts: {file: FILE.txt}",
    count=lambda T: range(1, T),
)
def block_influence(T: int, count: int, order: str) -> Plan:
    """Leave out the ``count`` layers that change states least (ShortGPT, arXiv 2403.03853).

    ``order`` are layers, the least influential first: ``7 5 3``; ``count`` of them at least.
    """
    return one_shot(T, "block", count, order)


@family(
    "selectors",
    Look("One-shot", GREEN, LONG_DASHED, "X"),
    ran="part: all, count: all, texts: {file: FILE.txt}",
    parts={
        "attention": Look("Attention, one-shot", PURPLE, DASH_DOT, "D"),
        "mlp": Look("MLPs, one-shot", ORANGE, DASHED, "s"),
        "block": Look("Layers, one-shot", GREEN, LONG_DASHED, "X"),
    },
    part=lambda T: ("attention", "mlp", "block"),
    count=lambda T: range(1, T),
)
def one_shot(T: int, part: Part, count: int, order: str) -> Plan:
    """Leave out attention, the MLP or all of the ``count`` layers that harm least by themselves.

    ``order`` are layers, the least harmful first: ``7 5 3``; ``count`` of them at least.
    """
    check("T", T, 1, None)
    if part not in tuple(LEFT):
        raise UserError(f"part is one of attention, mlp, block, not {shown(part)}")
    check("count", count, 0, T - 1 if part == "block" else T, T)
    layers = _ordered(order, T)
    if len(layers) < count:
        raise UserError(
            f"order names {len(layers)} layer{'s' * (len(layers) != 1)}, and {count} are to be "
            "left out"
        )
    dropped = set(layers[:count])
    own = [i for i in range(T) if part != "block" or i not in dropped]
    return Plan.parse(" ".join(f"{i}{LEFT[part] if i in dropped else ''}" for i in own))


def _ordered(order: object, T: int) -> list[int]:
    """Return the layers that an order names."""
    words = str(order).split()
    layers = [int(word) for word in words if word.isascii() and word.isdigit() and len(word) < 7]
    if len(set(layers)) < len(words) or any(layer >= T for layer in layers):
        raise UserError(
            f'order is text that names layers 0 to {T - 1}, each once, those to go first: "7 5 3"; '
            f"not {shown(order)}"
        )
    return layers


@family(
    "repeat_block",
    Look("Repeat a block", GREEN, LONG_DASHED, "v"),
    "run twice",
    together=lambda i, j: not (type(i) is type(j) is int and i >= j),
    i=range,
    j=lambda T: range(1, T + 1),
)
def repeat_block(T: int, i: int, j: int) -> Plan:
    """Run layers i…j-1 a second time behind their first run ("Repeat Yourself", RYS)."""
    check("T", T, 1, None)
    check("i", i, 0, T - 1, T)
    check("j", j, i + 1, T, T)
    return Plan.parse(f"{_span(0, j - 1)} {_span(i, T - 1)}")


# ---------------------------------------------------------------------- shared by the families


def _span(first: int, last: int, suffix: str = "") -> str:
    """Return the layers first…last in the notation; nothing when there are none."""
    return f"{first}-{last}{suffix}" if first <= last else ""


def _marked(T: int, k: int, marker: str) -> Plan:
    _check_depth(T, k)
    return Plan.parse(f"{_span(0, k - 1)} {marker} {_span(k, T - 1)}")


def _middle(T: int, n: int, middle: str) -> Plan:
    """Return the plan with ``middle`` in place of layers n+1…T-n-1."""
    _check_middle(T, n)
    return Plan.parse(f"{_span(0, n)} {middle} {_span(T - n, T - 1)}")


def _check_depth(T: int, k: int) -> None:
    check("T", T, 1, None)
    check("k", k, 0, T, T)


def _check_middle(T: int, n: int) -> None:
    check("T", T, 2, None)
    check("n", n, 0, T // 2 - 1, T)
