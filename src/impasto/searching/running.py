"""Running a search from its file or from Python: open the model and the folder, look, confirm."""

import logging
import os
import socket
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from impasto.error import ImpastoError, UserError
from impasto.plan import Plan
from impasto.run import Encoder
from impasto.searching.asking import Asked, until_stopped
from impasto.searching.budget import Budget, read_budget
from impasto.searching.confirming import (
    collapsed,
    compared,
    confirming_study,
    some_of,
)
from impasto.searching.edits import Space
from impasto.searching.file import WrittenSearch
from impasto.searching.finding import Counted, Measured, Search
from impasto.searching.found import Found
from impasto.searching.machine import Machine
from impasto.searching.objective import InOrder, Objective, of_tasks, of_texts
from impasto.searching.sentences import sentences
from impasto.study.database.opening import DATABASE, plainly
from impasto.study.database.searches import (
    begin_search,
    end_search,
    keep_files,
    note_search,
)
from impasto.study.folder.files import check_folder
from impasto.study.folder.journal import unwritten
from impasto.study.folder.lock import check_free
from impasto.study.running.answering import Answering, answering_for
from impasto.study.running.options import Running
from impasto.study.running.place import Place, made_for_a_run, opened
from impasto.study.running.runner import run_study
from impasto.study.work.asking import StudiedModel
from impasto.study.work.counting import cost_of
from impasto.study.work.influence import block_influence
from impasto.tasks import Suite, Task, code_allowed, load_suite
from impasto.tasks.texts import Texts

NOTED = 2.0  # seconds between two notes of how far a search is


def run_search(
    search: WrittenSearch,
    out: Path | None,
    loaded: StudiedModel | None,
    running: Running,
    texts: Texts | None = None,
) -> Found:
    """Run a search and return what it found; with `out` that is also written there.

    `texts` are given ones, in the place of the objective's.

    Raises UserError before anything runs for what cannot, and Stopped (a KeyboardInterrupt) when it
    is interrupted and has saved its work.
    """
    log = unwritten()
    database = None if out is None else out / DATABASE
    if out is not None:
        check_free(out)  # before anything is read or loaded
    with plainly(database), code_allowed(running.allow_code):
        suites = [load_suite(dict(entry.options)) for entry in search.objective if texts is None]
        for entry in search.confirm:
            entry.load()  # what cannot be is said before anything runs
        if texts is not None:
            suites = [Suite((texts,))]
        with ExitStack() as stack:
            if out is not None:
                check_folder(out)
                stack.enter_context(made_for_a_run(out))
            held = stack.enter_context(ExitStack())  # the folder, before a model is loaded
            place = held.enter_context(opened(out, log, running.fresh))
            answering = stack.enter_context(
                answering_for(search, loaded, running, log, running.say)
            )
            suites = [suite.read_by(answering.model) for suite in suites]
            tasks = [task for suite in suites for task in suite.tasks]
            made = _Run(search, tasks, answering, place, running, log, loaded is None)
            found, objective = made.found()
            found = _written(found, place)
            held.close()  # for the study that confirms takes it
            if search.confirm:
                model: Any = answering.model if running.cluster is None else None
                found = _confirmed(search, found, objective, out, model, running)
                with opened(out, log, fresh=False) as place:
                    found = _written(found, place)
    return found


def _written(found: Found, place: Place) -> Found:
    """Return what was found with its sentences, written to the folder and to the database."""
    found = replace(found, sentences=[*sentences(found), *found.sentences])
    if place.out is not None:
        found.write(place.out)
        keep_files(place.connection, found.files())
    return found


