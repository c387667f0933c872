"""The plans of the three papers, each a function of the model's number of layers ``T``.

A is *Attend First, Consolidate Later* (arXiv 2409.03621), B is *Transformer Layers as Painters*
(arXiv 2407.09298), C is *Attention Is All You Need But You Don't Need All Of It* (arXiv
2407.15516).
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
from impasto.strategies.registry import check, family
from impasto.strategies.spans import (
    LEFT,
    check_depth,
    check_middle,
    depths,
    marked,
    span,
    with_middle,
)


def _middles(T: int) -> range:
    return range(1, T // 2)


@family("", Look("Baseline", INK, DASHED, "o"))
def baseline(T: int) -> Plan:
    """Return the plan that runs the model as it is."""
    check("T", T, 1, None)
    return Plan.identity(T)


# ---------------------------------------------------------------------- A: earlier tokens


@family("A2", Look("Freeze", BLUE, SOLID, "o"), "freezing earlier tokens", k=depths)
def freeze(T: int, k: int) -> Plan:
    """Hold earlier tokens at depth k (A, freezing)."""
    return marked(T, k, "freeze")


@family(
    "A2",
    Look("Shuffle noise", GREEN, DASHED, "s"),
    "shuffling earlier tokens' states",
    k=depths,
    seed=lambda T: range(3),
)
def shuffle(T: int, k: int, seed: int = 0) -> Plan:
    """Permute the entries of earlier tokens' states at depth k (A, shuffle noise)."""
    check("seed", seed, 0, None)
    return marked(T, k, f"noise(shuffle, seed={seed})")


@family(
    "A2",
    Look("Gaussian noise", VERMILION, DOTTED, "^"),
    "replacing earlier tokens' states by noise",
    ran="k: all, seed: [0, 1, 2]",
    k=depths,
    seed=lambda T: range(3),
)
def gaussian(T: int, k: int, seed: int = 0) -> Plan:
    """Replace earlier tokens' states at depth k by noise of the same norm (A, gaussian noise)."""
    check("seed", seed, 0, None)
    return marked(T, k, f"noise(gaussian, seed={seed})")


@family("A5", Look("Injection", ORANGE, SOLID, "v"), "injecting another subject", k=depths)
def inject(T: int, k: int, name: str = "donor") -> Plan:
    """Replace the target tokens' states at depth k by a donor prompt's (A, injection)."""
    if not isinstance(name, str):
        raise UserError(f"name is a donor's name, not {shown(name)}")
    return marked(T, k, f"inject({name})")


@family("A2", Look("Skip attention", PURPLE, DASH_DOT, "D"), "skipping attention", k=depths)
def drop_attention_from(T: int, k: int) -> Plan:
    """Run only the MLPs of layers k…T-1 (A, skipping attention); k = T is the baseline."""
    check_depth(T, k)
    return Plan.parse(f"{span(0, k - 1)} {span(k, T - 1, '.mlp')}")


# ---------------------------------------------------------------------- B: layers as painters


@family("B2", Look("Skip one layer", BLUE, SOLID, "P"), n=range)
def skip_one(T: int, n: int) -> Plan:
    """Leave out layer n (B, figure 2)."""
    check("T", T, 2, None)
    check("n", n, 0, T - 1, T)
    return Plan.parse(f"{span(0, n - 1)} {span(n + 1, T - 1)}")


@family("B2", Look("Switch neighbours", GREEN, DASHED, "X"), n=lambda T: range(T - 1))
def switch(T: int, n: int) -> Plan:
    """Swap layers n and n+1 (B, figure 2)."""
    check("T", T, 2, None)
    check("n", n, 0, T - 2, T)
    return Plan.parse(f"{span(0, n - 1)} {n + 1} {n} {span(n + 2, T - 1)}")


@family("B4", Look("Skip", BLUE, SOLID, "p"), "are left out", n=_middles)
def skip(T: int, n: int) -> Plan:
    """Leave out the middle layers n+1…T-n-1 (B, "Skip")."""
    return with_middle(T, n, "")


@family("B5", Look("Middle repeat", PURPLE, DASHED, "*"), "become runs of layer T/2", n=_middles)
def middle_repeat(T: int, n: int) -> Plan:
    """Run layer T//2 in place of each of the middle layers (B, "Middle Repeat")."""
    check_middle(T, n)
    return with_middle(T, n, f"{T // 2}*{T - 2 * n - 1}")


@family("B6", Look("Reverse", GREEN, DOTTED, "<"), "run in reverse", n=_middles)
def reverse(T: int, n: int) -> Plan:
    """Run the middle layers n+1…T-n-1 from the last to the first (B, "Reverse")."""
    return with_middle(T, n, f"{T - n - 1}-{n + 1}")


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
    check_middle(T, n)
    check("seed", seed, 0, None)
    own = list(range(n + 1, T - n))
    draws = (
        _drawn_order(own, f"random_order {seed} {T} {n}", again) for again in itertools.count()
    )
    drawn = next(order for order in draws if order != own or len(own) == 1)
    return with_middle(T, n, " ".join(map(str, drawn)))


def _drawn_order(layers: list[int], words: str, again: int) -> list[int]:
    """Return layers in the order that these words draw; `again` is how often others were drawn."""
    tail = f" again {again}" if again else ""
    return sorted(layers, key=lambda layer: sha256(f"{words} {layer}{tail}".encode()).digest())


@family("B8", Look("Parallel", SKY, SHORT_DASHED, "h"), "run side by side", n=_middles)
def parallel(T: int, n: int) -> Plan:
    """Run the middle layers n+1…T-n-1 side by side and average them (B, "Middle Parallel")."""
    return with_middle(T, n, f"[{n + 1}-{T - n - 1}]")


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
    check_middle(T, n)
    check("loops", loops, 1, None)
    return with_middle(T, n, f"[{n + 1}-{T - n - 1}]*{loops}")


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
    dropped = "" if part == "block" else span(*window, LEFT[part])
    return Plan.parse(f"{span(0, stop - count - 1)} {dropped} {span(stop, T - 1)}")
