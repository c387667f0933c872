"""In what order plans that decode together run their instructions: made once and run often.

Plans stand side by side, each with a stretch of the rows. Where the next instruction of neighbours
is the same, one call of the block runs it for all of them. A call_order depends on the plans and on
how many rows each has, not on their tokens, so it holds until plans come or go.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from impasto.plan.program import (
    InjectDonor,
    Instruction,
    Program,
    ReplaceByNoise,
    RowMode,
    Run,
    RunBranches,
    RunLayer,
    Split,
    attends,
    with_rows,
)


def neighbourhood(program: Program) -> tuple[str, int, int]:
    """Say where a plan stands among others, so that those that run alike are neighbours.

    Of plans with the same layers, those with noise come first, those that freeze last, and in
    between those that are not edited: so rows that run alike lie side by side at every depth.
    """
    instructions = [each for each in program.instructions if not isinstance(each, InjectDonor)]
    bare = repr([_bare(each) for each in instructions if isinstance(each, RunLayer | RunBranches)])
    at = next((at for at, each in enumerate(instructions) if isinstance(each, Split)), None)
    if at is None:
        return bare, 1, 0
    is_noise = any(isinstance(each, ReplaceByNoise) for each in instructions[at + 1 : at + 2])
    return (bare, 0, at) if is_noise else (bare, 2, -at)


def _bare(instruction: Run) -> Run:
    """Return an instruction without what says how rows run."""
    return with_rows(instruction, "joint")


@dataclass(frozen=True, slots=True)
class BeginCurrent:
    """Let current rows of a plan begin as the earlier ones are."""

    span: slice


@dataclass(frozen=True, slots=True)
class DrawNoise:
    """Put noise in the place of a plan's earlier rows."""

    span: slice
    instruction: ReplaceByNoise


@dataclass(frozen=True, slots=True)
class BlockCall:
    """Run an instruction for the batch entries of neighbouring plans.

    Attributes:
        plans: The plans, by index.
        span: Their batch entries.
        instruction: The instruction, with how rows run.
        copied: Batch entries without current rows, which run copies of theirs in their place.
        held: Batch entries whose earlier rows run, and stay as they are.
    """

    plans: range
    span: slice
    instruction: Run
    copied: tuple[slice, ...] = ()
    held: tuple[slice, ...] = ()


Operation = BeginCurrent | DrawNoise | BlockCall


def call_order(
    programs: Sequence[Program], spans: Sequence[slice], follows: Sequence[bool], call: float
) -> list[Operation]:
    """Return what is run, in order, when plans read their next tokens.

    Injections are left out: they lie in the prompt, which has been read.

    Args:
        programs: The plans, lowered.
        spans: Their batch entries, side by side.
        follows: Of each, whether its keys and values lie right behind those of the one before.
        call: How many sequences a block could run in the time that a call of it costs anyway.
    """
    # Every new token's successor is predicted, so splitting joint rows would save nothing.
    released = [program.released(joint_too=False) for program in programs]
    return list(_CallOrder(released, spans, follows, call).run())


