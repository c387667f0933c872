"""The model that a program in another tool's format is written for."""

from __future__ import annotations

from dataclasses import dataclass

from impasto.plan.error import PlanError


@dataclass(frozen=True, slots=True)
class Target:
    """The model that a plan is written for; what is None is not known.

    Attributes:
        layers: How many layers it has.
        model: Its name, a hub id or a folder.
    """

    layers: int | None = None
    model: str | None = None

    def depth(self, form: str) -> int:
        """Return how many layers the model has; raises PlanError where that is not known."""
        if self.layers is None:
            raise PlanError(
                f"{form} has an entry for each layer: say how many the model has with layers= "
                "(--layers N, or --model M)"
            )
        return self.layers

    def name(self, form: str) -> str:
        """Return the model's name; raises PlanError where that is not known."""
        if self.model is None:
            raise PlanError(f"{form} names the model: say it with model= (--model M)")
        return self.model
