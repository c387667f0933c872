"""Many programs as one tree: what they begin with in common is run once.

Programs are merged by their first instructions into a tree, which is walked depth-first: an
instruction is run when its node is reached, from the state that its parent left. Only states that
still have branches to come stay. A split is no step of its own: a program takes it together
with what comes behind it. Where no program below reads earlier rows any more, they are released
(:func:`impasto.plan.program.release`).
"""

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar, runtime_checkable

from impasto.plan.program import (
    InjectDonor,
    Instruction,
    Split,
    attends,
    reads_as_found,
    release,
    tells_prompt,
)

S = TypeVar("S")
Stride = tuple[Instruction, ...]  # an instruction, and the split before it where there is one


@runtime_checkable
class Executes(Protocol[S]):
    """What runs instructions, from one state to the next; a state is a value."""

    def start(self) -> S:
        """Return the state at depth 0."""
        ...

    def step(self, instruction: Instruction, state: S) -> S:
        """Return the state after an instruction; injections have :meth:`inject`."""
        ...

    def inject(self, instruction: InjectDonor, state: S, splice: Any, donor: Any, given: S) -> S:
        """Return a state with rows of a donor's state in it."""
        ...


@dataclass(slots=True)
class Node:
    """What programs have run so far.

    Attributes:
        branches: What may come next, as it was lowered.
        runs: What leads here, or what runs in its place where nothing below reads earlier rows any
            more.
        ends: The programs (by index) that end here.
        injects: The names that are still to be injected below.
        attends: Whether any attention is still to be run below.
        size: The nodes in the whole tree below.
        forks: The most states that are held at once for branches to come.
        tells_prompt: Of the root, whether something else is done to the prompt's rows than to the
            others anywhere below.
    """

    branches: dict[Stride, "Node"] = field(default_factory=dict)
    runs: Stride = ()
    ends: list[int] = field(default_factory=list)
    injects: set[str] = field(default_factory=set)
    attends: bool = False
    size: int = 0
    forks: int = 0
    tells_prompt: bool = False


@dataclass(frozen=True, slots=True)
class DonorRun:
    """A donor prompt for each sequence of a batch, and which rows it gives to which."""

    executor: Executes[Any]
    splice: Any  # what the executor that takes the rows understands


def plant(programs: Sequence[Sequence[Instruction]], releases: bool = True) -> Node:
    """Return the tree of some programs, or of any beginnings of programs.

    With ``releases``, earlier rows are released where no program reads them any more.
    """
    root = Node()
    for index, instructions in enumerate(programs):
        path, strides = [root], list(_strides(instructions))
        for each in strides:
            path.append(path[-1].branches.setdefault(each, Node()))
        path[-1].ends.append(index)
        names: set[str] = set()
        for node, each in zip(reversed(path[:-1]), reversed(strides), strict=True):
            names = names | {one.name for one in each if isinstance(one, InjectDonor)}
            node.injects |= names
    _measure(root)
    _release(root, releases)
    root.tells_prompt = any(tells_prompt(each) for program in programs for each in program)
    return root


def trunk_first(root: Node) -> Node:
    """Let each node go on first with the branch in which most is run; return the root.

    So programs that part late end first, and those that end one after the other have most in
    common.
    """
    stack = [root]
    while stack:
        node = stack.pop()
        ordered = sorted(node.branches.items(), key=lambda branch: -branch[1].size)
        node.branches = dict(ordered)
        stack.extend(node.branches.values())
    return root


def walk(
    root: Node,
    executor: Executes[S],
    donors: Mapping[str, DonorRun],
    on_node: Callable[[], None] = lambda: None,
    kinds: Sequence[Hashable] = (),
) -> Iterator[tuple[int, S]]:
    """Run every program of a tree, and yield (program index, final state) as programs end.

    Where programs have ``kinds``, those of one kind end one after the other as far as may be: of
    the branches that wait, one that parts no more may come before its turn, for no further states
    are to be held then.
    """
    begin: dict[str, S] = {name: donors[name].executor.start() for name in root.injects}
    pending: list[tuple[Stride, Node, S, dict[str, S]]] = [((), root, executor.start(), begin)]
    node, kind = root, _kinds_of_chains(kinds)
    while pending:
        at = len(pending) - 1
        if kinds and not node.branches:
            latest = kinds[node.ends[-1]]
            waiting = range(at, -1, -1)
            at = next((place for place in waiting if kind(pending[place][1]) == latest), at)
        stride, node, state, given = pending.pop(at)
        if stride:
            state, given = _stepped(stride, node, executor, state, given, donors)
            on_node()
        pending += [(each, n, state, given) for each, n in reversed(node.branches.items())]
        ended = [state] * len(node.ends)
        del state  # whoever is handed it says how long it stays
        for index in node.ends:
            yield index, ended.pop()


def _kinds_of_chains(kinds: Sequence[Hashable]) -> Callable[[Node], Hashable]:
    """Return what says of which kind the program is that a chain ends with; None of what parts."""
    kinds_by_node: dict[int, Hashable] = {}

    def kind(node: Node) -> Hashable:
        if id(node) not in kinds_by_node:
            end = node
            while len(end.branches) == 1:
                [end] = end.branches.values()
            kinds_by_node[id(node)] = None if end.branches else kinds[end.ends[-1]]
        return kinds_by_node[id(node)]

    return kind


def _strides(instructions: Sequence[Instruction]) -> Iterator[Stride]:
    before: Stride = ()
    for each in instructions:
        if isinstance(each, Split) and not before:
            before = (each,)
            continue
        yield (*before, each)
        before = ()
    if before:
        yield before


def _stepped(
    stride: Stride,
    node: Node,
    executor: Executes[S],
    state: S,
    given: dict[str, S],
    donors: Mapping[str, DonorRun],
) -> tuple[S, dict[str, S]]:
    """Go on to a node on the batch, and on those donors that are still to be injected below it.

    ``given`` are the donors' own states, by name. A donor prompt has no target rows, so in its own
    run an injection does nothing; its earlier rows may be injected, so none are released.
    """
    ahead = {name: given[name] for name in node.injects}
    for each in stride:
        if not isinstance(each, InjectDonor):
            ahead = {n: donors[n].executor.step(each, own) for n, own in ahead.items()}
    for each in node.runs:
        if isinstance(each, InjectDonor):
            donor = donors[each.name]  # an injection is a stride of its own, or behind a split
            state = executor.inject(each, state, donor.splice, donor.executor, given[each.name])
        else:
            state = executor.step(each, state)
    return state, ahead


def _measure(root: Node) -> None:
    order, stack = [], [root]
    while stack:
        node = stack.pop()
        order.append(node)
        stack.extend(node.branches.values())
    for node in reversed(order):
        node.size = sum(1 + branch.size for branch in node.branches.values())
        below = max((branch.forks for branch in node.branches.values()), default=0)
        node.forks = below + (len(node.branches) > 1)
        node.attends = any(
            branch.attends or any(map(attends, each)) for each, branch in node.branches.items()
        )


def _release(root: Node, releases: bool) -> None:
    """Say of each node what leads to it, once it is known what is below."""
    stack = [(root, True)]
    while stack:
        node, is_joint = stack.pop()
        for stride, branch in node.branches.items():
            branch.runs = stride
            if releases and not branch.attends and all(map(reads_as_found, stride)):
                branch.runs = tuple(
                    each for one in stride for each in release(one, is_joint and len(stride) == 1)
                )
            splits = any(isinstance(one, Split) for one in branch.runs)
            stack.append((branch, is_joint and not splits))
