"""Which plans write texts in one go: where memory limits how many texts, those of about a length.

At every attention a text keeps keys and values, so the plan with the most attentions says how many
texts decode at once. A decode step reads the weights of every layer that it calls, however few they
are. Where memory allows fewer texts than there are, plans with fewer attentions therefore have a
turn of their own, with more texts; what they share with the others is then read once more.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import floor, inf, log

from impasto.model.decoder import OpenedModel
from impasto.plan.program import Program
from impasto.plan.tree import Node, plant, trunk_first
from impasto.run.batching.batches import BatchGroup
from impasto.run.batching.demand import Asked
from impasto.run.batching.memory import Queue, fitting_groups
from impasto.run.batching.request import TokenRequest
from impasto.run.generate.trial import try_common_keys
from impasto.run.tuning import TIMES_THE_TEXTS

_UNLIMITED = 2**60


@dataclass(frozen=True)
class PlanSet:
    """Plans that write texts in one go.

    Attributes:
        programs: Each once.
        tree: What they have in common.
        asked: What that asks of the model.
        queue: The prompts, in groups that fit into memory.
    """

    programs: Sequence[Program]
    tree: Node
    asked: Asked
    queue: Queue[BatchGroup]


def plan_sets(
    model: OpenedModel,
    programs: Sequence[Program],
    prompts: Sequence[TokenRequest],
    new_tokens: int,
    memory: int,
) -> Iterator[PlanSet]:
    """Yield the sets of plans that write so many tokens behind prompts, within bytes of memory.

    Args:
        model: The model.
        programs: The plans, lowered; those that are lowered to the same run once.
        prompts: The prompts.
        new_tokens: How many tokens are written at the most.
        memory: The bytes that a batch may take, and the plans that decode together.

    Raises:
        UserError: when a single prompt does not fit.
    """
    try_common_keys(model)
    unique = list(dict.fromkeys(programs))
    given = model, prompts, new_tokens, memory
    tokens = new_tokens + max((len(prompt.ids) for prompt in prompts), default=0)
    sizes = {program: _attentions(program, tokens) for program in unique}
    most = max(sizes.values(), default=0)
    longest = [each for each, size in sizes.items() if set_number(size, most) == 0]
    if not (model.packs_rows and prompts) or len(longest) == len(unique):
        yield _plan_set(unique, *given)
        return
    of_longest = _plan_set(longest, *given)
    wanted = _most_texts(fitting_groups(of_longest.asked, prompts, _UNLIMITED))
    times = wanted / _most_texts(of_longest.queue)
    del of_longest
    by_texts: dict[int, list[Program]] = {}
    for program, size in sizes.items():
        by_texts.setdefault(set_number(size, most, times), []).append(program)
    for _, some in sorted(by_texts.items()):
        yield _plan_set(some, *given)


def set_number(attentions: float, most: float, most_times: float = inf) -> int:
    """Return which set a plan is in, by how many times the texts of the longest it leaves room for.

    Args:
        attentions: How many attentions the plan has.
        most: How many the longest has.
        most_times: How many times the texts there are.
    """
    times = min(most / max(1.0, attentions), most_times)
    return floor(log(max(1.0, times), TIMES_THE_TEXTS))


def _attentions(program: Program, tokens: int) -> float:
    """Return how many attentions hold as much of so many tokens as a plan's do under reaches."""
    held = program.holding.items()
    return sum(n * min(tokens, tokens if most is None else most) for most, n in held) / tokens


def _plan_set(
    programs: Sequence[Program],
    model: OpenedModel,
    prompts: Sequence[TokenRequest],
    new_tokens: int,
    memory: int,
) -> PlanSet:
    instructions = [program.instructions for program in programs]
    tree = trunk_first(plant(instructions, releases=model.packs_rows))
    asked = Asked.of_texts(model, tree, programs, new_tokens, memory)
    return PlanSet(programs, tree, asked, fitting_groups(asked, prompts, memory))


def _most_texts(groups: Iterable[BatchGroup]) -> int:
    """Return how many texts the largest of some groups has."""
    return max(len(group.prefix_trees) for group in groups)
