"""impasto runs any pretrained transformer the way you write it down.

A :class:`Plan` is one line of text that says how a forward pass runs; :func:`load` opens a model
on which plans run; :func:`apply` makes a Hugging Face model itself run one; :class:`Study` sweeps
many plans over tasks; :func:`search` finds the best one under a budget; :func:`heal` wins back
what a plan lost; :func:`export` writes a model that runs a plan by itself. Names that need torch
are imported when they are first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from impasto import strategies
from impasto.error import ImpastoError, UserError
from impasto.plan import Plan, PlanError

if TYPE_CHECKING:
    from impasto import analysis
    from impasto.exporting import export
    from impasto.healing import heal
    from impasto.run import Donor, Encoder, Model, apply, load
    from impasto.searching import search
    from impasto.study import Study

__version__ = "0.1.0"
__all__ = [
    "Donor",
    "Encoder",
    "ImpastoError",
    "Model",
    "Plan",
    "PlanError",
    "Study",
    "UserError",
    "analysis",
    "apply",
    "export",
    "heal",
    "load",
    "search",
    "strategies",
]

_LATER = dict.fromkeys(("Donor", "Encoder", "Model", "apply", "load"), "impasto.run") | {
    "Study": "impasto.study",
    "export": "impasto.exporting",
    "heal": "impasto.healing",
    "search": "impasto.searching",
}


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])


def __getattr__(name: str) -> Any:
    if name == "analysis":
        return import_module("impasto.analysis")
    if name not in _LATER:
        raise AttributeError(f"module 'impasto' has no attribute {name!r}")
    return getattr(import_module(_LATER[name]), name)
