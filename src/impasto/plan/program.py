"""A plan lowered for execution: a flat list of instructions with nothing left to decide.

What a plan means for the rows of a forward is decided here, once, and read by all that run plans,
merge them, price them or write them into a checkpoint. No torch here.

**Row modes.** A row is one token's hidden state on its way. *joint*: each token has one row.
*split*: each has a row as an earlier token, and each token whose successor is predicted has a row
as the current one beside it; an instruction runs both. *kv-only*: earlier rows give an attention
their keys and values and stay as they are; only current rows go on.

**What does nothing** leaves no instruction: a marker behind a freeze, for earlier tokens stay where
they are; one behind the last attention, for nothing sees earlier tokens there; a freeze right
before the last attention, which reads them as they are anyway. Where a donor is injected, earlier
tokens' states may become current ones, so then only what stands behind a freeze does nothing.

**Earlier rows that nothing reads any more** need not run: :meth:`Program.released`. Which they are
depends on all that is to follow, so a tree of programs asks the same of its branches
(:mod:`impasto.plan.tree`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal, NamedTuple, TypeAlias

from impasto.plan.plan import Plan
from impasto.plan.steps import (
    Combine,
    Freeze,
    Inject,
    Layer,
    Noise,
    NoiseKind,
    Parallel,
    Part,
    Step,
    walk,
)

RowMode: TypeAlias = Literal["joint", "split", "kv-only"]


class Occurrence(NamedTuple):
    """One appearance of a layer's attention in a plan, with keys and values of its own.

    Attributes:
        layer: The layer.
        turn: How often its attention ran before in the plan.
    """

    layer: int
    turn: int


@dataclass(frozen=True, slots=True)
class RunLayer:
    """Run a layer, or one part of it.

    Attributes:
        layer: The layer.
        part: What of it runs.
        occurrence: Its attention; None where that does not run.
        rows: How rows run.
    """

    layer: int
    part: Part
    occurrence: Occurrence | None
    rows: RowMode = "joint"


@dataclass(frozen=True, slots=True)
class RunBranches:
    """Run every branch from the same state; go on with their mean, or the sum of what they add.

    Attributes:
        branches: What each runs.
        combine: What comes of them.
        rows: How rows run, in all of them.
    """

    branches: tuple[tuple[Run, ...], ...]
    combine: Combine
    rows: RowMode = "joint"


Run: TypeAlias = RunLayer | RunBranches


@dataclass(frozen=True, slots=True)
class Split:
    """Let current rows begin as copies of the joint ones, which become the earlier rows."""


@dataclass(frozen=True, slots=True)
class ReplaceByNoise:
    """Put noise of the same norm in the place of earlier rows, the first ``keep`` tokens excepted.

    Attributes:
        kind: What is drawn.
        seed: The user's seed.
        depth: At which depth.
        number: How many noise markers stand before it in the plan.
        keep: How many leading tokens stay.
    """

    kind: NoiseKind
    seed: int
    depth: int
    number: int
    keep: int


@dataclass(frozen=True, slots=True)
class InjectDonor:
    """Set the target tokens' rows to those of the donor prompt ``name``.

    Attributes:
        name: The donor.
        rows: Which rows are set: all; where ``kv-only``, current rows alone.
    """

    name: str
    rows: RowMode = "joint"


Edit: TypeAlias = ReplaceByNoise
"""What changes earlier rows where they are; with another such instruction, a union."""
Instruction: TypeAlias = RunLayer | RunBranches | Split | Edit | InjectDonor


@dataclass(frozen=True)
class Program:
    """A plan's instructions."""

    instructions: tuple[Instruction, ...]

    @cached_property
    def occurrences(self) -> tuple[Occurrence, ...]:
        """The attentions that run, in the order of the plan's text."""
        return tuple(each for one in self.instructions for each in occurrences(one))

    @property
    def is_noisy(self) -> bool:
        """Whether any noise is drawn."""
        return any(isinstance(each, ReplaceByNoise) for each in self.instructions)

    @property
    def beginnings(self) -> list[tuple[Instruction, ...]]:
        """What runs up to each depth, depth 0 first."""
        ends = [at for at, each in enumerate(self.instructions, 1) if runs_layers(each)]
        return [self.instructions[:end] for end in (0, *ends)]

    def released(self, joint_too: bool = True) -> Program:
        """Return the program without runs of earlier rows that no current row can tell.

        Args:
            joint_too: Whether joint rows are split for that: worth it where not every row's
                successor is predicted.
        """
        found: list[Instruction] = []
        last = max((at for at, each in enumerate(self.instructions) if attends(each)), default=-1)
        is_joint = True
        for at, each in enumerate(self.instructions):
            may_release = at >= last and reads_as_found(each) and (joint_too or not is_joint)
            some = release(each, is_joint) if may_release else (each,)
            is_joint = is_joint and not any(isinstance(one, Split) for one in some)
            found += some
        return Program(tuple(found))

    def to_data(self) -> list[dict[str, Any]]:
        """Return the instructions as plain data, for code that runs without this package."""
        return [_data(each) for each in self.instructions]


