"""Many plans as one tree: what they begin with in common is run once.

Plans are merged by their first steps into a tree, which is walked depth-first: a step is run when
its node is reached, from the state that its parent left. Only states that still have branches to
come are kept.
"""

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar, runtime_checkable

from impasto.plan import Inject, Step
from impasto.plan.attending import attends, is_last_attention

S = TypeVar("S")


@runtime_checkable
class Walks(Protocol[S]):
    """What runs steps, from one state to the next; a state is a value."""

    def start(self) -> S:
        """Return the state at depth 0."""
        ...

    def step(self, step: Step, state: S) -> S:
        """Return the state after a step; ``inject`` needs a donor and has :meth:`inject`."""
        ...

    def inject(self, state: S, splice: Any, donor: Any, given: S) -> S:
        """Return a state with rows of a donor's state in it."""
        ...

    def retire(self, state: S) -> S:
        """Return a state of which less may be run from the next attention on: it is the last."""
        ...


@dataclass(slots=True)
class Node:
    """What plans have run so far.

    Attributes:
        branches: What may come next.
        ends: The plans (by index) that end here.
        injects: The names that are still to be injected below.
        attends: Whether any attention is still to be run below.
        size: The steps in the whole tree below.
        forks: The most states that have to be kept at once for branches to come.
    """

    branches: dict[Step, "Node"] = field(default_factory=dict)
    ends: list[int] = field(default_factory=list)
    injects: set[str] = field(default_factory=set)
    attends: bool = False
    size: int = 0
    forks: int = 0


@dataclass(frozen=True, slots=True)
class DonorRun:
    """A donor prompt for each sequence of a batch, and which rows it gives to which."""

    walker: Walks[Any]
    splice: Any  # what the walker that takes the rows understands


def plant(routes: Sequence[Sequence[Step]]) -> Node:
    """Return the tree of some plans, or of any beginnings of plans, given by their steps."""
    root = Node()
    for index, steps in enumerate(routes):
        path = [root]
        for step in steps:
            path.append(path[-1].branches.setdefault(step, Node()))
        path[-1].ends.append(index)
        names: set[str] = set()
        for node, step in zip(reversed(path[:-1]), reversed(steps), strict=True):
            if isinstance(step, Inject):
                names = names | {step.name}
            node.injects |= names
    _measure(root)
    return root


def trunk_first(root: Node) -> Node:
    """Let each node go on first with the branch in which most is run; return the root.

    So plans that part late end first, and those that end one after the other have most in common.
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
    walker: Walks[S],
    donors: Mapping[str, DonorRun],
    on_step: Callable[[], None] = lambda: None,
    kinds: Sequence[Hashable] = (),
) -> Iterator[tuple[int, S]]:
    """Run every plan of a tree, and yield (plan index, final state) as plans end.

    Where plans have ``kinds``, those of one kind end one after the other as far as may be: of the
    branches that wait, one that parts no more may come before its turn, for no further states have
    to be kept then.
    """
    begin: dict[str, S] = {name: donors[name].walker.start() for name in root.injects}
    pending: list[tuple[Step | None, Node, S, dict[str, S]]] = [(None, root, walker.start(), begin)]
    node, kind = root, _kinds_of_chains(kinds)
    while pending:
        at = len(pending) - 1
        if kinds and not node.branches:
            latest = kinds[node.ends[-1]]
            waiting = range(at, -1, -1)
            at = next((place for place in waiting if kind(pending[place][1]) == latest), at)
        step, node, state, given = pending.pop(at)
        if step is not None:
            state, given = _stepped(step, node, walker, state, given, donors)
            on_step()
        pending += [(s, n, state, given) for s, n in reversed(node.branches.items())]
        ended = [state] * len(node.ends)
        del state  # whoever is handed it says how long it stays
        for index in node.ends:
            yield index, ended.pop()


def _kinds_of_chains(kinds: Sequence[Hashable]) -> Callable[[Node], Hashable]:
    """Return what says of which kind the plan is that a chain ends with; None of what parts."""
    found: dict[int, Hashable] = {}

    def kind(node: Node) -> Hashable:
        if id(node) not in found:
            end = node
            while len(end.branches) == 1:
                [end] = end.branches.values()
            found[id(node)] = None if end.branches else kinds[end.ends[-1]]
        return found[id(node)]

    return kind


def _stepped(
    step: Step,
    node: Node,
    walker: Walks[S],
    state: S,
    given: dict[str, S],
    donors: Mapping[str, DonorRun],
) -> tuple[S, dict[str, S]]:
    """Run a step on the batch, and on those donors that are still to be injected below it.

    ``given`` are the donors' own states, by name. A donor prompt has no target rows, so in its own
    run ``inject`` does nothing.
    """
    if isinstance(step, Inject):
        donor = donors[step.name]
        state = walker.inject(state, donor.splice, donor.walker, given[step.name])
        return state, {name: given[name] for name in node.injects}
    ahead = {name: donors[name].walker.step(step, given[name]) for name in node.injects}
    if not node.attends and is_last_attention(step):
        state = walker.retire(state)
    return walker.step(step, state), ahead


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
            branch.attends or attends(step) for step, branch in node.branches.items()
        )
