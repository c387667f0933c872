"""``Plan``: how one forward pass runs, as an immutable value.

A plan is what it executes. Its identity is the unrolled tuple of steps, so however it was written,
the same execution is the same plan: equal, with the same hash, spelling and digest.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import chain, islice
from typing import NamedTuple

from impasto.error import shown
from impasto.plan.error import PlanError
from impasto.plan.jsonform import read_json, write_json
from impasto.plan.notation import read_plan
from impasto.plan.spelling import spell
from impasto.plan.steps import (
    MAX_OCCURRENCES,
    Freeze,
    Inject,
    Layer,
    Marker,
    Noise,
    Parallel,
    Step,
    check_steps,
    walk,
)


class Occurrences(NamedTuple):
    """How often things run in one forward pass, branches and turns all counted."""

    layers: int
    attention: int
    mlp: int


@dataclass(frozen=True, slots=True, repr=False)
class Plan:
    """How one forward pass runs: a value that prints as one line of text.

    Usually made by ``Plan.parse``. ``Plan(steps)`` checks its steps and refuses, with
    ``PlanError``, whatever the notation could not express.

    Attributes:
        steps: what runs, in order: layers, parallel branches and markers.
    """

    steps: tuple[Step, ...]
    _source: str | None = field(default=None, init=False, compare=False)

    def __post_init__(self) -> None:
        check_steps(self.steps)
        read_plan(spell(self.steps))  # what cannot be written down within the bounds is no plan

    @classmethod
    def parse(cls, text: str, layers: int | None = None) -> Plan:
        """Return the plan that ``text`` writes down; with ``layers``, check it for that model.

        Raises:
            PlanError: with a caret under the offending word, and what would be right there.
        """
        steps = read_plan(text, layers)
        plan = object.__new__(cls)  # what was just read needs no second check
        object.__setattr__(plan, "steps", steps)
        object.__setattr__(plan, "_source", text)
        return plan

    @classmethod
    def identity(cls, layers: int) -> Plan:
        """Return the plan that runs a model of ``layers`` layers as it is: the baseline."""
        if type(layers) is not int or not 1 <= layers <= MAX_OCCURRENCES:
            raise PlanError(f"a model has 1 to {MAX_OCCURRENCES} layers, not {shown(layers, 80)}")
        return cls.parse(f"0-{layers - 1}")

    @classmethod
    def read(
        cls,
        path_or_text: str | os.PathLike[str],
        layers: int | None = None,
        format: str | None = None,
    ) -> Plan:
        """Return the one plan that another tool wrote down (``docs/formats.md``).

        Args:
            path_or_text: A file, a folder with a ``config.json``, or the text itself.
            layers: How many layers the model has; what it lacks is refused.
            format: The name of the format; None recognises it.

        Raises:
            PlanError: with file, line and key, for what is no program, or several.
        """
        first, *others = islice(cls.read_all(path_or_text, layers, format), 2)
        if others:
            raise PlanError(f"{shown(path_or_text)} has several plans: Plan.read_all gives them")
        return first

    @classmethod
    def read_all(
        cls,
        path_or_text: str | os.PathLike[str],
        layers: int | None = None,
        format: str | None = None,
    ) -> Iterator[Plan]:
        """Give every plan that another tool wrote down, one at least, as ``read`` does."""
        from impasto.plan.formats import read_plans

        plans = read_plans(path_or_text, layers, format)
        first = next(plans, None)
        if first is None:
            raise PlanError(f"{shown(path_or_text)} has no plan")
        return chain([first], plans)

    @classmethod
    def from_json(cls, text: str | bytes) -> Plan:
        """Return the plan that ``to_json`` wrote; ``PlanError`` if it is anything else."""
        return cls(read_json(text))

    def to_json(self) -> str:
        """Return the plan as one canonical JSON document."""
        return write_json(self.steps)

    @property
    def digest(self) -> str:
        """SHA-256 of ``to_json()``, in hex: the same in every process, version and spelling."""
        return hashlib.sha256(self.to_json().encode("ascii")).hexdigest()

    def __str__(self) -> str:
        return _spelled(self.steps)

    def __repr__(self) -> str:
        return f"Plan({str(self)!r})"

    def _repr_svg_(self) -> str:
        """Return the plan's picture, which notebooks show in the place of its text."""
        from impasto.plan.picture import picture  # which draws plans

        return picture(self)

    def check(self, layers: int) -> None:
        """Raise ``PlanError`` unless every layer of the plan exists in a model of ``layers``.

        The caret points into the text that the plan was parsed from, else into its spelling.
        """
        if type(layers) is not int or layers < 1 or self.max_layer >= layers:
            read_plan(self._source or str(self), layers)

    @property
    def max_layer(self) -> int:
        """The highest layer that runs; -1 if none does."""
        return max(self.layers, default=-1)

    @property
    def layers(self) -> frozenset[int]:
        """The layers that run, whole or in part."""
        return frozenset(step.index for step in walk(self.steps) if isinstance(step, Layer))

    @property
    def divided(self) -> frozenset[int]:
        """The layers of which only a part runs somewhere."""
        layers = (step for step in walk(self.steps) if isinstance(step, Layer))
        return frozenset(layer.index for layer in layers if layer.part != "block")

    @property
    def narrowed(self) -> frozenset[int]:
        """The layers whose attention somewhere sees less than the layer itself lets it see."""
        layers = (step for step in walk(self.steps) if isinstance(step, Layer))
        return frozenset(layer.index for layer in layers if layer.reach is not None)

    @property
    def markers(self) -> tuple[tuple[int, Marker], ...]:
        """(depth, marker) in order; a marker's depth is the top-level layer steps before it."""
        depth = 0
        found: list[tuple[int, Marker]] = []
        for step in self.steps:
            if isinstance(step, Layer | Parallel):
                depth += 1
            else:
                found.append((depth, step))
        return tuple(found)

    @property
    def has_history(self) -> bool:
        """Whether earlier tokens are held or blurred: the plan has a freeze or a noise."""
        return any(isinstance(step, Freeze | Noise) for step in self.steps)

    @property
    def tells_prompt(self) -> bool:
        """Whether the prompt's tokens are held or blurred alone, so that a prompt is needed."""
        return any(isinstance(step, Freeze | Noise) and step.prompt for step in self.steps)

    @property
    def injections(self) -> tuple[str, ...]:
        """The names of the donors that the plan injects, in order."""
        return tuple(step.name for step in self.steps if isinstance(step, Inject))

    @property
    def occurrences(self) -> Occurrences:
        """How many layers, attention parts and MLP parts one forward pass runs."""
        parts = [step.part for step in walk(self.steps) if isinstance(step, Layer)]
        without_attention, without_mlp = parts.count("mlp"), parts.count("attention")
        return Occurrences(len(parts), len(parts) - without_attention, len(parts) - without_mlp)


@lru_cache(maxsize=128)  # records name their plan once for every item, one plan after the other
def _spelled(steps: tuple[Step, ...]) -> str:
    return spell(steps)