class _CallOrder:
    """Follows every plan through its program."""

    def __init__(
        self,
        programs: Sequence[Program],
        spans: Sequence[slice],
        follows: Sequence[bool],
        call: float,
    ) -> None:
        self._programs: list[list[Instruction]] = [
            [each for each in program.instructions if not isinstance(each, InjectDonor)]
            for program in programs
        ]
        self._spans, self._follows, self._call = spans, follows, call
        self._at = [0] * len(programs)
        self._is_joint = [True] * len(programs)
        self._bare = [
            [_bare(each) if isinstance(each, RunLayer | RunBranches) else None for each in program]
            for program in self._programs
        ]
        self._latest = [{each: at for at, each in enumerate(bare)} for bare in self._bare]

    def run(self) -> Iterator[Operation]:
        """Yield one operation after the other.

        An instruction waits while other plans are still to come to it. Of those that none will
        join, the one that most plans wait for is run first.
        """
        while True:
            for plan in range(len(self._programs)):
                yield from self._edits(plan)
            waits = [self._next(plan) for plan in range(len(self._programs))]
            wanted = Counter(each for each in waits if each is not None)
            if not wanted:
                break
            alone = Counter({each: n for each, n in wanted.items() if not self._is_ahead(each)})
            [(most, _)] = (alone or wanted).most_common(1)
            for run in self._runs([plan for plan, each in enumerate(waits) if each == most]):
                yield from self._calls(most, run)
        for plan, is_joint in enumerate(self._is_joint):
            if is_joint:
                yield BeginCurrent(self._spans[plan])

    def _edits(self, plan: int) -> Iterator[Operation]:
        """Go on to what a plan's layers run next."""
        program, span = self._programs[plan], self._spans[plan]
        while self._at[plan] < len(program):
            match program[self._at[plan]]:
                case Split():
                    self._is_joint[plan] = False
                    yield BeginCurrent(span)
                case ReplaceByNoise() as noise:
                    yield DrawNoise(span, noise)
                case _:
                    return
            self._at[plan] += 1

    def _is_ahead(self, instruction: Run) -> bool:
        """Whether a plan that waits for something else is still to come to an instruction."""
        return any(
            latest.get(instruction, -1) > at and self._next(plan) != instruction
            for plan, (latest, at) in enumerate(zip(self._latest, self._at, strict=True))
        )

    def _next(self, plan: int) -> Run | None:
        """Return what a plan runs next, whatever the mode of its rows."""
        at = self._at[plan]
        return self._bare[plan][at] if at < len(self._bare[plan]) else None

    def _rows(self, plan: int) -> RowMode:
        """Return how the rows run that a plan runs next."""
        instruction = self._programs[plan][self._at[plan]]
        assert isinstance(instruction, RunLayer | RunBranches), "edits have been passed"
        return instruction.rows

    def _runs(self, plans: Sequence[int]) -> Iterator[list[int]]:
        """Part plans into runs of neighbours."""
        run: list[int] = []
        for plan in plans:
            if run and (plan > run[-1] + 1 or not self._follows[plan]):
                yield run
                run = []
            run.append(plan)
        yield run

    def _calls(self, instruction: Run, run: list[int]) -> Iterator[BlockCall]:
        """Yield the calls of it for neighbouring plans: those that together cost least."""
        alike = [list(group) for _, group in groupby(run, key=self._rows)]
        best: list[tuple[float, list[BlockCall]]] = [(0, [])]  # from each group on, the last first
        for begin in reversed(range(len(alike))):
            options = []
            for end, (cost, calls) in zip(range(len(alike), begin, -1), best, strict=False):
                plans = [plan for group in alike[begin:end] for plan in group]
                own, call = self._cheapest(instruction, plans)
                options.append((own + cost, [call, *calls]))
            best.append(min(options, key=lambda option: option[0]))
        yield from best[-1][1]
        for plan in run:
            self._at[plan] += 1

    def _cheapest(self, instruction: Run, plans: list[int]) -> tuple[float, BlockCall]:
        """Return the call of it for some plans, and what it costs in rows.

        Plans of several modes, or few that want keys and values only, run with rows split; what is
        more than they need costs less than a call apart.
        """
        spans = [self._spans[plan] for plan in plans]
        span = slice(spans[0].start, spans[-1].stop)
        count, modes = span.stop - span.start, {self._rows(plan) for plan in plans}
        has_attention = attends(instruction)

        def call(rows: RowMode, **more: tuple[slice, ...]) -> BlockCall:
            among = range(plans[0], plans[-1] + 1)
            return BlockCall(among, span, with_rows(instruction, rows), **more)

        if modes == {"joint"}:
            return self._call + count, call("joint")
        if modes == {"kv-only"} and (not has_attention or count > self._call):
            return (2 if has_attention else 1) * self._call + count, call("kv-only")
        apart = {
            name: tuple(self._spans[plan] for plan in plans if self._rows(plan) == rows)
            for name, rows in (("copied", "joint"), ("held", "kv-only"))
        }
        return self._call + 2 * count, call("split", **apart)
