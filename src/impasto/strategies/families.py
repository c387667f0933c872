"""The plans of the three papers, each a function of the model's number of layers ``T``.

A is *Attend First, Consolidate Later* (arXiv 2409.03621), B is *Transformer Layers as Painters*
(arXiv 2407.09298), C is *Attention Is All You Need But You Don't Need All Of It* (arXiv
2407.15516). ``STRATEGIES`` is the registry that study files name, and ``expand`` turns such a name
with its choices into plans. An argument out of range is a ``ValueError`` that says the range.

Where a choice is a number of layers, or a depth, it can be a share of T: ``25%`` is round(0.25·T).
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from hashlib import sha256
from itertools import product
from types import MappingProxyType
from typing import Literal, TypeAlias, get_args

from impasto.error import UserError, shown
from impasto.plan import Part, Plan

Value: TypeAlias = int | str | bool
Choice: TypeAlias = Value | Iterable[Value]


def baseline(T: int) -> Plan:
    """Return the plan that runs the model as it is."""
    _check("T", T, 1, None)
    return Plan.identity(T)


# ---------------------------------------------------------------------- A: earlier tokens


def freeze(T: int, k: int) -> Plan:
    """Hold earlier tokens at depth k (A, freezing)."""
    return _marked(T, k, "freeze")


def shuffle(T: int, k: int, seed: int = 0) -> Plan:
    """Permute the entries of earlier tokens' states at depth k (A, shuffle noise)."""
    _check("seed", seed, 0, None)
    return _marked(T, k, f"noise(shuffle, seed={seed})")


def gaussian(T: int, k: int, seed: int = 0) -> Plan:
    """Replace earlier tokens' states at depth k by noise of the same norm (A, gaussian noise)."""
    _check("seed", seed, 0, None)
    return _marked(T, k, f"noise(gaussian, seed={seed})")


def inject(T: int, k: int, name: str = "donor") -> Plan:
    """Replace the target tokens' states at depth k by a donor prompt's (A, injection)."""
    if not isinstance(name, str):
        raise UserError(f"name is a donor's name, not {shown(name)}")
    return _marked(T, k, f"inject({name})")


def drop_attention_from(T: int, k: int) -> Plan:
    """Run only the MLPs of layers k…T-1 (A, skipping attention); k = T is the baseline."""
    _check_depth(T, k)
    return Plan.parse(f"{_span(0, k - 1)} {_span(k, T - 1, '.mlp')}")


# ---------------------------------------------------------------------- B: layers as painters


def skip_one(T: int, n: int) -> Plan:
    """Leave out layer n (B, figure 2)."""
    _check("T", T, 2, None)
    _check("n", n, 0, T - 1, T)
    return Plan.parse(f"{_span(0, n - 1)} {_span(n + 1, T - 1)}")


def switch(T: int, n: int) -> Plan:
    """Swap layers n and n+1 (B, figure 2)."""
    _check("T", T, 2, None)
    _check("n", n, 0, T - 2, T)
    return Plan.parse(f"{_span(0, n - 1)} {n + 1} {n} {_span(n + 2, T - 1)}")


def skip(T: int, n: int) -> Plan:
    """Leave out the middle layers n+1…T-n-1 (B, "Skip")."""
    return _middle(T, n, "")


def middle_repeat(T: int, n: int) -> Plan:
    """Run layer T//2 in place of each of the middle layers (B, "Middle Repeat")."""
    _check_middle(T, n)
    return _middle(T, n, f"{T // 2}*{T - 2 * n - 1}")


def reverse(T: int, n: int) -> Plan:
    """Run the middle layers n+1…T-n-1 from the last to the first (B, "Reverse")."""
    return _middle(T, n, f"{T - n - 1}-{n + 1}")


def random_order(T: int, n: int, seed: int = 0) -> Plan:
    """Run the middle layers n+1…T-n-1 in an order drawn from ``seed`` (B, "Random Order").

    Layers are sorted by a SHA-256 of seed, T, n and their number: the same order everywhere.
    """
    _check_middle(T, n)
    _check("seed", seed, 0, None)
    middle = sorted(
        range(n + 1, T - n),
        key=lambda layer: sha256(f"random_order {seed} {T} {n} {layer}".encode()).digest(),
    )
    return _middle(T, n, " ".join(map(str, middle)))


