"""Lowering: what a plan means for the rows of a forward, as a :class:`Program`.

**What does nothing** leaves no instruction: a marker behind a freeze, for earlier tokens stay where
they are; one behind the last attention, for nothing sees earlier tokens there; a freeze right
before the last attention, which reads them as they are anyway. Where a donor is injected, earlier
tokens' states may become current ones, so then only what stands behind a freeze does nothing.

**What is said in several ways** is lowered to one: a scaled mean, or one with empty branches, is a
scaled sum; of a single layer, that layer scaled.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace

from impasto.plan.plan import Plan
from impasto.plan.program import (
    InjectDonor,
    Instruction,
    Occurrence,
    Program,
    ReplaceByNoise,
    RowMode,
    Run,
    RunBranches,
    RunLayer,
    Split,
    Whose,
    reads_as_found,
)
from impasto.plan.steps import Freeze, Inject, Layer, Noise, Parallel, Reach, Step, walk

_LONGEST_TEXT = 2**40  # tokens; a reach this long hides nothing


def lower(plan: Plan) -> Program:
    """Return what a plan runs."""
    return Program(tuple(_Lowering(plan.steps).instructions()))


class _Lowering:
    """Goes through a plan's steps, and knows how rows run where it stands."""

    def __init__(self, steps: Sequence[Step]) -> None:
        self._steps = steps
        self._turns: Counter[int] = Counter()  # by layer: the attentions so far
        self._rows: RowMode = "joint"
        self._is_frozen = self._holds_prompt = False
        self._depth = self._noises = 0
        self._injects = any(isinstance(step, Inject) for step in steps)
        attending = [at for at, step in enumerate(steps) if _has_attention(step)]
        self._last = max(attending, default=-1)

    def instructions(self) -> Iterator[Instruction]:
        for at, step in enumerate(self._steps):
            match step:
                case Layer() | Parallel():
                    yield self._run(step)
                    self._depth += 1
                case Freeze(prompt=True):
                    self._holds_prompt |= not self._does_nothing(at)
                case Freeze():
                    if not self._is_frozen and not self._does_nothing(at):
                        yield from self._split()
                        self._rows = "kv-only"
                    self._is_frozen = True
                case Noise():
                    if not self._is_frozen and not self._does_nothing(at):
                        yield from self._noise(step)
                    self._noises += 1
                case Inject():
                    yield InjectDonor(step.name, self._rows, self._holds_prompt)

    def _does_nothing(self, at: int) -> bool:
        """Whether nothing can tell that a marker edits earlier rows, which are not frozen yet."""
        if self._injects:
            return False
        if at > self._last:
            return True
        between = any(isinstance(step, Layer | Parallel) for step in self._steps[at : self._last])
        is_freeze = isinstance(self._steps[at], Freeze)
        return is_freeze and not between and reads_as_found(self._bare(self._steps[self._last]))

    def _split(self) -> Iterator[Instruction]:
        if self._rows == "joint":
            self._rows = "split"
            yield Split()

    def _noise(self, step: Noise) -> Iterator[Instruction]:
        if step.prompt and self._holds_prompt:
            return
        whose: Whose = "prompt" if step.prompt else "others" if self._holds_prompt else "all"
        if not step.prompt:
            yield from self._split()
        yield ReplaceByNoise(step.kind, step.seed, self._depth, self._noises, step.keep, whose)

    def _run(self, step: Step) -> Run:
        # Where the others are KV-only, so are the prompt's rows.
        holds_prompt = self._holds_prompt and self._rows != "kv-only"
        if isinstance(step, Parallel):
            return self._branches(step, holds_prompt)
        assert isinstance(step, Layer), "markers stand at the top level"
        occurrence = None
        if step.part != "mlp":
            occurrence = Occurrence(step.index, self._turns[step.index])
            self._turns[step.index] += 1
        reach = None if step.reach is None or _sees_all(step.reach) else step.reach
        return RunLayer(
            step.index, step.part, occurrence, self._rows, reach, step.scale, holds_prompt
        )

    def _branches(self, step: Parallel, holds_prompt: bool) -> Run:
        """Return what runs branches; an empty one only counts."""
        branches = tuple(tuple(map(self._run, branch)) for branch in step.branches if branch)
        count = len(step.branches)
        if step.scale == 1 and len(branches) == count:
            return RunBranches(branches, step.combine, self._rows, holds_prompt=holds_prompt)
        scale = step.scale / count if step.combine == "mean" else step.scale
        if len(branches) == 1 and len(branches[0]) == 1:
            [[lone]] = branches
            if isinstance(lone, RunLayer):
                return replace(lone, scale=lone.scale * scale)
        return RunBranches(branches, "sum", self._rows, scale, holds_prompt)

    @staticmethod
    def _bare(step: Step) -> Run:
        """Return how a step would run if it stood alone."""
        return _Lowering((step,))._run(step)


def _sees_all(reach: Reach) -> bool:
    return max(reach.first, reach.last) >= _LONGEST_TEXT


def _has_attention(step: Step) -> bool:
    return any(isinstance(each, Layer) and each.part != "mlp" for each in walk([step]))
