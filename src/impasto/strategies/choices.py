"""Choosing from a family: what a study file says of it as plans."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from itertools import product
from math import prod
from typing import TypeAlias

from impasto.error import UserError, shown
from impasto.plan import Plan
from impasto.plan.steps import MAX_OCCURRENCES
from impasto.strategies.registry import STRATEGIES, Value

Choice: TypeAlias = Value | Iterable[Value]

MOST_RUN = 3_000_000  # layers that the plans of an entry run together; they take seconds to make
BY_LAYERS = frozenset({"k", "n", "count", "i", "j", "from", "to"})
SHARE = re.compile(r"(\d{1,2}(\.\d+)?|100(\.0+)?) ?%", re.ASCII)


def expand(name: str, T: int, /, **choices: Choice) -> list[tuple[dict[str, Value], Plan]]:
    """Return every combination of the choices, with its plan, in the order they are given.

    Each parameter is one value, several, or ``"all"``; those in ``BY_LAYERS`` can be shares of T. A
    parameter that is not mentioned takes its default, or all its values if it has none. Of several
    values those combinations are left out of which there is no plan, unless there is none at all.

    Raises:
        UserError: an unknown strategy or parameter, a value that this T does not allow, or more
            plans than can be made.
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
    if isinstance(T, int) and T > MAX_OCCURRENCES:
        raise UserError(f"a model has at most {MAX_OCCURRENCES:,} layers, not {shown(T)}")
    domain = strategy.domain(T)
    values = [
        _values(key, choices.get(key, "all" if default is None else default), domain, T)
        for key, default in parameters.items()
    ]
    count = prod(map(len, values))
    if count * max(T, 1) > MOST_RUN:
        raise UserError(
            f"{name} is {count:,} plans of {T} layers here; write fewer choices: together "
            f"they run at most {MOST_RUN:,} layers"
        )
    combinations = [dict(zip(parameters, chosen, strict=True)) for chosen in product(*values)]
    fitting = [chosen for chosen in combinations if strategy.is_plan(chosen)]
    combinations = fitting or combinations[:1]  # of which the function says what is wrong
    return [(chosen, strategy.plan(T, chosen)) for chosen in combinations]


def _values(
    key: str, choice: Choice, domain: Mapping[str, tuple[Value, ...]], T: int
) -> list[Value]:
    chosen: list[Value] = []
    for value in _listed(choice):
        if value == "all" and key in domain:
            chosen += domain[key]
        elif key in BY_LAYERS and is_share(value):
            chosen.append(round(float(str(value).rstrip(" %")) / 100 * T))
        elif isinstance(value, int | float | str):
            chosen.append(value)
        else:
            raise UserError(f"{key} is a number or a word, not {shown(value)}")
    if not chosen:
        raise UserError(f"there is no {key} to choose from for T={T}")
    # True == 1, so being a number is part of what makes two values the same.
    keys = dict.fromkeys((isinstance(value, bool), value) for value in chosen)
    return [value for _, value in keys]


def is_share(value: object) -> bool:
    """Say whether a choice is a share of the layers, such as ``25%``."""
    return isinstance(value, str) and SHARE.fullmatch(value) is not None


def _listed(choice: object) -> list[object]:
    if isinstance(choice, Iterable) and not isinstance(choice, str | bytes | Mapping):
        return [*choice]
    return [choice]
