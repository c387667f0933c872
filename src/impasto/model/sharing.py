"""Keys and values that layers share: some layers write theirs where later ones read them.

A layer of Gemma 3n or 4 that has no keys of its own attends to those that an earlier layer has put
into a mapping, which the model's own forward hands to all of them. Under a plan, a layer reads what
the last occurrence before it wrote; in a parallel group, what stands before the group or in its own
branch. Where there is none, the plan cannot run.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from impasto.model.structure.absent import spans
from impasto.plan import Layer, Plan, Step
from impasto.plan.steps import Parallel


@dataclass(frozen=True, slots=True)
class Sharing:
    """Which layers write keys and values for others, and which read them.

    Attributes:
        argument: The argument of a block that is the mapping.
        kind: The mapping's class.
        writes: For each layer, under which names it writes.
        reads: For each layer, which names it reads.
    """

    argument: str
    kind: type[Any]
    writes: Mapping[int, tuple[Any, ...]]
    reads: Mapping[int, tuple[Any, ...]]

    @property
    def limits(self) -> list[str]:
        """Where plans can run the layers that read, a sentence for each name that they read."""
        names = dict.fromkeys(name for each in self.reads.values() for name in each)
        return [
            f"plans run the layers {spans(i for i, each in self.reads.items() if name in each)} "
            f"only behind layer {spans(self._writers(name))}, whose keys and values they read"
            for name in names
        ]

    def _writers(self, name: Any) -> list[int]:
        return sorted(layer for layer, names in self.writes.items() if name in names)

    def lacking(self, plan: Plan) -> tuple[int, list[int]] | None:
        """Return the first layer that a plan runs before any that it reads from, and those.

        None where there is no such layer.
        """
        found = self._walk(plan.steps, set())
        if found is None:
            return None
        layer, name = found
        return layer, self._writers(name)

    def _walk(self, steps: Iterable[Step], written: set[Any]) -> tuple[int, Any] | None:
        """Follow steps; return the first layer that reads what is not written yet, and its name."""
        for step in steps:
            if isinstance(step, Layer) and step.part != "mlp":
                for name in self.reads.get(step.index, ()):
                    if name not in written:
                        return step.index, name
                written.update(self.writes.get(step.index, ()))
            elif isinstance(step, Parallel):
                before = set(written)
                for branch in step.branches:
                    inside = set(before)
                    found = self._walk(branch, inside)
                    if found is not None:
                        return found
                    written |= inside
        return None
