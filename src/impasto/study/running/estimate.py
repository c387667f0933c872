"""What a study will cost, before anything runs.

Exactly what would run is counted (`work.counting`): the same requests, the same plans, the same
batches.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch

from impasto.model.opened import counting_for
from impasto.plan import Plan
from impasto.run import Cost, Encoder, Model, Pace
from impasto.run.batching.working import working
from impasto.run.opening import opened
from impasto.speed.cards import Card, card_named
from impasto.speed.on_card import batch_bytes, pace_on
from impasto.study.database.register import NeededTask
from impasto.study.file.entries import PlanEntry
from impasto.study.file.study import WrittenStudy
from impasto.study.running.models import ModelPart, check_taken, load_model, parts_of
from impasto.study.work.asking import Asking, StudiedModel, naming
from impasto.study.work.counting import cost_of
from impasto.study.work.precision import most_asked
from impasto.study.work.scoring import takes
from impasto.study.work.selectors import plans_asked, texts_of
from impasto.tasks import Suite


@dataclass(frozen=True, slots=True)
class StudyCost:
    """What a study costs on this machine.

    Attributes:
        cost: Layer-rows, with and without each kind of sharing, and the peak memory of a batch.
        pace: How fast this machine is, as measured; or a card, as its data sheet has it.
        weight_bytes: The memory of the model's weights.
        entries: How many plans the study lists, each label once.
        plans: How many different ones that is, which run.
        items: How many items are asked at the most.
        is_most: Whether fewer may be, where changes are to be known to a precision.
        notices: What of the study is left out for this model.
    """

    cost: Cost
    pace: Pace
    weight_bytes: int
    entries: int
    plans: int
    items: int
    is_most: bool = False
    notices: Sequence[str] = ()

    @property
    def seconds(self) -> float:
        """How long the model's own work will take, at the most."""
        return self.cost.seconds(self.pace)


def estimate_study(
    study: WrittenStudy,
    model: str | None,
    limit: int | None,
    memory: int | None,
    card: str | None = None,
) -> StudyCost:
    """Estimate a study; see `Study.estimate`, which this is the body of."""
    target = None if card is None else card_named(card)
    asked = study.as_run(model, limit)
    [part] = parts_of(asked.as_run(asked.model), several=len(study.models) > 1)
    loaded = load_model(asked.model, asked.load, memory)
    with _target(loaded, target, memory):
        return _estimated(part, loaded, target)


@contextmanager
def _target(model: Model | Encoder, card: Card | None, memory: int | None) -> Iterator[None]:
    """Return a context in which what a model would do is counted for a card, where one is meant."""
    if card is None:
        yield
        return
    model.memory = memory or batch_bytes(card, _weight_bytes(model))
    if isinstance(model, Model):
        working(opened(model.hf))  # counted once, and on the device where the model is
    with counting_for(torch.device("cuda")):
        yield


def _estimated(part: ModelPart, loaded: Model | Encoder, card: Card | None) -> StudyCost:
    open_entries = [entry for entry in part.study.plans if entry.texts is not None]
    whole = tuple(entry.standing_in(loaded.num_layers) for entry in part.study.plans)
    plans = replace(part.study, plans=whole).labelled_plans(loaded.num_layers)
    check_taken(part.suite, plans)
    listed = [labelled.plan for labelled in plans]
    found = estimate(loaded, part.suite.read_by(loaded), listed, card)
    choosing = [cost for entry in open_entries for cost in _choosing(entry, loaded)]
    names = dict.fromkeys(entry.strategy for entry in open_entries)
    measured = [
        f"which layers {name} leaves out is measured when the study runs, and counted as if the "
        "first ones went first"
        for name in names
    ]
    if any(entry.heal is not None for entry in part.study.plans):
        measured.append("the time that plans are healed in is not counted")
    cost = sum(choosing, found.cost)
    return replace(found, cost=cost, notices=(*part.notices(), *measured))


def _choosing(entry: PlanEntry, model: Model | Encoder) -> Iterator[Cost]:
    """Yield what it costs to measure which layers an entry leaves out."""
    task = texts_of(entry, model)
    for part in entry.parts(model.num_layers):
        plans = plans_asked(part, model.num_layers)
        yield asking_cost(model, Asking.of(task, model.tokenizer, plans), plans, len(task.items))


def estimate(
    model: Model | Encoder, suite: Suite, plans: Sequence[Plan], card: Card | None = None
) -> StudyCost:
    """Count what asking a model all tasks of a suite under all plans costs, here or on a card."""
    unique = list({plan.digest: plan for plan in plans}.values())
    most = most_asked(suite)
    costs = [
        asking_cost(model, Asking.of(task, model.tokenizer, taken), taken, most[task.name])
        for task in suite.tasks
        for taken in [[plan for plan in unique if takes(task, plan)]]
    ]
    cost = sum(costs, Cost())
    return StudyCost(
        cost,
        model.pace(cost) if card is None else _pace(model, card),
        _weight_bytes(model),
        len(plans),
        len(unique),
        sum(most.values()),
        bool(suite.precisions),
    )


def _pace(model: Model | Encoder, card: Card) -> Pace:
    dtype = str(model.hf.dtype).removeprefix("torch.")
    return pace_on(card, dtype, model.shape)


def _weight_bytes(model: Model | Encoder) -> int:
    return sum(weight.nbytes for weight in model.hf.parameters())


def expected_seconds(
    model: StudiedModel, tasks: Sequence[NeededTask], asked: Mapping[str, Asking]
) -> dict[str, float | None]:
    """Return how long each task takes under its plans, asked all that it may be.

    Nothing for a model that cannot say.
    """
    if not isinstance(model, Model | Encoder):
        return {}
    costs = {
        needed.task.name: asking_cost(model, asked[needed.task.name], needed.plans, needed.most)
        for needed in tasks
    }
    pace = model.pace(sum(costs.values(), Cost()))
    return {name: cost.seconds(pace) for name, cost in costs.items()}


def asking_cost(model: Model | Encoder, asking: Asking, plans: Sequence[Plan], most: int) -> Cost:
    """Count what the first so many of a task's items cost."""
    requests = asking.requests[:most]
    if isinstance(model, Encoder):
        from impasto.heads.cost import cost

        return cost(model, plans, [request for item in requests for request in item])
    with naming(asking.task.name, asking.names(slice(most))):
        donors = None if asking.donors is None else asking.donors[:most]
        return cost_of(model, plans, requests, donors)
