"""Running a study: check what can be checked, run what is not there yet, sum up.

What is there is told by content (`identity`), so the same command goes on where a run ended, and an
edited study runs what is new in it.
"""

import logging
import os
import socket
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from time import perf_counter

from impasto.error import UserError, shown
from impasto.plan import Plan, count_of_plans
from impasto.study.database.asked import all_finished, begin_file, end_file
from impasto.study.database.opening import DATABASE, open_to_read, plainly, transaction
from impasto.study.database.precisions import save_precisions
from impasto.study.database.reading import Cells, study_row
from impasto.study.database.register import Need, NeededTask, Registered, register
from impasto.study.database.saving import begin_run, end_run, save_table
from impasto.study.file.entries import LabelledPlan
from impasto.study.file.study import WrittenStudy
from impasto.study.folder.files import check_folder, heads_folder, tidy
from impasto.study.folder.journal import unwritten
from impasto.study.following.noting import noted
from impasto.study.following.standing import Standing, Standings
from impasto.study.following.tracking import Telling, check_tracker, tracked
from impasto.study.results.collecting import Collection
from impasto.study.results.notices import (
    about_items,
    about_others,
    about_precisions,
    about_texts,
    why_new,
)
from impasto.study.results.several import of_all
from impasto.study.results.table import Results, Seconds, read_results
from impasto.study.running.answering import Answering, answering_for
from impasto.study.running.budget import budget
from impasto.study.running.costing import check_model, measure
from impasto.study.running.driving import Watch, drive
from impasto.study.running.models import (
    Turn,
    check_kinds,
    check_taken,
    parts_of,
    release,
)
from impasto.study.running.options import Running
from impasto.study.running.place import Place, made_for_a_run, opened
from impasto.study.running.recognising import recognised
from impasto.study.running.rounds import Rounds
from impasto.study.running.selecting import Selecting
from impasto.study.running.stopping import Stopped, stoppable
from impasto.study.work.asking import Asking, StudiedModel
from impasto.study.work.identity import engine_identity, task_identity, versions
from impasto.study.work.precision import measured
from impasto.study.work.scoring import takes
from impasto.study.work.selectors import is_open
from impasto.tasks import Task, code_allowed


def run_study(
    study: WrittenStudy, out: Path | None, model: str | StudiedModel | None, running: Running
) -> Results:
    """Run a study; see `Study.run`, which this is the body of."""
    check_tracker(running.track)
    if running.bench is not None and running.cluster is not None:
        raise UserError(
            "a plan's cost is that of this machine: run on the cluster first, then the same "
            "command with --bench in the place of --cluster, which answers nothing anew"
        )
    if not (model is None or isinstance(model, str) or hasattr(model, "num_layers")):
        raise UserError(f"model is a name or what impasto.load returns, not {shown(model)}")
    loaded = None if model is None or isinstance(model, str) else model
    name = model if isinstance(model, str) or model is None else model.name
    asked = study.as_run(name, running.limit)
    if loaded is not None:
        asked = replace(asked, load={})  # it is loaded already, whatever the study would do
    log, began = unwritten(), time.time()
    with ExitStack() as stack, plainly(None if out is None else out / DATABASE):
        stack.enter_context(code_allowed(running.allow_code))

        @cache
        def place() -> Place:
            found = stack.enter_context(opened(out, log, running.fresh))
            stack.callback(_end, found.connection, asked)
            for notice in about_others(out, found.connection, asked.name):
                _say(log, running, notice)
            return found

        if out is not None:
            check_folder(out)
            if out.exists():  # so that a folder that cannot be used is told before a model loads
                place()
        parts = parts_of(asked, several=len(study.models) > 1, loaded=loaded)
        check_kinds(parts, running)
        for notice in (notice for part in parts for notice in part.notices()):
            _say(log, running, notice)
        if out is not None:  # so that nobody else loads a model for it meanwhile
            stack.enter_context(made_for_a_run(out))
            place()
        results: list[Results] = []
        for number, part in enumerate(parts, 1):
            turn = Turn(asked, part, number, began, tuple(results))
            here = turn.running(running)
            with turn.stopping(), noted(out, part.study.model, here.progress) as progress:
                here = replace(here, progress=progress)
                results.append(_run_model(turn, loaded, place, log, here))
            if not turn.is_last:
                release()
        if out is not None and all_finished(place().connection, out):
            tidy(out, is_all_done=True)
        return of_all(asked, results)


