"""A study that ends early keeps what it had saved, asks the rest, and ends with the same table."""

import errno
import os
import shutil
import signal
import sqlite3
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
import pytest

from impasto.analysis import comparisons, findings
from impasto.error import UserError
from impasto.study import Results, Stopped, Study
from impasto.study.database import opening
from impasto.study.folder.lock import only_writer
from impasto.study.following.status import status
from impasto.study.running import answering, place
from older_form import FORM, form_of, made_older

TEXT = """\
model: m
tasks: [{name: capitals, limit: 40}, {name: arithmetic, terms: 2, limit: 32}]
plans: [freeze: {k: all}, inject: {k: [0, 4]}]
"""
UNITS, PLANS = 8, 8  # four shards of each task; the baseline, five depths, two injections
CELLS = UNITS * PLANS


@pytest.fixture
def study(monkeypatch):
    """Return a study that runs as eight units, four of each task."""
    tasks = {"capitals": 100.0, "arithmetic-2": 100.0}
    monkeypatch.setattr(answering, "expected_seconds", lambda *given: tasks)
    read = Study.from_text(TEXT, name="mine")
    return lambda model, out=None, **more: read.run(out, model=model, save_every=25.0, **more)


@dataclass
class After:
    """Does something once a model was asked so many times."""

    model: Any
    calls: int
    act: Callable[[], object]
    asked: list = field(default_factory=list)

    def __getattr__(self, name):
        return getattr(self.model, name)

    def generate(self, plans, prompts, *given, **more):
        self.asked.append((len(plans), prompts[0]))
        if len(self.asked) == self.calls:
            self.act()
        return self.model.generate(plans, prompts, *given, **more)


def crash():
    raise RuntimeError("the power went")


def interrupt():
    os.kill(os.getpid(), signal.SIGINT)


def same(found, whole):
    pd.testing.assert_frame_equal(found.table, whole.table, check_exact=True)
    return list(found.answers) == list(whole.answers)


@pytest.mark.parametrize("calls", [1, 3, UNITS])
def test_a_run_that_died_goes_on_where_it_was_and_ends_as_an_undisturbed_one(
    calls, study, model, tmp_path
):
    whole = study(model, tmp_path / "whole")
    dies, goes_on = After(model, calls, crash), After(model, 99, crash)
    with pytest.raises(RuntimeError, match="power"):
        study(dies, tmp_path / "out")
    assert status(tmp_path / "out").cells == PLANS * (calls - 1)
    assert status(tmp_path / "out").state == "failed"
    results = study(goes_on, tmp_path / "out")
    assert len(goes_on.asked) == UNITS - calls + 1
    assert set(dies.asked[:-1]) & set(goes_on.asked) == set()
    assert dies.asked[-1] == goes_on.asked[0]  # the same call of the engine
    assert same(results, whole)
    assert same(Results.read(tmp_path / "out"), whole)


def test_a_shard_is_there_with_all_its_cells_or_not_at_all(study, model, tmp_path, monkeypatch):
    from impasto.study.database import saving

    encoded, left = saving.encoded, [PLANS * 10 + 5]  # in the middle of the second unit

    def dies(record):
        left[0] -= 1
        if not left[0]:
            crash()
        return encoded(record)

    monkeypatch.setattr(saving, "encoded", dies)
    with pytest.raises(RuntimeError, match="power"):
        study(model, tmp_path)
    database = sqlite3.connect(tmp_path / "results.sqlite")
    assert database.execute("SELECT count(finished) FROM cells").fetchone() == (PLANS,)
    assert database.execute("SELECT count(*) FROM records").fetchone() == (PLANS * 10,)


def test_an_interrupt_finishes_what_is_running_saves_it_and_stops(study, model, tmp_path):
    said = []
    with pytest.raises(Stopped, match=f"{2 * PLANS} of {CELLS} cells are saved"):
        study(After(model, 2, interrupt), tmp_path, say=said.append)
    assert any("stopping after what is running" in notice for notice in said)
    assert status(tmp_path).state == "stopped"
    goes_on = After(model, 99, crash)
    study(goes_on, tmp_path)
    assert len(goes_on.asked) == UNITS - 2