@dataclass
class _Run:
    """One run of a search, until it is confirmed."""

    search: WrittenSearch
    tasks: Sequence[Task]
    answering: Answering
    place: Place
    running: Running
    log: logging.Logger
    loaded_here: bool

    def found(self) -> tuple[Found, Objective]:
        """Look, and return what was found and by which objective."""
        search, model = self.search, self.answering.model
        with ExitStack() as stack:
            stack.enter_context(self._noted())
            stop = stack.enter_context(until_stopped(self.running))
            memory = self._machine.memory()
            stack.enter_context(self.answering.allowed(memory))
            asked = self._asked(stop, memory)
            full = Plan.identity(model.num_layers)
            objective = self._objective(asked, full)
            space = Space(model.num_layers, search.moves, search.kept(model.num_layers))  # type: ignore[arg-type]
            self._check_moves(space)
            budget = read_budget(search.budget, model.num_layers, self._machine.measure)
            made = Search(
                objective=objective,
                puts=asked,
                space=space,
                budget=budget,
                method=search.method,
                seed=search.seed,
                references=search.references,
                influence=partial(self._influence, objective),
                counted=Counted(partial(_count, model)),
                times=self._machine.share_of,
                told=partial(self._told, asked),
            ).made()
        return self._as_found(made, objective, budget), objective

    def _check_moves(self, space: Space) -> None:
        """Raise UserError for a move that the model cannot make."""
        model: Any = self.answering.model
        if not hasattr(model, "hf"):
            return  # its workers say so
        from impasto.run.opening import admit

        for move in space.moves:
            for edit in (edit for edit in space.edits if edit.move == move):
                with _naming(f"the move {move} cannot be made on {model.name}"):
                    admit(model._opened, space.plan(frozenset({edit})))

    def _as_found(self, made: Measured, objective: Objective, budget: Budget) -> Found:
        return Found(
            search=self.search.name,
            model=self.answering.model.name,
            layers=self.answering.model.num_layers,
            objective=objective.title,
            unit=objective.unit,
            budget=str(budget),
            method=self.search.method,
            items=objective.items,
            held_out=objective.held_out,
            moves=list(self.search.moves),
            **vars(made),
        )

    def _asked(self, stop: Callable[[], bool], memory: int | None) -> Asked:
        search = self.search
        load = search.load if self.loaded_here else None
        return Asked(
            search.name, search.to_yaml(), self.answering, self.place, self.running, self.log, stop,
            load, memory, self._machine.pace(),
        )  # fmt: skip

    def _objective(self, asked: Asked, full: Plan) -> Objective:
        """Return what the search makes small, its texts read by the model's tokenizer."""
        if self.search.kind == "tasks":
            return of_tasks(self.tasks, asked, full, self.search.seed)
        [task] = self.tasks
        assert isinstance(task, Texts)
        if isinstance(self.answering.model, Encoder):
            raise UserError(
                f"{self.answering.model.name} is an encoder, which predicts no next tokens: make "
                "the loss on tasks small, objective: {tasks: [{name: masked_text, data: FILE}]}"
            )
        longest = getattr(self.answering.model, "max_positions", None)
        if task.length is not None and longest is not None and task.length > longest:
            self.running.say(
                f"{self.answering.model.name} reads {longest} tokens at the most: texts are cut "
                f"into pieces of that length, not of {task.length}"
            )
            task = replace(task, length=longest)
        return of_texts(task, self.search.kind, self.search.seed, self.answering.model)

    def _influence(self, objective: Objective) -> Sequence[float] | None:
        """Return how much each layer changes the states of the texts that choose (ShortGPT).

        None where the model is elsewhere, or the objective is not of texts.
        """
        [part, *others] = objective.parts
        model: Any = self.answering.model
        if others or not hasattr(model, "hf") or not isinstance(part.task, Texts):
            return None
        texts = [list(text.ids) for text in part.task.items[: part.choosing]]
        return block_influence(model, texts, part.task.length)

    @cached_property
    def _machine(self) -> Machine:
        return Machine(self.answering, self.place.connection, self._row, self.running)

    @cached_property
    def _row(self) -> int:
        """The search's row in the database."""
        return begin_search(
            self.place.connection,
            self.search.to_yaml(),
            name=self.search.name,
            model=self.answering.model.name,
            command=self.running.command,
            host=socket.gethostname(),
            pid=os.getpid(),
        )

    @contextmanager
    def _noted(self) -> Iterator[None]:
        """Write down how the search's run ends."""
        outcome = "failed"
        self._last, _ = 0.0, self._row
        try:
            yield
            outcome = "finished"
        except KeyboardInterrupt:
            outcome = "stopped"
            raise
        finally:
            with suppress(sqlite3.Error):  # what went wrong is told already
                end_search(self.place.connection, self._row, outcome)

    def _told(self, asked: Asked, share: float, doing: str, until: float | None = None) -> None:
        """Have what is asked next shown as a part of the whole, and note how far that is."""
        asked.at(share, doing, until)
        now = time.monotonic()
        if now - self._last > NOTED:
            self._last = now
            note_search(self.place.connection, self._row, share, doing, asked.plans)


@contextmanager
def _naming(what: str) -> Iterator[None]:
    """Have an error of the block say what it is about."""
    try:
        yield
    except ImpastoError as error:
        raise UserError(f"{what}: {error}") from None


def _count(
    model: Any, task: Task, plans: Sequence[Plan], begin: int, end: int
) -> tuple[float, float] | None:
    """Return the layer-rows of some items under plans, shared and alone; None where unknown."""
    if not hasattr(model, "hf") or not hasattr(model, "fidelity_cost"):
        return None
    cost = cost_of(model, plans, task.requests(model.tokenizer)[begin:end], None)
    return cost.rows, cost.alone


def _confirmed(
    search: WrittenSearch,
    found: Found,
    objective: Objective,
    out: Path | None,
    model: StudiedModel | None,
    running: Running,
) -> Found:
    """Return what was found with its front put to the tasks that confirm it."""
    plans = some_of([one.plan for one in found.front], found.best.plan, found.full.plan)
    study = confirming_study(search, found.model if model is None else search.model, plans)
    results = run_study(study, out, model, replace(running, fresh=False))
    confirmed = compared(results, plans, _seen(objective))
    chances = {
        row["task"]: row["chance"]
        for row in results.table.to_dict("records")
        if any(one.task == row["task"] and one.metric == row["metric"] for one in confirmed)
    }
    return replace(found, confirmed=confirmed, sentences=list(collapsed(confirmed, chances)))


def _seen(objective: Objective) -> Mapping[str, frozenset[str]]:
    """Return, by task, the items that chose the plans."""
    return {
        part.task.name: frozenset(item.id for item in part.task.items[: part.choosing])
        for part in objective.parts
        if isinstance(part.task, InOrder | Texts)
    }
