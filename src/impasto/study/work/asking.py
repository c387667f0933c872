"""Putting units of work to a model: all plans of a unit go in one call of the engine.

So what plans, items and choices have in common is computed once.
"""

import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from impasto.error import UserError
from impasto.plan import Plan
from impasto.plan.healed import HealedPlan
from impasto.study.file.entries import DONOR
from impasto.study.work.units import Answered, Told, Unit
from impasto.tasks import Request, Task, injectable
from impasto.tasks.answering import Answers, RequestError, Texts, answer
from impasto.tasks.asked_model import AskedModel
from impasto.tasks.problem import Problem


class KnownModel(Protocol):
    """What a study needs to know of a model, wherever it is.

    It has a Hugging Face model, `hf`, by which it is told from others; or, in its place, a mapping
    `identity` that does.
    """

    @property
    def name(self) -> str:
        """What the results call the model."""
        ...

    @property
    def num_layers(self) -> int:
        """How many layers it has."""
        ...

    @property
    def tokenizer(self) -> Any:
        """The Hugging Face tokenizer."""
        ...

    def tokens(self, text: str) -> list[int]:
        """Return a text's token ids, with the special tokens that the tokenizer adds."""
        ...


class StudiedModel(AskedModel, KnownModel, Protocol):
    """A model that can be asked, too; `impasto.load` returns one."""


@dataclass(frozen=True)
class Asking:
    """A task as it is put to a model: what each item asks, and whose states each is injected.

    `keep` is the folder of what is fitted on the way; None keeps nothing.
    """

    task: Task
    requests: Sequence[Sequence[Request]]
    donors: Sequence[Mapping[str, Any]] | None
    keep: Path | None = None

    @classmethod
    def of(cls, task: Task, tokenizer: Any, plans: Sequence[Plan]) -> "Asking":
        """Return how a task is put to a model under these plans (donors: paper A, Figure 5)."""
        donors, offering = None, injectable(task)
        if offering is not None and any(plan.injections for plan in plans):
            donors = [offering.donor(item, tokenizer) for item in task.items]
        return cls(task, task.requests(tokenizer), donors)

    def put(
        self,
        model: AskedModel,
        plans: Sequence[Plan],
        items: slice = slice(None),
        progress: Callable[[float], None] = lambda share: None,
    ) -> Answers:
        """Return what a model says to some of the items, under every plan."""
        donors = None if self.donors is None else self.donors[items]
        with naming(self.task.name, self.names(items)):
            return put(model, plans, self.requests[items], donors, progress, self.keep)

    def names(self, items: slice = slice(None)) -> list[str]:
        """Return what some of the items are called."""
        return [item.id for item in self.task.items[items]]


@contextmanager
def naming(task: str, items: Sequence[str]) -> Iterator[None]:
    """Have a request that cannot be asked in the block named by its task, document and choice."""
    try:
        yield
    except RequestError as error:
        raise UserError(f"{task}, {error.told(f'document {items[error.item]}')}") from None


def put(
    model: AskedModel,
    plans: Sequence[Plan],
    requests: Sequence[Sequence[Request]],
    donors: Sequence[Mapping[str, Any]] | None,
    progress: Callable[[float], None] = lambda share: None,
    keep: Path | None = None,
) -> Answers:
    """Return what a model says to some items' requests under every plan.

    `donors` are bound where a plan injects, one for each item; `keep` is where fitted heads and
    healed weights are kept.
    """
    if any(isinstance(plan, HealedPlan) for plan in plans):
        return _put_to_healed(model, plans, requests, donors, progress, keep)
    bound = None
    if donors is not None and any(plan.injections for plan in plans):
        from impasto.run import Donor

        bound = [{DONOR: Donor(**donor)} for donor in donors]
    return answer(model, list(plans), requests, bound, progress, partial(_predicted, keep))


def _put_to_healed(
    model: AskedModel,
    plans: Sequence[Plan],
    requests: Sequence[Sequence[Request]],
    donors: Sequence[Mapping[str, Any]] | None,
    progress: Callable[[float], None],
    keep: Path | None,
) -> Answers:
    """Return the same where some plans are healed: each of these has a model of its own."""
    from impasto.mending.serving import served

    plain = [plan for plan in plans if not isinstance(plan, HealedPlan)]
    found: dict[Plan, Any] = {}
    truncated, done = 0, 0
    if plain:
        said = put(model, plain, requests, donors, _part(progress, 0, len(plain), len(plans)), keep)
        found |= dict(zip(plain, said.responses, strict=True))
        truncated, done = said.truncated, len(plain)
    for plan in plans:
        if isinstance(plan, HealedPlan):
            told = _part(progress, done, 1, len(plans))
            asked: Any = served(model, plan, keep, lambda share, told=told: told(share / 2))
            said = answer(asked, [plan.plain], requests, None, lambda s, t=told: t((1 + s) / 2))
            found[plan], truncated, done = said.responses[0], said.truncated, done + 1
    return Answers([found[plan] for plan in plans], truncated)


def _part(
    progress: Callable[[float], None], before: int, plans: int, of: int
) -> Callable[[float], None]:
    return lambda share: progress((before + plans * share) / of)


def _predicted(
    keep: Path | None,
    model: Any,
    plans: Sequence[Plan],
    problem: Problem,
    texts: Texts,
    progress: Callable[[float], None],
) -> Sequence[Sequence[float]]:
    """Return what heads say that are fitted to a problem and kept in a folder."""
    from impasto.heads import predict

    return predict(model, plans, problem, texts, keep, progress)


class Here:
    """Answers units one after the other with a model in this process."""

    def __init__(self, model: StudiedModel, asked: Mapping[str, Asking]) -> None:
        self._model, self._asked = model, asked

    def run(
        self, units: Sequence[Unit], told: Told, stop: Callable[[], bool]
    ) -> Iterator[Answered]:
        """Yield what the model says to each unit."""
        for unit in units:
            if stop():
                return
            told(unit, 0.0)
            yield self._answered(unit, partial(told, unit))

    def _answered(self, unit: Unit, progress: Callable[[float], None]) -> Answered:
        began, clock = time.time(), time.perf_counter()
        items = slice(unit.start, unit.stop)
        said = self._asked[unit.task].put(self._model, unit.plans, items, progress)
        return Answered(
            unit=unit.id,
            responses=said.responses,
            truncated=said.truncated,
            began=began,
            seconds=time.perf_counter() - clock,
            host=socket.gethostname(),
            device=device_of(self._model),
        )


def device_of(model: Any) -> str:
    """Return what a model runs on: `cpu`, or a GPU's name."""
    device = getattr(getattr(model, "hf", None), "device", None)
    if device is None:
        return "unknown"
    if device.type == "cuda":
        import torch

        return torch.cuda.get_device_name(device)
    return str(device)