def parallel(T: int, n: int) -> Plan:
    """Run the middle layers n+1…T-n-1 side by side and average them (B, "Middle Parallel")."""
    return _middle(T, n, f"[{n + 1}-{T - n - 1}]")


def looped_parallel(T: int, n: int, loops: int) -> Plan:
    """Feed the average of the middle layers back, ``loops`` times in all (B, figure 10)."""
    _check_middle(T, n)
    _check("loops", loops, 1, None)
    return _middle(T, n, f"[{n + 1}-{T - n - 1}]*{loops}")


# ---------------------------------------------------------------------- C: dropping parts


def drop_last(T: int, part: Part, count: int, keep_last: bool = False) -> Plan:
    """Drop attention, the MLP or the whole block of the last ``count`` layers (C).

    With ``keep_last`` the model's last layer stays, and the window moves down by one: layers
    T-count-1…T-2.
    """
    _check("T", T, 1, None)
    if part not in get_args(Part):
        raise UserError(f"part is one of attention, mlp, block, not {shown(part)}")
    if not isinstance(keep_last, bool):
        raise UserError(f"keep_last is true or false, not {shown(keep_last)}")
    _check("count", count, 0, T - 1 if keep_last or part == "block" else T, T)
    stop = T - keep_last
    window = (stop - count, stop - 1)
    suffix = {"attention": ".mlp", "mlp": ".attn", "block": ""}[part]
    dropped = "" if part == "block" else _span(*window, suffix)
    return Plan.parse(f"{_span(0, stop - count - 1)} {dropped} {_span(stop, T - 1)}")


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
    _check("T", T, 1, None)
    _check("k", k, 0, T, T)