def _run_model(
    turn: Turn,
    loaded: StudiedModel | None,
    place: Callable[[], Place],
    log: logging.Logger,
    running: Running,
) -> Results:
    """Run what one model of a study takes of it; nothing keeps the model afterwards."""
    study = turn.part.study
    with answering_for(study, loaded, running, log, partial(_say, log, running)) as answering:
        turn = turn.read_by(answering.model)
        if is_open(study):
            load = study.load if loaded is None else None
            say = partial(_say, log, running)
            selecting = Selecting(answering, place(), running, log, say, load)
            study = selecting.chosen(study)
        study = replace(study, plans=tuple(entry.read() for entry in study.plans))
        turn = replace(turn, part=replace(turn.part, study=study))
        plans = study.labelled_plans(answering.model.num_layers)
        check_taken(turn.part.suite, plans)
        if running.bench is not None:
            check_model(answering.model)
        return _Run(turn, plans, answering, place(), log, running, loaded is None).results()


def _say(log: logging.Logger, running: Running, notice: str) -> None:
    log.info(notice)
    running.say(notice)


class _Run:
    """One run of a study on one model."""

    def __init__(
        self,
        turn: Turn,
        plans: Sequence[LabelledPlan],
        answering: Answering,
        place: Place,
        log: logging.Logger,
        running: Running,
        loaded_here: bool,
    ) -> None:
        study, suite = turn.part.study, turn.part.suite
        self._turn, self._study, self._suite, self._plans = turn, study, suite, plans
        self._answering, self._place = answering, place
        self._log, self._running = log, running
        self._say = partial(_say, log, running)
        model = answering.model
        unique = list({labelled.plan.digest: labelled.plan for labelled in plans}.values())
        taken = {task.name: [p for p in unique if takes(task, p)] for task in suite.tasks}
        self._asked = {
            task.name: Asking.of(task, model.tokenizer, taken[task.name]) for task in suite.tasks
        }
        in_rounds = {task.name for one in measured(suite) for task in one.tasks}
        tasks = [self._needed(t, taken[t.name], t.name in in_rounds) for t in suite.tasks]
        self._rounds = Rounds(suite, unique, tasks)
        self._need = Need(
            name=study.name,
            file=study.to_yaml(),
            model_name=study.model,
            layers=model.num_layers,
            model=recognised(model, place.connection, study.load if loaded_here else None),
            engine=engine_identity(),
            tasks=self._rounds.needed,
            seconds=running.save_every,
            workers=answering.workers,
            expected=cache(lambda: answering.expected(self._need.tasks, self._asked)),
            memory=None,
        )
        if place.out is not None:
            need = self._need
            keep = heads_folder(place.out, need.model.digest, need.engine.digest)
            self._asked = {name: replace(one, keep=keep) for name, one in self._asked.items()}

    def _needed(self, task: Task, plans: Sequence[Plan], in_rounds: bool) -> NeededTask:
        identity = task_identity(task, self._asked[task.name].requests, in_rounds)
        return NeededTask(task, identity, plans, len(task.items), len(task.items))

    def results(self) -> Results:
        """Run what is not there yet, and return what the study comes to."""
        for notice in about_texts(self._answering.model, self._asked.values()):
            self._say(notice)
        before = study_row(self._place.connection, self._need.digest)
        own = self._running.memory or getattr(self._answering.model, "memory", None)
        memory, notice = budget(
            self._answering.free, own, None if before is None else before.memory
        )
        if notice:
            self._say(notice)
        self._need = replace(self._need, memory=memory)
        with self._answering.allowed(memory):
            registered = self._registered()
            turn, connection = self._turn, self._place.connection
            begin_file(connection, turn.study, turn.began, self._study.model, registered.study)
            run = begin_run(
                self._place.connection,
                registered.study,
                command=self._running.command,
                versions=versions(),
                host=socket.gethostname(),
                pid=os.getpid(),
            )
            outcome = "failed"
            try:
                with self._telling() as telling:
                    seconds = self._driven(registered, telling)
                    self._measured(registered.study)
                    results = self._collected(registered.study)
                    telling.table(results.table)
                self._check_stop()
                outcome = "finished"
            except KeyboardInterrupt:
                outcome = "stopped"
                raise
            finally:
                self._log.info("run %d %s", run, outcome)
                with suppress(sqlite3.Error):  # what went wrong is told already
                    end_run(self._place.connection, run, outcome)
        return replace(results, seconds=seconds)

    def _telling(self) -> AbstractContextManager[Telling]:
        """Return what tells the tracker, if there is one."""
        about = {"study": self._study.name, "model": self._study.model, **self._need.model.parts}
        folder = self._place.out or Path()
        part = self._turn.slug
        return tracked(self._running.track, self._study.name, about, folder, self._say, part)

    def _registered(self) -> Registered:
        """Write down what the study needs, as far as that is known before it runs, and say so."""
        registered, fresh = self._next_round()
        left = sum(len(unit.plans) for unit in registered.units)
        plans = count_of_plans(len(self._plans), len({p.plan.digest for p in self._plans}))
        self._log.info(
            "%s: %s, %d cells, %d of them to run, in %d units; model %s; %s",
            self._need.name, plans, registered.cells, left, len(registered.units),
            self._need.model.digest[:12], self._running.command,
        )  # fmt: skip
        for notice in why_new(self._place.connection, self._need, fresh):
            self._say(notice)
        if registered.cells - left > 0:
            self._say(f"{registered.cells - left} of {registered.cells} cells are there already")
        return registered

    def _next_round(self) -> tuple[Registered, Mapping[str, int]]:
        """Write down what is asked now: what is not answered yet, else the next round.

        It has no units where nothing more is to be asked. Also returns how many cells of each task
        were new in what was written down first.
        """
        connection = self._place.connection
        fresh: Mapping[str, int] | None = None
        with transaction(connection):
            while True:
                registered = register(connection, replace(self._need, tasks=self._rounds.needed))
                fresh = registered.fresh if fresh is None else fresh
                cells = Cells(connection, registered.study)
                if registered.units or not self._rounds.grow(cells):
                    save_precisions(connection, registered.study, self._rounds.reached)
                    return registered, fresh

    def _driven(self, registered: Registered, telling: Telling) -> Seconds:
        """Have all units answered; return how long that was to take, and took."""
        begin, expected = perf_counter(), []
        titles = {task.name: task.title for task in self._suite.tasks}
        standings = Standings(titles, self._running.progress)
        told = "stopping after what is running, which is saved; again: at once"
        with ExitStack() as stack:
            stop: Callable[[], bool] = lambda: False  # noqa: E731
            if self._place.out is not None:  # else there is nothing to save: it ends at once
                stop = stack.enter_context(stoppable(partial(self._say, told)))
            watch = Watch(standings, stop, telling.standing, self._log)
            executor = self._answering.executor(self._asked)
            while registered.units:
                expected += [unit.expected for unit in registered.units]
                later = sum(reached.later for reached in self._rounds.reached)
                standings.begin(registered.units, registered.cells, later)
                drive(self._place.connection, registered.units, executor, self._asked, watch)
                registered, _ = self._next_round()
            self._was_stopped = stop()
        standings.done(registered.cells)
        known = None if None in expected else sum(e for e in expected if e is not None)
        return Seconds(known, perf_counter() - begin)

    def _check_stop(self) -> None:
        """Raise Stopped where somebody asked to stop and other models are still to come."""
        if self._was_stopped and not self._turn.is_last:
            raise Stopped("finished and saved; the models after it are still to come")

    def _measured(self, study: int) -> None:
        """Time every plan and keep what it costs, where that was asked for."""
        if self._running.bench is None:
            return

        def show(share: float) -> None:
            self._running.progress(Standing(share, "timing the plans"))

        plans = [labelled.plan for labelled in self._plans]
        model = check_model(self._answering.model)
        connection, sequences = self._place.connection, self._running.bench
        if not measure(connection, study, model, plans, sequences, show):
            self._say("what the plans cost was measured before and is there already")

    def _collected(self, study: int) -> Results:
        """Sum up what was saved, save that too, and return it."""
        connection, out = self._place.connection, self._place.out
        data = {needed.task.name: needed.identity.digest for needed in self._need.tasks}
        found = Collection(self._suite, self._plans, Cells(connection, study), data)
        save_table(connection, study, found.rows())
        row = study_row(connection, self._need.digest)
        assert row is not None
        connect: Callable[[], sqlite3.Connection] = lambda: connection  # noqa: E731
        if out is not None:
            connect = partial(open_to_read, out / DATABASE)
        results = read_results(connection, row, connect)
        whole = self._turn.whole(results)
        if out is not None and whole is not None:
            whole.write(out)
        for notice in (*about_precisions(results), *about_items(results.table)):
            self._say(notice)
        return results


def _end(connection: sqlite3.Connection, asked: WrittenStudy) -> None:
    """Write down that the run of a study is over."""
    with suppress(sqlite3.Error):  # what went wrong is told already
        end_file(connection, asked)
