"""In what order plans that decode together run their instructions: made once and run often.

Plans stand side by side, each with a span of the batch's sequences. Where the next instruction of
neighbours is the same, one call of the block runs it for all of them. The order depends on the
plans and on how many sequences each has, not on their tokens, so it holds until plans come or go.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from impasto.plan.program import (
    Edit,
    InjectDonor,
    Instruction,
    Program,
    RowMode,
    Run,
    RunBranches,
    RunLayer,
    Split,
    attends,
    with_rows,
)


def neighbour_key(program: Program) -> tuple[str, int, int]:
    """Return a sort key under which plans that run alike are neighbours; first, their layers.

    Of plans with the same layers, those with noise come first, those that freeze last, and in
    between those without either: so rows that run alike lie side by side at every depth.
    """
    instructions = [each for each in program.instructions if not isinstance(each, InjectDonor)]
    runs = [each for each in instructions if isinstance(each, RunLayer | RunBranches)]
    layers = repr([_without_mode(run) for run in runs])
    at = next((at for at, each in enumerate(instructions) if isinstance(each, Split)), None)
    if at is None:
        return layers, 1, 0
    is_edit = any(isinstance(each, Edit) for each in instructions[at + 1 : at + 2])
    return (layers, 0, at) if is_edit else (layers, 2, -at)


def _without_mode(instruction: Run) -> Run:
    """Return an instruction in one and the same row mode, to compare it with others."""
    return with_rows(instruction, "joint")


@dataclass(frozen=True, slots=True)
class BeginCurrent:
    """Let the current rows of a span of sequences begin as copies of the earlier rows."""

    span: slice


@dataclass(frozen=True, slots=True)
class EditEarlier:
    """Change the earlier rows of a span of sequences."""

    span: slice
    instruction: Edit


@dataclass(frozen=True, slots=True)
class BlockCall:
    """Run an instruction for the sequences of neighbouring plans.

    Attributes:
        plans: The plans, by index.
        span: The span of their sequences.
        instruction: The instruction, in the row mode of the call.
        joint: In a split call, spans with joint rows: copies of them run as current rows.
        kv_only: In a split call, spans whose earlier rows run, but keep their states.
    """

    plans: range
    span: slice
    instruction: Run
    joint: tuple[slice, ...] = ()
    kv_only: tuple[slice, ...] = ()


Operation = BeginCurrent | EditEarlier | BlockCall


def call_order(
    programs: Sequence[Program], spans: Sequence[slice], follows: Sequence[bool], call_cost: float
) -> list[Operation]:
    """Return the operations, in order, by which plans read their next tokens.

    Injections are left out: they lie in the prompt, which has been read.

    Args:
        programs: The plans, lowered.
        spans: The span of sequences of each plan, side by side.
        follows: Of each plan, whether its keys and values lie right behind those of the one before.
        call_cost: How many sequences a block could run in the time that a call of it costs anyway.
    """
    # Every new token's successor is predicted, so splitting joint rows would save nothing.
    released = [program.released(joint_too=False) for program in programs]
    return list(_CallOrder(released, spans, follows, call_cost).operations())


class _CallOrder:
    """Follows every plan through its program."""

    def __init__(
        self,
        programs: Sequence[Program],
        spans: Sequence[slice],
        follows: Sequence[bool],
        call_cost: float,
    ) -> None:
        self._programs: list[list[Instruction]] = [
            [each for each in program.instructions if not isinstance(each, InjectDonor)]
            for program in programs
        ]
        self._spans, self._follows, self._call_cost = spans, follows, call_cost
        self._at = [0] * len(programs)  # the index of each plan's next instruction
        self._is_joint = [True] * len(programs)
        self._runs = [
            [
                _without_mode(each) if isinstance(each, RunLayer | RunBranches) else None
                for each in program
            ]
            for program in self._programs
        ]
        self._last = [{run: at for at, run in enumerate(runs)} for runs in self._runs]

    def operations(self) -> Iterator[Operation]:
        """Yield one operation after the other.

        An instruction waits while other plans are still to come to it. Of those that none will
        join, the one that most plans wait for is run first.
        """
        while True:
            for plan in range(len(self._programs)):
                yield from self._markers(plan)
            upcoming = [self._next(plan) for plan in range(len(self._programs))]
            wanted = Counter(run for run in upcoming if run is not None)
            if not wanted:
                break
            alone = Counter({run: n for run, n in wanted.items() if not self._is_ahead(run)})
            [(most, _)] = (alone or wanted).most_common(1)
            for plans in self._neighbours([at for at, run in enumerate(upcoming) if run == most]):
                yield from self._calls(most, plans)
        for plan, is_joint in enumerate(self._is_joint):
            if is_joint:
                yield BeginCurrent(self._spans[plan])

    def _markers(self, plan: int) -> Iterator[Operation]:
        """Yield the operations of a plan's markers up to its next layer or branches."""
        program, span = self._programs[plan], self._spans[plan]
        while self._at[plan] < len(program):
            instruction = program[self._at[plan]]
            if isinstance(instruction, Split):
                self._is_joint[plan] = False
                yield BeginCurrent(span)
            elif isinstance(instruction, Edit):
                yield EditEarlier(span, instruction)
            else:
                return
            self._at[plan] += 1

    def _is_ahead(self, instruction: Run) -> bool:
        """Whether a plan that waits for something else is still to come to an instruction."""
        return any(
            last.get(instruction, -1) > at and self._next(plan) != instruction
            for plan, (last, at) in enumerate(zip(self._last, self._at, strict=True))
        )

    def _next(self, plan: int) -> Run | None:
        """Return what a plan runs next, whatever the mode of its rows; None at its end."""
        at = self._at[plan]
        return self._runs[plan][at] if at < len(self._runs[plan]) else None

    def _mode(self, plan: int) -> RowMode:
        """Return the row mode of a plan's next instruction."""
        instruction = self._programs[plan][self._at[plan]]
        assert isinstance(instruction, RunLayer | RunBranches), "markers have been passed"
        return instruction.rows

    def _neighbours(self, plans: Sequence[int]) -> Iterator[list[int]]:
        """Part plans, given by index, into lists of neighbours."""
        neighbours: list[int] = []
        for plan in plans:
            if neighbours and (plan > neighbours[-1] + 1 or not self._follows[plan]):
                yield neighbours
                neighbours = []
            neighbours.append(plan)
        yield neighbours

    def _calls(self, instruction: Run, neighbours: list[int]) -> Iterator[BlockCall]:
        """Yield the calls of it for neighbouring plans: those that together cost least."""
        same_mode = [list(plans) for _, plans in groupby(neighbours, key=self._mode)]
        best: list[tuple[float, list[BlockCall]]] = [(0, [])]  # by first group, the last one first
        for begin in reversed(range(len(same_mode))):
            options = []
            for end, (cost, calls) in zip(range(len(same_mode), begin, -1), best, strict=False):
                plans = [plan for group in same_mode[begin:end] for plan in group]
                own, call = self._cheapest(instruction, plans)
                options.append((own + cost, [call, *calls]))
            best.append(min(options, key=lambda option: option[0]))
        yield from best[-1][1]
        for plan in neighbours:
            self._at[plan] += 1

    def _cheapest(self, instruction: Run, plans: list[int]) -> tuple[float, BlockCall]:
        """Return the call of it for some plans, and its cost in sequences.

        Plans of several row modes, or few KV-only rows, run split: the needless rows cost less than
        another call.
        """
        spans = [self._spans[plan] for plan in plans]
        span = slice(spans[0].start, spans[-1].stop)
        count, modes = span.stop - span.start, {self._mode(plan) for plan in plans}
        has_attention = attends(instruction)

        def call(rows: RowMode, **exceptions: tuple[slice, ...]) -> BlockCall:
            among = range(plans[0], plans[-1] + 1)
            return BlockCall(among, span, with_rows(instruction, rows), **exceptions)

        if modes == {"joint"}:
            return self._call_cost + count, call("joint")
        if modes == {"kv-only"} and (not has_attention or count > self._call_cost):
            return (2 if has_attention else 1) * self._call_cost + count, call("kv-only")
        exceptions = {
            name: tuple(self._spans[plan] for plan in plans if self._mode(plan) == rows)
            for name, rows in (("joint", "joint"), ("kv_only", "kv-only"))
        }
        return self._call_cost + 2 * count, call("split", **exceptions)
