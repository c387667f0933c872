"""How much is held at each moment while a plan tree runs, counted without running anything.

The tree is walked as it would be run (:func:`impasto.plan.tree.walk`), on states that hold no
numbers and say, while they are alive, how many rows of which kind they would hold.
"""

from collections.abc import Iterable
from typing import Any, Literal, NamedTuple

from impasto.plan.program import (
    InjectDonor,
    Instruction,
    ReplaceByNoise,
    Run,
    RunBranches,
    RunLayer,
    Split,
    occurrences,
)
from impasto.plan.tree import DonorRun, Node, walk

Mode = Literal["joint", "split", "kv-only", "current", "noise", "inject", "record", "read"]
"""What runs: a block, on rows of some kind; noise; an injection; the copy of recorded keys and
values to where they stay; or what is read at the end."""


class Moment(NamedTuple):
    """What is held at once while something runs.

    Attributes:
        new: How many states of every new row, what the run returns included.
        scored: How many states of every scored row.
        donors: How many states of every row of donor prompts.
        kept: At how many attentions the keys and values of every new row are recorded.
        shared: At how many attentions those of the rows that all sequences follow are held.
        joint: Whether joint rows have run before, or do now; then their masks are there.
        split: The same of split rows.
        current: The same of current rows alone.
    """

    new: int = 0
    scored: int = 0
    donors: int = 0
    kept: int = 0
    shared: int = 0
    joint: int = 0
    split: int = 0
    current: int = 0


def moments(tree: Node, records: bool = False, read_at_once: int = 1) -> dict[Mode, set[Moment]]:
    """Return the moments of a plan tree that hold most, by what runs then.

    Args:
        tree: The plans.
        records: Whether keys and values are recorded, for tokens to come.
        read_at_once: Of how many plans the final states wait until they are read.
    """
    live = _Live()
    tracer = _Tracer(live, records, "new")
    donors = {name: DonorRun(_Tracer(live, False, "donors"), None) for name in tree.injects}
    ended = 0
    for _, state in walk(tree, tracer, donors):
        last, ended = state._replace(kept=()), ended + 1  # who writes on takes what is kept along
        del state
        if ended % read_at_once == 0:
            live.note("read")
        del last
    live.note("read")
    return {mode: _largest(each) for mode, each in live.by_mode.items()}


def _largest(some: Iterable[Moment]) -> set[Moment]:
    """Return the moments that no other one exceeds in everything."""
    found: list[Moment] = []
    for each in sorted(some, reverse=True):
        if not any(all(a >= b for a, b in zip(one, each, strict=True)) for one in found):
            found.append(each)
    return set(found)


class _Live:
    """What is held now, and what was at every moment noted."""

    def __init__(self) -> None:
        self.new = self.scored = self.donors = self.kept = 0
        self.ran: dict[str, int] = {"joint": 0, "split": 0, "current": 0}
        self.by_mode: dict[Mode, set[Moment]] = {}

    def note(self, mode: Mode, kept: int = 0, shared: int = 0) -> None:
        frame = "current" if mode == "kv-only" else mode
        if frame in self.ran:
            self.ran[frame] = 1
        moment = Moment(
            self.new, self.scored, self.donors, self.kept + kept, shared, *self.ran.values()
        )
        self.by_mode.setdefault(mode, set()).add(moment)


class _Held:
    """States of some kinds of rows, as long as it is alive."""

    __slots__ = ("_kinds", "_live")

    def __init__(self, live: _Live, *kinds: str) -> None:
        self._live, self._kinds = live, kinds
        for kind in kinds:
            setattr(live, kind, getattr(live, kind) + 1)

    def __del__(self) -> None:
        for kind in self._kinds:
            setattr(self._live, kind, getattr(self._live, kind) - 1)


class _Traced(NamedTuple):
    """What a state of the engine's would hold."""

    earlier: _Held
    current: _Held | None = None
    kept: tuple[_Held, ...] = ()


class _Tracer:
    """Runs instructions on states without numbers."""

    def __init__(self, live: _Live, records: bool, rows: Literal["new", "donors"]) -> None:
        self._live, self._records, self._rows = live, records, rows

    def start(self) -> _Traced:
        return _Traced(self._held(self._rows))

    def step(self, instruction: Instruction, state: _Traced) -> _Traced:
        match instruction:
            case RunLayer():
                return self._layer(instruction, state)
            case RunBranches():
                return self._branches(instruction, state)
            case Split():
                return state._replace(current=self._held("scored"))
            case ReplaceByNoise():
                state = state._replace(earlier=self._held(self._rows))
                self._live.note("noise")
                return state
            case InjectDonor():
                raise TypeError("an injection is traced by inject")

    def inject(
        self, instruction: InjectDonor, state: _Traced, splice: Any, donor: Any, given: _Traced
    ) -> _Traced:
        current = None if state.current is None else self._held("scored")
        earlier = state.earlier if instruction.rows == "kv-only" else self._held(self._rows)
        self._live.note("inject")
        return state._replace(earlier=earlier, current=current)

    def _layer(self, run: RunLayer, state: _Traced) -> _Traced:
        is_recorded = self._records and run.occurrence is not None
        if state.current is None:
            after = state._replace(earlier=self._held(self._rows))
            mode: Mode = "joint"
        elif run.rows == "kv-only":
            after = state._replace(current=self._held("scored"))
            mode = "current" if run.occurrence is None else "kv-only"
        else:
            both = self._held(self._rows, "scored")
            after = state._replace(earlier=both, current=both)
            if run.holds_prompt:
                after = after._replace(earlier=self._held(self._rows))
            mode = "split"
        if is_recorded:
            after = after._replace(kept=(*after.kept, self._held("kept")))
        self._live.note(mode, -int(is_recorded), sum(1 for _ in occurrences(run)))
        if is_recorded:
            self._live.note("record", 1)
        return after

    def _branches(self, run: RunBranches, state: _Traced) -> _Traced:
        """Trace every branch beside the sum that it is added to."""
        total = [self._held(self._rows), self._held("scored")][: 1 + (state.current is not None)]
        after = state
        for branch in run.branches:
            after = state._replace(kept=after.kept)
            for inner in branch:
                after = self._inner(inner, after)
        current = None if state.current is None else total[-1]
        earlier = state.earlier if run.rows == "kv-only" else total[0]
        self._live.note("joint", 0, sum(1 for _ in occurrences(run)))
        return after._replace(earlier=earlier, current=current)

    def _inner(self, run: Run, state: _Traced) -> _Traced:
        return self.step(run, state)

    def _held(self, *kinds: str) -> _Held:
        return _Held(self._live, *kinds)
