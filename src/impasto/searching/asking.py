"""Putting a search's items to plans as a study puts its own.

Every round is a round of one study that is asked more and more: what was said is saved as it comes,
cells that are there are not asked again, and workers on a cluster answer as they do for any study.
So a search that is run again finds all that it had asked before, and goes the same way.
"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any

from impasto.plan import Plan
from impasto.run import Pace
from impasto.study.database.opening import transaction
from impasto.study.database.reading import Cells
from impasto.study.database.register import Need, NeededTask, register
from impasto.study.following.standing import Standing, Standings
from impasto.study.running.answering import Answering
from impasto.study.running.driving import Watch, drive
from impasto.study.running.estimate import asking_cost
from impasto.study.running.options import Running
from impasto.study.running.place import Place
from impasto.study.running.recognising import recognised
from impasto.study.running.stopping import Stopped, stoppable
from impasto.study.work.asking import Asking
from impasto.study.work.identity import Identity, engine_identity, task_identity
from impasto.tasks import Task

Metrics = Mapping[str, Any]


@dataclass(frozen=True)
class Asked:
    """Who answers a search's items, and where what they say is saved.

    Attributes:
        name: What the search is called.
        file: The search as YAML, which tells it from others.
        answering: Who answers.
        place: Where it is saved.
        running: How it is run.
        load: How the model was loaded; None where the caller had loaded it.
        memory: The bytes that a batch may take.
        pace: The pace by which work is divided; None where nobody knows.
    """

    name: str
    file: str
    answering: Answering
    place: Place
    running: Running
    log: logging.Logger
    stop: Callable[[], bool]
    load: Mapping[str, Any] | None = None
    memory: int | None = None
    pace: Pace | None = None
    _at: list[Any] = field(default_factory=lambda: [0.0, "beginning", None])  # see `at`
    _plans: set[str] = field(default_factory=set)
    _asked: dict[str, Asking] = field(default_factory=dict)
    _identities: dict[str, Identity] = field(default_factory=dict)

    @property
    def plans(self) -> int:
        """How many plans were asked anything."""
        return len(self._plans)

    def at(self, share: float, doing: str, until: float | None = None) -> None:
        """Hear how much of the whole is done, and what it is at; see `methods.Told`."""
        self._at[:] = [share, doing, until]
        self._show(Standing(0.0, doing))

    def put(self, task: Task, plans: Sequence[Plan], count: int) -> list[list[Metrics]]:
        """Return, by plan, the metrics of a task's first so many items.

        Raises Stopped where somebody asks to stop; what was answered is saved.
        """
        if self.stop():
            raise Stopped(f"{self.plans} plans were asked, which is saved")
        self._plans.update(plan.digest for plan in plans)
        need = self._need(task, plans, count)
        connection = self.place.connection
        with transaction(connection):
            registered = register(connection, need)
        if registered.units:
            standings = Standings({task.name: task.title}, self._show)
            standings.begin(registered.units, registered.cells)
            watch = Watch(standings, self.stop, lambda standing: None, self.log)
            executor = self.answering.executor(self._asked)
            drive(connection, registered.units, executor, self._asked, watch)
        cells = Cells(connection, registered.study)
        return [list[Metrics](cells.metrics(task.name, plan.digest))[:count] for plan in plans]

    def _show(self, standing: Standing) -> None:
        """Show what is asked as a part of the whole search."""
        share, doing, until = self._at
        if until is not None:
            share += (until - share) * standing.share
        detail = f"{self.plans} plans so far"
        self.running.progress(
            replace(standing, share=share, doing=doing, detail=detail, cells=0, of=0)
        )

    def _need(self, task: Task, plans: Sequence[Plan], count: int) -> Need:
        model = self.answering.model
        if task.name not in self._asked:
            self._asked[task.name] = Asking.of(task, model.tokenizer, plans)
            requests = self._asked[task.name].requests
            self._identities[task.name] = task_identity(task, requests, in_rounds=True)
        needed = NeededTask(task, self._identities[task.name], plans, count, len(task.items))
        return Need(
            name=self.name,
            file=self.file,
            model_name=model.name,
            layers=model.num_layers,
            model=self._model,
            engine=engine_identity(),
            tasks=[needed],
            seconds=self.running.save_every,
            workers=self.answering.workers,
            expected=partial(self._expected, needed),
            memory=self.memory,
        )

    def _expected(self, needed: NeededTask) -> Mapping[str, float | None]:
        """Return how long a task takes, by a pace that is the same in every run."""
        if self.pace is None:
            return self.answering.expected([needed], self._asked)
        model: Any = self.answering.model
        asking = self._asked[needed.task.name]
        cost = asking_cost(model, asking, needed.plans, needed.most)
        return {needed.task.name: cost.seconds(self.pace)}

    @cached_property
    def _model(self) -> Identity:
        return recognised(self.answering.model, self.place.connection, self.load)


@contextmanager
def until_stopped(running: Running) -> Iterator[Callable[[], bool]]:
    """Give what says whether somebody asked to stop in the block."""
    told = "stopping after what is running, which is saved; again: at once"
    with stoppable(lambda: running.say(told)) as stop:
        yield stop
