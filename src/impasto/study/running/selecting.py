"""Measuring which layers a study's selectors leave out, before its plans are known.

Block influence is read off the model's states on texts; what a layer or a part is worth one by one
is asked as any other question of the study is, so that it is saved and asked once. The study as it
is run then names the layers (`order`), and can be read without the model.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from math import isfinite
from typing import Any

from impasto.error import UserError
from impasto.plan import Plan
from impasto.study.database.opening import transaction
from impasto.study.database.reading import Cells
from impasto.study.database.register import Need, NeededTask, register
from impasto.study.file.entries import PART, PlanEntry, at
from impasto.study.file.study import WrittenStudy
from impasto.study.following.standing import Standing, Standings
from impasto.study.running.answering import Answering
from impasto.study.running.driving import Watch, drive
from impasto.study.running.options import Running
from impasto.study.running.place import Place
from impasto.study.running.recognising import recognised
from impasto.study.running.stopping import stoppable
from impasto.study.work.asking import Asking
from impasto.study.work.identity import engine_identity, task_identity
from impasto.study.work.influence import block_influence
from impasto.study.work.selectors import INFLUENCE, plans_asked, texts_of
from impasto.tasks.texts import PERPLEXITY, Texts

DIGITS = 9  # of a layer's value: what differs less is the same, and goes by the layer's number


@dataclass(frozen=True)
class Selecting:
    """Who is asked which layers go, and where what is said is saved.

    `load` is how the model was loaded; None where the caller had loaded it.
    """

    answering: Answering
    place: Place
    running: Running
    log: logging.Logger
    say: Callable[[str], None]
    load: Mapping[str, Any] | None

    def chosen(self, study: WrittenStudy) -> WrittenStudy:
        """Return the study with the layers that go first in the place of texts.

        Raises StudyError with the place for texts that the model cannot be asked, and Stopped.
        """
        model, entries = self.answering.model, []
        for entry in study.plans:
            if entry.texts is None:
                entries.append(entry)
                continue
            with at(entry.where):
                parts = entry.parts(model.num_layers)
            task = texts_of(entry, model)
            for part in parts:
                order = self._order(study, part, task)
                of = f", {part.choices[PART]}" if PART in part.choices else ""
                self.say(f"{entry.strategy}{of} on {task.title}: layers go in the order {order}")
                entries.append(part.chosen(order))
        return replace(study, plans=tuple(entries))

    def _order(self, study: WrittenStudy, entry: PlanEntry, task: Texts) -> str:
        """Return the layers, those that go first in front."""
        with at(entry.where):
            if entry.strategy == INFLUENCE:
                values = self._influence(entry, task)
            else:
                values = self._harm(study, entry, task)
        layers = sorted(range(len(values)), key=lambda layer: (round(values[layer], DIGITS), layer))
        return " ".join(map(str, layers))

    def _influence(self, entry: PlanEntry, task: Texts) -> Sequence[float]:
        """Return by how much each layer changes states."""
        model: Any = self.answering.model
        if not hasattr(model, "hidden_states"):
            raise UserError(
                f"{entry.strategy} reads a model's states, which workers on a cluster do not send: "
                "run the study once without --cluster (--limit 1 is enough) and take the order "
                'from its study.yaml, order: "7 5 3 …", in the place of texts'
            )
        self.running.progress(Standing(0.0, f"reading states of {task.title}"))
        return block_influence(model, [text.ids for text in task.items], task.length)

    def _harm(self, study: WrittenStudy, entry: PlanEntry, task: Texts) -> Sequence[float]:
        """Return −log p per token of the texts without each layer, or without its part."""
        plans = plans_asked(entry, self.answering.model.num_layers)
        asking = Asking.of(task, self.answering.model.tokenizer, plans)
        need = self._need(study, task, asking, plans)
        connection = self.place.connection
        with transaction(connection):
            registered = register(connection, need)
        if registered.units:
            self._ask(registered.units, registered.cells, {task.name: asking}, task)
        cells = Cells(connection, registered.study)
        return [_harm_of(cells.metrics(task.name, plan.digest)) for plan in plans]

    def _need(
        self, study: WrittenStudy, task: Texts, asking: Asking, plans: Sequence[Plan]
    ) -> Need:
        model, items = self.answering.model, len(task.items)
        needed = [
            NeededTask(task, task_identity(task, asking.requests, False), plans, items, items)
        ]
        return Need(
            name=study.name,
            file=study.to_yaml(),
            model_name=study.model,
            layers=model.num_layers,
            model=recognised(model, self.place.connection, self.load),
            engine=engine_identity(),
            tasks=needed,
            seconds=self.running.save_every,
            workers=self.answering.workers,
            expected=lambda: self.answering.expected(needed, {task.name: asking}),
            memory=self.running.memory,
        )

    def _ask(
        self, units: Sequence[Any], cells: int, asked: Mapping[str, Asking], task: Texts
    ) -> None:
        standings = Standings({task.name: f"choosing layers, {task.title}"}, self.running.progress)
        standings.begin(units, cells)
        told = "stopping after what is running, which is saved; again: at once"
        with ExitStack() as stack:
            stop: Callable[[], bool] = lambda: False  # noqa: E731
            if self.place.out is not None:
                stop = stack.enter_context(stoppable(lambda: self.say(told)))
            watch = Watch(standings, stop, lambda standing: None, self.log)
            drive(self.place.connection, units, self.answering.executor(asked), asked, watch)


def _harm_of(metrics: Any) -> float:
    """Return −log p per token; infinite where one is no number."""
    pairs = [record[PERPLEXITY] for record in metrics]
    log_p, tokens = sum(pair[0] for pair in pairs), sum(pair[1] for pair in pairs)
    return -log_p / tokens if isfinite(log_p) else float("inf")