@pytest.fixture
def heard(number):
    """Have a signal heard also where the tests themselves run under nohup."""
    before = signal.signal(number, signal.SIG_DFL)
    yield
    signal.signal(number, before)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_scheduler_and_a_closed_terminal_stop_it_as_an_interrupt(
    number, study, model, tmp_path, heard
):
    before = signal.getsignal(number)

    def end():
        for _ in range(2 if number == signal.SIGHUP else 1):  # a terminal may send several
            os.kill(os.getpid(), number)

    with pytest.raises(Stopped, match=f"{2 * PLANS} of {CELLS} cells are saved"):
        study(After(model, 2, end), tmp_path)
    assert status(tmp_path).state == "stopped"
    assert signal.getsignal(number) is before


def test_what_was_to_be_ignored_from_outside_is(study, model, tmp_path):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup has it
    try:
        study(After(model, 2, lambda: os.kill(os.getpid(), signal.SIGHUP)), tmp_path)
    finally:
        signal.signal(signal.SIGHUP, before)
    assert status(tmp_path).state == "finished"


def test_the_next_run_removes_what_a_killed_one_left(study, model, tmp_path):
    heads = tmp_path / "heads" / "0123"
    (heads / "sst2-ab.training").mkdir(parents=True)
    (heads / "sst2-ab").mkdir()
    (heads / "rte-cd.training").mkdir()
    for name in (".results.csv.4194305.part", ".study.yaml.4194305.part"):  # of no process
        (tmp_path / name).write_text("half")
    with pytest.raises(Stopped):
        study(After(model, 1, interrupt), tmp_path)
    assert not list(tmp_path.glob(".*.part"))
    assert {path.name for path in heads.iterdir()} == {"sst2-ab", "rte-cd.training"}
    study(model, tmp_path)  # now that all is finished, no training is to go on
    assert {path.name for path in heads.iterdir()} == {"sst2-ab"}


def test_a_file_system_without_locks_is_told_in_our_words(study, model, tmp_path, monkeypatch):
    def none(*given):
        raise OSError(errno.ENOSYS, "not implemented")

    monkeypatch.setattr("fcntl.flock", none)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        study(model, tmp_path)
    messages = [str(each.message) for each in told if "lock" in str(each.message).lower()]
    assert len(messages) == 1
    assert "has no locks, so a file marks" in messages[0]
    study(model, tmp_path)  # nothing is left to clear away


def test_a_second_interrupt_stops_at_once_and_keeps_what_was_saved(study, model, tmp_path):
    def twice():
        interrupt()
        interrupt()

    with pytest.raises(KeyboardInterrupt) as raised:
        study(After(model, 3, twice), tmp_path)
    assert not isinstance(raised.value, Stopped)
    assert status(tmp_path).cells == 2 * PLANS


def test_interrupts_are_pythons_own_again_afterwards(study, model, tmp_path):
    before = signal.getsignal(signal.SIGINT)
    study(model, tmp_path)
    assert signal.getsignal(signal.SIGINT) is before


def test_a_folder_has_one_writer_and_a_second_is_told_who(study, model, tmp_path):
    with only_writer(tmp_path), pytest.raises(UserError, match=f"process {os.getpid()} on"):
        study(model, tmp_path)
    study(model, tmp_path)  # nothing is left to clear away


def test_a_viewer_reads_while_a_study_runs(study, model, tmp_path):
    seen = []
    study(After(model, 4, lambda: seen.append(status(tmp_path))), tmp_path)
    [found] = seen
    assert (found.state, found.cells, found.of) == ("running", 3 * PLANS, CELLS)
    assert found.tasks == {"capitals": (24, 32), "arithmetic-2": (0, 32)}
    [of_model] = found.models
    assert (of_model.entries, of_model.plans) == (PLANS, PLANS)
    assert next(found.lines()) == f"study    mine, model fake, {PLANS} plans"


def test_a_full_disk_is_told_and_what_was_saved_is_intact(study, model, tmp_path, monkeypatch):
    dies = After(model, 4, crash)
    with pytest.raises(RuntimeError):
        study(dies, tmp_path)
    before = status(tmp_path).cells
    connect = opening.open_to_write

    def full(path):
        connection = connect(path)
        connection.execute("PRAGMA max_page_count = 1")  # no page more than it has
        return connection

    monkeypatch.setattr(place, "open_to_write", full)
    with pytest.raises(UserError, match="the disk is full") as raised:
        study(model, tmp_path)
    assert "is intact" in str(raised.value)
    monkeypatch.undo()
    assert status(tmp_path).cells >= before


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("PRAGMA user_version = 99", r"written by a newer impasto \(form 99; this one knows"),
        ("PRAGMA application_id = 5", "database of another program"),
        (None, "damaged or no database"),
    ],
)
def test_a_database_that_is_none_of_ours_is_refused_and_left_alone(
    damage, message, study, model, tmp_path
):
    study(model, tmp_path)
    path = tmp_path / "results.sqlite"
    if damage:
        database = sqlite3.connect(path)
        database.execute(damage)
        database.close()
    else:
        path.write_bytes(path.read_bytes()[:4096][::-1])
    before = path.read_bytes()
    model.calls.clear()
    for use in (lambda: study(model, tmp_path), lambda: status(tmp_path)):
        with pytest.raises(UserError, match=message):
            use()
    assert path.read_bytes() == before
    assert model.calls == []


