"""What is known of each family of plans besides its function: the registry that all read."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TypeAlias, TypeVar

from impasto.error import UserError, shown
from impasto.look import Look
from impasto.plan import Plan

Value: TypeAlias = int | float | str | bool

ORDER = "order"  # the parameter of families whose layers are chosen by what texts show of a model


@dataclass(frozen=True, slots=True)
class Strategy:
    """A family of plans that a study file can name: all that is known of it besides its function.

    Attributes:
        name: the family's name in study files, which is the function's.
        function: ``f(T, …) -> Plan``.
        figure: the figure or table that shows it first, as ``impasto figures`` names it.
        doing: what it does: ``freezing earlier tokens``, or of the middle layers that they
            ``are left out``.
        ran: the choices that the paper ran, as a study file has them; empty for all values of the
            parameters that have no default.
        looks: how it is drawn and called; by its ``part``, too, where that has another look.
        domains: for a parameter, what ``all`` means in a model of T layers. ``BY_LAYERS`` are the
            parameters whose values depend on T.
        together: says of a choice of all parameters whether there is such a plan, where that is not
            said of each by itself; None: there is one for each.
    """

    name: str
    function: Callable[..., Plan]
    figure: str
    doing: str
    ran: str
    looks: Mapping[str, Look]
    domains: Mapping[str, Callable[[int], Iterable[Value]]]
    together: Callable[..., bool] | None = None

    @property
    def title(self) -> str:
        """What a reader calls it."""
        return self.looks[""].label

    @property
    def paper(self) -> str:
        """The paper's letter: A, B or C; empty for what is of none of them."""
        return self.figure[0] if self.figure[:1] in tuple("ABC") else ""

    @property
    def is_selector(self) -> bool:
        """Whether which layers it leaves out is measured on texts: its parameter ``order``."""
        return ORDER in self.parameters

    @property
    def entry(self) -> str:
        """What a study file says to have what the paper ran."""
        needed = (f"{name}: all" for name, default in self.parameters.items() if default is None)
        return f"{self.name}: {{{self.ran or ', '.join(needed)}}}"

    def domain(self, T: int) -> dict[str, tuple[Value, ...]]:
        """Return every value that ``all`` stands for in a model of T layers, by parameter.

        n of the middle families starts at 1, as in paper B. A donor's name has no domain.
        """
        check("T", T, 1, None)
        return {name: tuple(dict.fromkeys(values(T))) for name, values in self.domains.items()}

    @property
    def parameters(self) -> dict[str, Value | None]:
        """The parameters besides T, in order, with their defaults (None: it has none)."""
        known = list(inspect.signature(self.function).parameters.values())[1:]
        return {_said(p.name): None if p.default is p.empty else p.default for p in known}

    def plan(self, T: int, choices: Mapping[str, Value]) -> Plan:
        """Return the plan of a model of T layers that a value for each parameter chooses."""
        return self.function(T, **self._arguments(choices))

    def is_plan(self, choices: Mapping[str, Value]) -> bool:
        """Return whether there is a plan of a value for each parameter, as ``together`` has it."""
        return self.together is None or self.together(**self._arguments(choices))

    def _arguments(self, choices: Mapping[str, Value]) -> dict[str, Value]:
        own = inspect.signature(self.function).parameters
        return {name: choices[_said(name)] for name in own if _said(name) in choices}


def _said(name: str) -> str:
    """Return what a study file calls a parameter: ``from``, where Python needs ``from_``."""
    return name.removesuffix("_")


_registered: dict[str, Strategy] = {}
STRATEGIES: Mapping[str, Strategy] = MappingProxyType(_registered)

_Function = TypeVar("_Function", bound=Callable[..., Plan])


def family(
    figure: str,
    look: Look,
    doing: str = "",
    *,
    ran: str = "",
    parts: Mapping[str, Look] = MappingProxyType({}),
    together: Callable[..., bool] | None = None,
    **domains: Callable[[int], Iterable[Value]],
) -> Callable[[_Function], _Function]:
    """Make a function a family that study files name; see ``Strategy``."""

    def registered(function: _Function) -> _Function:
        looks = {"": look, **parts}
        known = {_said(name): values for name, values in domains.items()}
        made = Strategy(function.__name__, function, figure, doing, ran, looks, known, together)
        _registered[made.name] = made
        return function

    return registered


def check(name: str, value: object, least: int, most: int | None, T: int | None = None) -> None:
    """Raise UserError, with the range, for what is no whole number of it."""
    if type(value) is int and least <= value and (most is None or value <= most):
        return
    allowed = f"a whole number from {least}" + (f" to {most}" if most is not None else "")
    where = f" for T={T}" if T is not None else ""
    raise UserError(f"{name} is {allowed}{where}, not {shown(value)}")