def _check_middle(T: int, n: int) -> None:
    _check("T", T, 2, None)
    _check("n", n, 0, T // 2 - 1, T)


def _check(name: str, value: object, least: int, most: int | None, T: int | None = None) -> None:
    if type(value) is int and least <= value and (most is None or value <= most):
        return
    allowed = f"a whole number from {least}" + (f" to {most}" if most is not None else "")
    where = f" for T={T}" if T is not None else ""
    raise UserError(f"{name} is {allowed}{where}, not {shown(value)}")


# ---------------------------------------------------------------------- the registry


@dataclass(frozen=True, slots=True)
class Strategy:
    """A family of plans that a study file can name.

    Attributes:
        name: the family's name in study files.
        function: ``f(T, …) -> Plan``.
        paper: A, B or C; empty for the baseline.
        title: what a reader calls it.
        domains: for a parameter, what ``all`` means in a model of T layers. ``BY_LAYERS`` are the
            parameters whose values depend on T.
    """

    name: str
    function: Callable[..., Plan]
    paper: Literal["", "A", "B", "C"]
    title: str
    domains: Mapping[str, Callable[[int], Iterable[Value]]]

    def domain(self, T: int) -> dict[str, tuple[Value, ...]]:
        """Return every value that ``all`` stands for in a model of T layers, by parameter.

        n of the middle families starts at 1, as in paper B. A donor's name has no domain.
        """
        _check("T", T, 1, None)
        return {name: tuple(dict.fromkeys(values(T))) for name, values in self.domains.items()}

    @property
    def parameters(self) -> dict[str, Value | None]:
        """The parameters besides T, in order, with their defaults (None: it has none)."""
        known = list(inspect.signature(self.function).parameters.values())[1:]
        return {p.name: None if p.default is p.empty else p.default for p in known}


_DEPTHS = {"k": lambda T: range(T + 1)}
_NOISE = {**_DEPTHS, "seed": lambda T: range(3)}
_MIDDLES = {"n": lambda T: range(1, T // 2)}
_DROPS = {
    "part": lambda T: get_args(Part)[1:] + get_args(Part)[:1],
    "count": lambda T: range(1, T),  # the paper's are 10%, 25% and 33%
    "keep_last": lambda T: (False, True),
}
_ALL = (
    Strategy("baseline", baseline, "", "Baseline", {}),
    Strategy("freeze", freeze, "A", "Freeze", _DEPTHS),
    Strategy("shuffle", shuffle, "A", "Shuffle noise", _NOISE),
    Strategy("gaussian", gaussian, "A", "Gaussian noise", _NOISE),
    Strategy("inject", inject, "A", "Injection", _DEPTHS),
    Strategy("drop_attention_from", drop_attention_from, "A", "Skip attention", _DEPTHS),
    Strategy("skip_one", skip_one, "B", "Skip one layer", {"n": lambda T: range(T)}),
    Strategy("switch", switch, "B", "Switch neighbours", {"n": lambda T: range(T - 1)}),
    Strategy("skip", skip, "B", "Skip", _MIDDLES),
    Strategy("middle_repeat", middle_repeat, "B", "Middle repeat", _MIDDLES),
    Strategy("reverse", reverse, "B", "Reverse", _MIDDLES),
    Strategy(
        "random_order", random_order, "B", "Random order", {**_MIDDLES, "seed": lambda T: range(10)}
    ),
    Strategy("parallel", parallel, "B", "Parallel", _MIDDLES),
    Strategy(
        "looped_parallel",
        looped_parallel,
        "B",
        "Looped parallel",
        {**_MIDDLES, "loops": lambda T: range(1, 29)},
    ),
    Strategy("drop_last", drop_last, "C", "Drop the last", _DROPS),
)

BY_LAYERS = frozenset({"k", "n", "count"})
SHARE = re.compile(r"(\d{1,2}(\.\d+)?|100(\.0+)?) ?%", re.ASCII)

STRATEGIES: Mapping[str, Strategy] = MappingProxyType({s.name: s for s in _ALL})


def expand(name: str, T: int, /, **choices: Choice) -> list[tuple[dict[str, Value], Plan]]:
    """Return every combination of the choices, with its plan, in the order they are given.

    Each parameter is one value, several, or ``"all"``; those in ``BY_LAYERS`` can be shares of T. A
    parameter that is not mentioned takes its default, or all its values if it has none.

    Raises:
        UserError: an unknown strategy or parameter, or a value that this T does not allow.
    """
    strategy = STRATEGIES.get(name) if isinstance(name, str) else None
    if strategy is None:
        near = get_close_matches(str(name)[:40], STRATEGIES, n=3)
        hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(STRATEGIES)}"
        raise UserError(f"there is no strategy {str(name)[:40]!r}: {hint}")
    parameters = strategy.parameters
    if unknown := choices.keys() - parameters.keys():
        allowed = ", ".join(parameters) or "none"
        raise UserError(f"{name} takes no {', '.join(sorted(unknown))}; its parameters: {allowed}")
    domain = strategy.domain(T)
    values = [
        _values(key, choices.get(key, "all" if default is None else default), domain, T)
        for key, default in parameters.items()
    ]
    combinations = [dict(zip(parameters, chosen, strict=True)) for chosen in product(*values)]
    return [(chosen, strategy.function(T, **chosen)) for chosen in combinations]


def _values(
    key: str, choice: Choice, domain: Mapping[str, tuple[Value, ...]], T: int
) -> list[Value]:
    chosen: list[Value] = []
    for value in _listed(choice):
        if value == "all" and key in domain:
            chosen += domain[key]
        elif key in BY_LAYERS and is_share(value):
            chosen.append(round(float(str(value).rstrip(" %")) / 100 * T))
        elif isinstance(value, int | str):
            chosen.append(value)
        else:
            raise UserError(f"{key} is a number or a word, not {shown(value)}")
    if not chosen:
        raise UserError(f"there is no {key} to choose from for T={T}")
    # True == 1, so the type is part of what makes two values the same.
    return [value for _, value in dict.fromkeys((type(value), value) for value in chosen)]


def is_share(value: object) -> bool:
    """Say whether a choice is a share of the layers, such as ``25%``."""
    return isinstance(value, str) and SHARE.fullmatch(value) is not None


def _listed(choice: object) -> list[object]:
    if isinstance(choice, Iterable) and not isinstance(choice, str | bytes | Mapping):
        return [*choice]
    return [choice]
