"""A plan lowered for execution: a flat list of instructions with nothing left to decide.

What a plan means for the rows of a forward is decided once (:mod:`impasto.plan.lowering`), and read
by all that run plans, merge them, price them or write them into a checkpoint. No torch here.

**Row modes.** A row is one token's hidden state on its way. *joint*: each token has one row.
*split*: each has a row as an earlier token, and each token whose successor is predicted has a row
as the current one beside it; an instruction runs both. *kv-only*: earlier rows give an attention
their keys and values and stay as they are; only current rows go on.

**The prompt's rows.** Where only the prompt's tokens are held or become noise, all of them but the
last run apart from the others, each in one row; what then becomes of them is said beside the mode
of the other rows (``holds_prompt``, ``whose``). Tokens behind the prompt run
:attr:`Program.behind_prompt`.

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

from impasto.plan.steps import Combine, NoiseKind, Part, Reach

RowMode: TypeAlias = Literal["joint", "split", "kv-only"]
Whose: TypeAlias = Literal["all", "prompt", "others"]


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
        reach: What its attention sees at the most; None for all that the layer itself lets it see.
        scale: What it adds counts so many times.
        holds_prompt: Whether the prompt's rows are KV-only, whatever the mode of the others.
    """

    layer: int
    part: Part
    occurrence: Occurrence | None
    rows: RowMode = "joint"
    reach: Reach | None = None
    scale: float = 1.0
    holds_prompt: bool = False


@dataclass(frozen=True, slots=True)
class RunBranches:
    """Run every branch from the same state; go on with their mean, or the sum of what they add.

    Attributes:
        branches: What each runs.
        combine: What comes of them.
        rows: How rows run, in all of them.
        scale: What they add together counts so many times; 1 for a mean, for a scaled mean is
            lowered to a sum.
        holds_prompt: Whether the prompt's rows are KV-only, whatever the mode of the others.
    """

    branches: tuple[tuple[Run, ...], ...]
    combine: Combine
    rows: RowMode = "joint"
    scale: float = 1.0
    holds_prompt: bool = False


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
        whose: Which earlier rows: all, the prompt's alone, or all but those.
    """

    kind: NoiseKind
    seed: int
    depth: int
    number: int
    keep: int
    whose: Whose = "all"


@dataclass(frozen=True, slots=True)
class InjectDonor:
    """Set the target tokens' rows to those of the donor prompt ``name``.

    Attributes:
        name: The donor.
        rows: Which rows are set: all; where ``kv-only``, current rows alone.
        holds_prompt: Whether the prompt's rows stay as they are, whatever the mode of the others.
    """

    name: str
    rows: RowMode = "joint"
    holds_prompt: bool = False


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

    @cached_property
    def reaches(self) -> dict[Occurrence, Reach]:
        """What attentions see at the most, of those that see less than their layers let them."""
        return {
            each.occurrence: each.reach
            for one in self.instructions
            for each in layers(one)
            if each.occurrence is not None and each.reach is not None
        }

    @cached_property
    def holding(self) -> Counter[int | None]:
        """How many attentions hold keys and values of so many tokens at the most; None: of all."""
        reaches = self.reaches
        return Counter(reaches[each].held if each in reaches else None for each in self.occurrences)

    @property
    def is_noisy(self) -> bool:
        """Whether any noise is drawn."""
        return any(isinstance(each, ReplaceByNoise) for each in self.instructions)

    @property
    def tells_prompt(self) -> bool:
        """Whether something else is done to the prompt's rows than to the others."""
        return any(map(tells_prompt, self.instructions))

    @cached_property
    def behind_prompt(self) -> Program:
        """What tokens behind the prompt run."""
        return Program(tuple(filter(None, map(_behind_prompt, self.instructions))))

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


def tells_prompt(instruction: Instruction) -> bool:
    """Whether an instruction does something else to the prompt's rows than to the others."""
    if isinstance(instruction, ReplaceByNoise):
        return instruction.whose != "all"
    return not isinstance(instruction, Split) and instruction.holds_prompt


def _behind_prompt(instruction: Instruction) -> Instruction | None:
    """Return what tokens behind the prompt run of an instruction; None for nothing."""
    match instruction:
        case ReplaceByNoise(whose="prompt"):
            return None
        case ReplaceByNoise():
            return replace(instruction, whose="all")
        case RunBranches(branches):
            inner = tuple(tuple(map(_behind_prompt, branch)) for branch in branches)
            return replace(instruction, branches=inner, holds_prompt=False)
        case RunLayer() | InjectDonor():
            return replace(instruction, holds_prompt=False)
        case _:
            return instruction


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


def _data(instruction: Instruction) -> dict[str, Any]:
    match instruction:
        case RunLayer(layer, part, _, rows, reach, scale):
            data: dict[str, Any] = {"run": layer, "part": part, "rows": rows}
            if reach is not None:
                data["reach"] = [reach.first, reach.last]
            return data | ({} if scale == 1 else {"scale": scale})
        case RunBranches(branches, combine, rows, scale):
            inner = [[_data(each) for each in branch] for branch in branches]
            data = {"branches": inner, "combine": combine, "rows": rows}
            return data | ({} if scale == 1 else {"scale": scale})
        case Split():
            return {"split": True}
        case ReplaceByNoise(kind, seed, depth, number, keep):
            return {"noise": kind, "seed": seed, "depth": depth, "number": number, "keep": keep}
        case InjectDonor(name, rows):
            return {"inject": name, "rows": rows}