def test_a_database_of_an_older_form_is_brought_up_to_date_and_keeps_its_answers(
    study, model, tmp_path
):
    whole = study(model, tmp_path / "new")
    old = tmp_path / "old"
    shutil.copytree(tmp_path / "new", old)
    made_older(old)
    assert same(Results.read(old), whole)
    assert form_of(old) == FORM
    idle = After(model, 1, crash)
    assert same(study(idle, old), whole)
    assert idle.asked == []
    assert form_of(old) > FORM
    database = sqlite3.connect(old / "results.sqlite")
    assert database.execute("PRAGMA foreign_key_check").fetchall() == []
    database.execute("PRAGMA foreign_keys = ON")
    database.execute("DELETE FROM shards")  # its cells still go with it
    assert database.execute("SELECT count(*) FROM cells").fetchone() == (0,)


def test_fresh_throws_away_what_was_there(study, model, tmp_path):
    study(model, tmp_path)
    again = After(model, 99, crash)
    study(again, tmp_path, fresh=True)
    assert len(again.asked) == UNITS


def test_scores_that_are_no_numbers_are_kept_counted_and_told_and_no_mean_is_made(model, tmp_path):
    from impasto.tasks import capitals

    said = []
    task = Scored(capitals(limit=4))
    study = Study.from_text("model: m\ntasks: [capitals]\nplans: [freeze: {k: 1}]\n", name="mine")
    object.__setattr__(study, "tasks", (Entry(task),))
    scores: Any = Scores(model)
    results = study.run(tmp_path, model=scores, say=said.append)
    frame = results.table.set_index("strategy")
    assert frame.loc["baseline", ["value", "not_finite"]].tolist() == [1.0, 0]
    assert pd.isna(frame.loc["freeze", "value"])
    assert (frame.loc["freeze", "n"], frame.loc["freeze", "not_finite"]) == (4, 2)
    assert said == [
        "scored under 0 freeze 1-3: 2 of 4 items have a score that is no finite number, so the "
        "plan has no value there"
    ]
    [finding] = findings(results.table)
    assert "cannot be judged: some scores are no finite numbers" in finding
    compared = comparisons(results.table, results.answers)
    assert list(compared["strategy"]) == []
    kept = [r["responses"][0][0] for r in Results.read(tmp_path).answers if "freeze" in r["plan"]]
    assert [str(score) for score in kept] == ["nan", "-1.0", "-inf", "-1.0"]


class Entry:
    """A study's entry for a task that only these tests have."""

    def __init__(self, task):
        self._task, self.where = task, ""

    def limited(self, limit):
        return self

    def load(self):
        from impasto.tasks import Suite

        return Suite((self._task,))

    def written(self):
        return "capitals"


class Scored:
    """A task that asks how likely something is, and takes any answer for right."""

    name, title, part_of, digest = "scored", "Scored", "", "d"

    def __init__(self, task):
        self.items = task.items

    def requests(self, tokenizer=None):
        from impasto.tasks import LogLikelihood

        return [(LogLikelihood(item.prompt, item.answer),) for item in self.items]

    def judge(self, item, responses):
        return {"acc": 1.0}  # as a choice among scores that are not numbers would be

    def aggregate(self, metric, values):
        from impasto.tasks.task import mean

        return mean(values)

    def chance(self, metric):
        return 0.0


class Scores:
    """A model whose scores break down under any plan but the baseline."""

    def __init__(self, model):
        self._model = model

    def __getattr__(self, name):
        return getattr(self._model, name)

    def loglikelihood(self, plans, requests, donors=None, progress=None):
        broken = [float("nan"), -1.0, float("-inf"), -1.0]
        return [
            [(score if plan.markers else -1.0, True) for score in broken[: len(requests)]]
            for plan in plans
        ]
