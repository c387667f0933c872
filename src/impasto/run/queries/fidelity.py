"""How near to the full model's predictions plans stay, token by token of some texts.

Every token is predicted as in scoring (:mod:`impasto.run.queries.loglikelihood`): with the token
before it current and all before that one earlier. The full model is one more plan of the tree, so
what plans begin with in common with it is run once, for it too.

The predictions of two plans are compared over the whole vocabulary, which takes the logits of both.
They are never kept: what waits are final states, hidden numbers a row instead of a vocabulary's,
until :data:`impasto.run.tuning.PLANS_COMPARED_AT_ONCE` plans have ended. Then the full model's
logits are made anew, slab by slab, once for all of these plans. Plans one by one would double the
time that logits take, for a head reads as much as several layers; all plans at once would take
memory that grows with their number.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from impasto.error import UserError
from impasto.model.decoder import OpenedModel
from impasto.model.structure.absent import spans
from impasto.model.structure.anatomy import ModelError
from impasto.plan import Plan
from impasto.plan.lowering import lower
from impasto.plan.program import Instruction
from impasto.plan.tree import plant, walk
from impasto.run.attention.choice import chosen_attention
from impasto.run.attention.tree_sparse import tree_sparse_attention
from impasto.run.batching.batches import BatchGroup
from impasto.run.batching.demand import Asked
from impasto.run.batching.memory import Meter, fitting_groups
from impasto.run.batching.pieces import Piece
from impasto.run.execute.groups import group_executor
from impasto.run.execute.logits import compared
from impasto.run.queries.cost import Cost, cost
from impasto.run.queries.loglikelihood import Continuations
from impasto.run.tuning import PLANS_COMPARED_AT_ONCE


class TextFidelity(NamedTuple):
    """How a plan predicts the tokens of a text, beside the full model.

    Attributes:
        tokens: How many tokens were predicted.
        log_p: The sum of log p of them under the plan, in nats.
        kl: The sum of KL(full model || plan) at them, in nats.
        agreeing: At how many of them both have the same likeliest token.
    """

    tokens: int
    log_p: float
    kl: float
    agreeing: int


def check_comparable(model: OpenedModel, plans: Sequence[Plan]) -> None:
    """Raise unless plans can be compared with the full model.

    Raises:
        UserError: when a plan injects, or is about the prompt: a text has no place for a donor's
            states, and no prompt.
        ModelError: when the full model cannot run, since layers of it were not loaded.
    """
    injecting = next((plan for plan in plans if plan.injections), None)
    if injecting is not None:
        raise UserError(
            f"the plan {injecting} injects, and texts have no token that a donor's states belong "
            "to; how near a plan stays to the full model is told of plans that do not inject"
        )
    prompted = next((plan for plan in plans if plan.tells_prompt), None)
    if prompted is not None:
        raise UserError(
            f"the plan {prompted} does something to the prompt alone, and a text has no prompt; "
            "score continuations, or generate behind prompts"
        )
    absent = set(range(model.num_layers)).difference(model.present, model.passed_over)
    if absent:
        raise ModelError(
            f"plans are compared with the full model, and layers {spans(absent)} are not loaded: "
            "load the model without plan= for all layers"
        )


@torch.no_grad()
def fidelity(
    model: OpenedModel,
    plans: Sequence[Plan],
    pieces: Sequence[Piece],
    texts: int,
    progress: Callable[[float], None],
    memory: int | None = None,
) -> list[list[TextFidelity]]:
    """Return, per plan and text, how the plan predicts the text's tokens beside the full model.

    Args:
        model: The model, all layers of it.
        plans: The plans; none injects.
        pieces: What is read of the texts.
        texts: How many texts there are.
        progress: Called with the share that is done, 0 to 1.
        memory: The bytes that a batch may take; None for what is free.
    """
    programs = _programs(model, plans)
    tree = plant(programs, releases=model.packs_rows)
    read = [piece.request for piece in pieces]
    sums = torch.zeros(len(plans), len(pieces), 3, dtype=torch.float64)
    asked = Asked(model, tree, "fidelity", finished=_waiting(programs))
    queue = fitting_groups(asked, read, memory)
    meter = Meter(progress, queue.rows * tree.size)
    for group in queue:
        ended = _Ended(model, group, [pieces[index].targets for index in group.requests])
        on_node = lambda rows=group.rows: meter.add(rows)  # noqa: E731
        try:
            executor, _ = group_executor(model, read, group, ())
            with chosen_attention(model, tree_sparse_attention(model.device)):
                for program, states in walk(tree, executor, {}, on_node):
                    ended.add(program, executor.finish(states))
                    ended.compare(sums, PLANS_COMPARED_AT_ONCE)
                ended.compare(sums)
        except (RuntimeError, MemoryError) as error:
            queue.failed(group, error)
    return _by_text(sums, pieces, texts)


def fidelity_cost(
    model: OpenedModel, plans: Sequence[Plan], pieces: Sequence[Piece], memory: int | None = None
) -> Cost:
    """Return what :func:`fidelity` would cost, the full model's own run included."""
    requests, waiting = [piece.request for piece in pieces], _waiting(_programs(model, plans))
    return cost(model, [_full(model), *plans], requests, memory, finished=waiting)