def lower(plan: Plan) -> Program:
    """Return what a plan runs."""
    return Program(tuple(_Lowering(plan.steps).instructions()))


class _Lowering:
    """Goes through a plan's steps, and knows how rows run where it stands."""

    def __init__(self, steps: Sequence[Step]) -> None:
        self._steps = steps
        self._turns: Counter[int] = Counter()  # by layer: the attentions so far
        self._rows: RowMode = "joint"
        self._is_frozen = False
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
                case Freeze():
                    if not self._is_frozen and not self._does_nothing(at):
                        yield from self._split()
                        self._rows = "kv-only"
                    self._is_frozen = True
                case Noise():
                    if not self._is_frozen and not self._does_nothing(at):
                        yield from self._split()
                        yield self._noise(step)
                    self._noises += 1
                case Inject():
                    yield InjectDonor(step.name, self._rows)

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

    def _noise(self, step: Noise) -> ReplaceByNoise:
        return ReplaceByNoise(step.kind, step.seed, self._depth, self._noises, step.keep)

    def _run(self, step: Step) -> Run:
        if isinstance(step, Parallel):
            branches = tuple(tuple(map(self._run, branch)) for branch in step.branches)
            return RunBranches(branches, step.combine, self._rows)
        assert isinstance(step, Layer), "markers stand at the top level"
        if step.part == "mlp":
            return RunLayer(step.index, step.part, None, self._rows)
        turn = self._turns[step.index]
        self._turns[step.index] += 1
        return RunLayer(step.index, step.part, Occurrence(step.index, turn), self._rows)

    @staticmethod
    def _bare(step: Step) -> Run:
        """Return how a step would run if it stood alone."""
        return _Lowering((step,))._run(step)


def whole_layer(layer: int, rows: RowMode) -> RunLayer:
    """Return what runs a layer for the first time, whole."""
    return RunLayer(layer, "block", Occurrence(layer, 0), rows)


def runs_layers(instruction: Instruction) -> bool:
    """Whether an instruction leads to the next depth."""
    return isinstance(instruction, RunLayer | RunBranches)


def layers(instruction: Instruction) -> Iterator[RunLayer]:
    """Yield every layer that an instruction runs, in order."""
    if isinstance(instruction, RunLayer):
        yield instruction
    elif isinstance(instruction, RunBranches):
        for branch in instruction.branches:
            for inner in branch:
                yield from layers(inner)


def all_branches(instructions: Sequence[Instruction]) -> Iterator[RunBranches]:
    """Yield everything in some instructions that runs branches, also within branches."""
    for each in instructions:
        if isinstance(each, RunBranches):
            yield each
            for branch in each.branches:
                yield from all_branches(branch)


def occurrences(instruction: Instruction) -> Iterator[Occurrence]:
    """Yield every attention that an instruction runs, in order."""
    return (each.occurrence for each in layers(instruction) if each.occurrence is not None)


def attends(instruction: Instruction) -> bool:
    """Whether an instruction runs any attention."""
    return any(True for _ in occurrences(instruction))


def reads_as_found(instruction: Instruction) -> bool:
    """Whether an instruction reads earlier rows only as it finds them, in no state of its own."""
    if not isinstance(instruction, RunBranches):
        return True
    return all(
        all(reads_as_found(first) for first in branch[:1]) and not any(map(attends, branch[1:]))
        for branch in instruction.branches
    )


def release(instruction: Instruction, is_joint: bool) -> tuple[Instruction, ...]:
    """Return what runs in an instruction's place where earlier rows are read for the last time."""
    if isinstance(instruction, Edit):
        return ()
    if isinstance(instruction, Split):
        return (instruction,)
    if isinstance(instruction, InjectDonor):
        return (instruction if is_joint else replace(instruction, rows="kv-only"),)
    split = (Split(),) if is_joint else ()
    return (*split, with_rows(instruction, "kv-only"))


def with_rows(instruction: Run, rows: RowMode) -> Run:
    """Return the same on rows of another mode."""
    if isinstance(instruction, RunLayer):
        return replace(instruction, rows=rows)
    branches = tuple(
        tuple(with_rows(inner, rows) for inner in branch) for branch in instruction.branches
    )
    return replace(instruction, branches=branches, rows=rows)


def _has_attention(step: Step) -> bool:
    return any(isinstance(each, Layer) and each.part != "mlp" for each in walk([step]))


def _data(instruction: Instruction) -> dict[str, Any]:
    match instruction:
        case RunLayer(layer, part, _, rows):
            return {"run": layer, "part": part, "rows": rows}
        case RunBranches(branches, combine, rows):
            inner = [[_data(each) for each in branch] for branch in branches]
            return {"branches": inner, "combine": combine, "rows": rows}
        case Split():
            return {"split": True}
        case ReplaceByNoise(kind, seed, depth, number, keep):
            return {"noise": kind, "seed": seed, "depth": depth, "number": number, "keep": keep}
        case InjectDonor(name, rows):
            return {"inject": name, "rows": rows}
