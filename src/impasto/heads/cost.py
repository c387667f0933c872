"""What encoders' requests cost before anything runs, in layer-rows.

Decoders have :mod:`impasto.run.queries.cost`.
"""

from collections.abc import Iterator, Sequence

from impasto.error import UserError
from impasto.heads.reading import Text, tokenized
from impasto.plan import Plan
from impasto.plan.lowering import lower
from impasto.plan.program import layers
from impasto.plan.tree import Node, plant
from impasto.run.encoder_model import Encoder
from impasto.run.queries.cost import Cost, Shares, shares
from impasto.tasks.problem import FineTuned, Problem
from impasto.tasks.request import HeadQuestion, MaskedText, Request

TRAINING = 3  # a step forward and back costs about so many forward


def cost(model: Encoder, plans: Sequence[Plan], requests: Sequence[Request]) -> Cost:
    """Return what it costs to answer requests under plans; fitting heads is not counted.

    Raises:
        UserError: for a request that only a decoder can answer.
    """
    each = shares(model._opened)
    alone = sum(_layers(plant([lower(plan).instructions]), each) for plan in plans)
    shared = _layers(plant([lower(plan).instructions for plan in plans]), each)
    whole = together = 0.0
    for problem, rows in _predictions(model, requests):
        texts: list[Text] = [(one.first, one.second) for one in problem.examples]
        examples = _rows(model, texts, problem.protocol.max_length)
        if isinstance(problem.protocol, FineTuned):
            trained = (TRAINING * problem.protocol.epochs * examples + rows) * alone
            whole, together = whole + trained, together + trained
        else:
            whole, together = (
                whole + (examples + rows) * alone,
                together + (examples + rows) * shared,
            )
    for request in requests:
        if isinstance(request, MaskedText):
            masked = len(model.tokens(request.text)) ** 2
            whole, together = whole + masked * alone, together + masked * shared
        elif not isinstance(request, HeadQuestion):
            raise UserError(
                f"{model!r} is an encoder, and the study asks it what a decoder answers "
                f"({type(request).__name__}); encoders run glue and masked_text"
            )
    return Cost(whole, together, together, together)


def _predictions(model: Encoder, requests: Sequence[Request]) -> Iterator[tuple[Problem, int]]:
    """Yield each problem with the rows of all that is asked of it."""
    by_problem: dict[Problem, list[Text]] = {}
    for request in requests:
        if isinstance(request, HeadQuestion):
            by_problem.setdefault(request.problem, []).append((request.first, request.second))
    for problem, texts in by_problem.items():
        yield problem, _rows(model, texts, problem.protocol.max_length)


def _rows(model: Encoder, texts: Sequence[Text], max_length: int) -> int:
    return sum(len(read["input_ids"]) for read in tokenized(model, texts, max_length))


def _layers(root: Node, each: Shares) -> float:
    """Return how many whole layers a tree runs."""
    total, pending = 0.0, [root]
    while pending:
        node = pending.pop()
        total += sum(
            each.of(run.part) for stride in node.branches for one in stride for run in layers(one)
        )
        pending.extend(node.branches.values())
    return total