class _Ended:
    """The final states of plans that have ended on a group of batches, until they are compared."""

    def __init__(
        self, model: OpenedModel, group: BatchGroup, targets: Sequence[Sequence[int]]
    ) -> None:
        self._model, self._pieces = model, group.requests
        order, self._rows, self._tokens = Continuations(targets, group.predictions).by_prediction
        owner = torch.arange(len(targets)).repeat_interleave(torch.tensor(list(map(len, targets))))
        self._owner = owner[order]
        self._full: Tensor | None = None
        self._plans: list[tuple[int, Tensor]] = []

    def add(self, program: int, states: Float[Tensor, "predictions hidden"]) -> None:
        """Take the final states of a program: of the full model, which is the first, or a plan."""
        if program == 0:
            self._full = states
        else:
            self._plans.append((program - 1, states))

    def compare(self, sums: Float[Tensor, "plans pieces 3"], least: int = 1) -> None:
        """Write down the sums of so many plans at least, once the full model has ended."""
        if self._full is None or len(self._plans) < least:
            return
        states = [of_plan for _, of_plan in self._plans]
        found = compared(self._model, self._full, states, self._rows, self._tokens)
        sizes = [len(each) for each in found[0]]
        read = torch.stack([torch.cat([part.float() for part in each]) for each in found]).cpu()
        for (plan, _), values in zip(self._plans, read, strict=True):
            log_p, *parts = values.split(sizes)
            each = [log_p, *(part[self._rows] for part in parts)]
            of_pieces = torch.zeros(len(self._pieces), 3, dtype=torch.float64)
            of_pieces.index_add_(0, self._owner, torch.stack([e.double() for e in each], 1))
            sums[plan, self._pieces] = of_pieces
        self._plans = []


def _full(model: OpenedModel) -> Plan:
    return Plan.identity(model.num_layers)


def _programs(model: OpenedModel, plans: Sequence[Plan]) -> list[tuple[Instruction, ...]]:
    """Return what runs: the full model first, so that it ends before all that part from it."""
    return [lower(plan).instructions for plan in (_full(model), *plans)]


def _waiting(programs: Sequence[Sequence[Instruction]]) -> int:
    """Return how many final states wait at the most: the full model's, and some plans'.

    They are more than are compared at once where more plans end on the full model's way.
    """
    full, *others = (tuple(program) for program in programs)
    before = sum(len(other) < len(full) and full[: len(other)] == other for other in others)
    return 1 + min(len(others), max(before, PLANS_COMPARED_AT_ONCE))


def _by_text(
    sums: Float[Tensor, "plans pieces 3"], pieces: Sequence[Piece], texts: int
) -> list[list[TextFidelity]]:
    """Return the values of whole texts; those of which nothing was read have no tokens."""
    owner = torch.tensor([piece.text for piece in pieces], dtype=torch.long)
    counts = torch.tensor([len(piece.targets) for piece in pieces], dtype=torch.long)
    tokens = torch.zeros(texts, dtype=torch.long).index_add_(0, owner, counts).tolist()
    totals = sums.new_zeros(len(sums), texts, 3).index_add_(1, owner, sums).tolist()
    return [
        [
            TextFidelity(count, log_p, kl, round(agreeing))
            for count, (log_p, kl, agreeing) in zip(tokens, row, strict=True)
        ]
        for row in totals
    ]
