"""A study on workers ends as in one process, whatever becomes of them.

The workers are `fake_workers`; test_ray.py has real ones.
"""

import os
import signal
from dataclasses import replace

import pandas as pd
import pytest

from fake_workers import PATIENCE, FakePool, Fault, begun, hello
from impasto.engine_version import ENGINE
from impasto.error import ImpastoError, UserError
from impasto.plan.cost import Experts, LayerShape, Shape
from impasto.study import Cluster, Results, Stopped, Study
from impasto.study.cluster.crew import Crew
from impasto.study.cluster.joining import Order
from impasto.study.following.status import status

TEXT = """\
model: fake
tasks: [{name: capitals, limit: 32}, {name: arithmetic, terms: 2, limit: 32}]
plans: [freeze: {k: [0, 3]}, inject: {k: [0, 3]}]
"""
PLANS, UNITS = 5, 8
LIBRARIES = {name: part for name, part in hello(2)["engine"].items() if name != ENGINE}
OF_BEFORE = hello(2) | {"engine": {"impasto's code": "f" * 64, **LIBRARIES}}
CELLS = PLANS * UNITS


@pytest.fixture
def study():
    return Study.from_text(TEXT, name="crewed")


@pytest.fixture
def whole(study, model):
    return study.run(model=model)


def same(found, whole):
    """Say whether two results are the same but for what their models are told by."""
    told = ["weights"]
    ours, theirs = (each.table.drop(columns=told) for each in (found, whole))
    pd.testing.assert_frame_equal(ours, theirs, check_exact=True)
    plain = [list(each.answers) for each in (found, whole)]
    keys = [sorted(map(str, answers)) for answers in plain]
    return keys[0] == keys[1]


def units_asked(pool):
    return sorted(unit for _, unit in pool.asked)


def test_the_table_and_the_answers_are_those_of_one_process(study, model, whole, run_on, tmp_path):
    pool = FakePool(model)
    results = run_on(study, pool, tmp_path)
    assert same(results, whole)
    assert same(Results.read(tmp_path), whole)
    assert units_asked(pool) == sorted(set(units_asked(pool)))
    assert len(pool.asked) == UNITS
    assert {worker for worker, _ in pool.asked} == {1, 2}
    assert pool.closed


def test_workers_ask_to_a_precision_what_one_process_asks_also_where_some_are_gone(
    wavering, run_on, tmp_path
):
    text = (
        "model: fake\ntasks: [{name: capitals, limit: {within: 7%}}]\n"
        'plans: ["0-2 freeze 3", "0-1 freeze 2-3", {inject: {k: 1}}]\n'
    )
    study = Study.from_text(text, name="crewed")
    whole = study.run(model=wavering())
    slow = Fault("answer", 1, "slow", seconds=18)  # overtaken, and at it as the next round begins
    pool = FakePool(wavering(), {1: [slow], 2: [Fault("answer", 2, "dies")]})
    results = run_on(study, pool, tmp_path, workers=3)
    assert same(results, whole)
    assert same(Results.read(tmp_path), whole)
    assert results.precisions == whole.precisions
    assert 100 < results.precisions[0].asked < 194
    assert pool.started == 4
    assert len(set(units_asked(pool))) > 4


@pytest.mark.parametrize("how", ["dies", "never", "stuck"])
@pytest.mark.parametrize("nth", [1, 3])
def test_a_worker_that_dies_or_hangs_is_replaced_and_its_unit_runs_again(
    how, nth, study, model, whole, run_on
):
    said, pool = [], FakePool(model, {2: [Fault("answer", nth, how)]})
    results = run_on(study, pool, say=said.append, patience=replace(PATIENCE, late=1e9))
    assert same(results, whole)
    assert pool.started == 3
    assert 2 not in pool.alive
    [gone] = [notice for notice in said if "is gone" in notice]
    assert "host2 (process 102)" in gone
    assert "runs again" in gone


def test_a_worker_that_is_late_is_overtaken_by_one_that_is_free(study, model, whole, run_on):
    pool = FakePool(model, {2: [Fault("answer", 2, "slow", seconds=90)]})
    results = run_on(study, pool)
    assert same(results, whole)
    assert pool.started == 2
    assert pool.now < 60
    assert len(pool.asked) == UNITS + 1
    assert len(set(units_asked(pool))) == UNITS


def test_the_answer_of_the_overtaken_is_not_saved_again(study, model, whole, run_on, tmp_path):
    slow = [Fault("answer", 2, "slow", seconds=14)]  # overtaken, and ready before the end
    pool = FakePool(model, {2: slow}, lasts=5.0)
    assert same(run_on(study, pool, tmp_path), whole)


def test_a_worker_that_is_gone_while_the_costs_are_counted_is_asked_no_more(
    study, model, whole, run_on
):
    pool = FakePool(model, {1: [Fault("expected")]})
    assert same(run_on(study, pool), whole)
    assert pool.counts[2, "expected"] + pool.counts.get((3, "expected"), 0) == 1


@pytest.mark.parametrize(
    ("call", "reply", "told"),
    [
        ("hello", hello(2, torch="1.0"), "torch is 1.0 there"),
        ("hello", hello(2, **{ENGINE: "2"}), "(impasto's engine is 2 there and 1 here)"),
        ("hello", OF_BEFORE, "(impasto's engine is missing there and 1 here)"),
        (
            "hello",
            hello(2) | {"versions": {"impasto": "9.9"}},
            "(impasto is 9.9 there and 0.1.0 here)",
        ),
        ("begin", "weights", "other weights"),
        ("begin", {"refused": "its machine has 1 GiB free"}, "its machine has 1 GiB free"),
    ],
)
def test_a_worker_of_another_kind_is_refused_and_the_others_go_on(
    call, reply, told, study, model, whole, run_on
):
    if reply == "weights":
        reply = begun(model, weights="others")
    said = []
    pool = FakePool(model, {2: [Fault(call, 1, "says", reply, seconds=1)]})
    assert same(run_on(study, pool, say=said.append), whole)
    assert pool.started == 2
    assert {worker for worker, _ in pool.asked} == {1}
    [refused] = [notice for notice in said if "refused" in notice]
    assert "host2" in refused
    assert told in refused


def test_what_a_library_was_built_for_makes_no_other_version(study, model, whole, run_on):
    there = hello(2)["engine"]["torch"].partition("+")[0] + "+cu999"
    pool = FakePool(model, {2: [Fault("hello", 1, "says", hello(2, torch=there))]})
    assert same(run_on(study, pool), whole)
    assert {worker for worker, _ in pool.asked} == {1, 2}


def test_other_code_of_the_same_engine_makes_no_other_version(study, model, whole, run_on):
    told = {"versions": {**hello(2)["versions"], "code": "f" * 16}}
    pool = FakePool(model, {2: [Fault("hello", 1, "says", hello(2) | told)]})
    assert same(run_on(study, pool), whole)
    assert {worker for worker, _ in pool.asked} == {1, 2}


def test_where_all_workers_are_refused_the_message_says_why(study, model, run_on, tmp_path):
    replies = {
        1: [Fault("hello", 1, "says", hello(1, torch="1.0"))],
        2: [Fault("begin", 1, "says", {"refused": "its machine has 1 GiB free"})],
    }
    with pytest.raises(UserError) as raised:
        run_on(study, FakePool(model, replies), tmp_path / "out")
    message = str(raised.value)
    assert "no worker can be used" in message
    assert "host1 (process 101) is refused: it has another version, impasto 0.1.0" in message
    assert "host2 (process 102) is refused: its machine has 1 GiB free" in message
    assert not (tmp_path / "out").exists()


def test_workers_that_all_end_as_they_begin_end_the_run(study, model, run_on):
    faults = {number: [Fault("begin")] for number in range(1, 9)}
    with pytest.raises(UserError, match="ended as it began: its process was killed"):
        run_on(study, FakePool(model, faults))


def test_a_worker_that_ends_as_it_begins_is_replaced(study, model, whole, run_on):
    pool = FakePool(model, {1: [Fault("hello")], 3: [Fault("begin")]})
    assert same(run_on(study, pool), whole)
    assert pool.started == 4


def test_a_unit_that_ends_every_worker_ends_the_run_and_the_rest_is_saved(
    study, model, run_on, tmp_path
):
    faults = {number: [Fault("answer", 1)] for number in (2, 3, 4)}
    said = []
    with pytest.raises(UserError) as raised:
        run_on(study, FakePool(model, faults), tmp_path, say=said.append)
    assert "3 workers in a row ended at" in str(raised.value)
    assert "under 5 plans (its process was killed)" in str(raised.value)
    assert 0 < status(tmp_path).cells < CELLS


def test_a_cluster_without_room_is_waited_for_and_then_given_up(study, model, run_on):
    said = []
    with pytest.raises(
        UserError, match=r"no worker has started for 50\d s.*\(1 CPU, 0\.00 GiB of memory\)"
    ):
        run_on(study, FakePool(model, room=0), say=said.append)
    [notice] = said
    assert notice.startswith("no worker has started yet: is there room for one (1 CPU, ")


def test_workers_that_have_no_room_are_not_waited_for(study, model, whole, run_on):
    pool = FakePool(model, room=1)
    assert same(run_on(study, pool, workers=3), whole)
    assert {worker for worker, _ in pool.asked} == {1}


@pytest.mark.parametrize("after", [1, 3, 6])
def test_an_interrupt_saves_what_is_running_and_the_next_run_asks_the_rest(
    after, study, model, whole, run_on, tmp_path
):
    told = []

    def interrupt(standing):
        told.append(standing)
        if standing.cells == after * PLANS and not any(t is None for t in told):
            told.append(None)
            os.kill(os.getpid(), signal.SIGINT)

    first, second = FakePool(model), FakePool(model)
    with pytest.raises(Stopped) as raised:
        run_on(study, first, tmp_path, progress=interrupt)
    saved = min(after + 1, UNITS) * PLANS  # what the other worker was at, too
    assert str(raised.value) == f"{saved} of {CELLS} cells are saved"
    assert len(first.asked) * PLANS == saved
    assert first.closed
    assert same(run_on(study, second, tmp_path), whole)
    assert set(units_asked(first)).isdisjoint(units_asked(second))
    assert len(first.asked) + len(second.asked) == UNITS


def test_a_user_s_mistake_in_a_unit_ends_the_run_with_its_message(study, model, run_on):
    pool = FakePool(model, {1: [Fault("answer", 2, "says", {"refused": "allow more memory"})]})
    with pytest.raises(UserError, match="allow more memory"):
        run_on(study, pool)


def test_a_fault_on_a_worker_is_shown_with_its_traceback(study, model, run_on):
    pool = FakePool(model, {1: [Fault("answer", 2, "says", {"fault": "Traceback: here"})]})
    with pytest.raises(ImpastoError, match=r"host1 .* failed:\nTraceback: here"):
        run_on(study, pool)


def test_workers_with_another_tokenizer_than_this_machine_s_are_refused(study, model, run_on):
    reply = begun(model, tokenizer="another")
    pool = FakePool(model, {n: [Fault("begin", 1, "says", reply)] for n in (1, 2)})
    with pytest.raises(UserError, match="another tokenizer"):
        run_on(study, pool)


def test_a_model_that_is_loaded_already_cannot_go_to_a_cluster(study, model):
    with pytest.raises(UserError, match="give its name"):
        study.run(model=model, cluster=Cluster())


def test_progress_never_goes_back_and_tells_of_all_workers(study, model, run_on):
    told = []
    run_on(study, FakePool(model), progress=told.append)
    shares = [standing.share for standing in told]
    assert shares == sorted(shares)
    assert max(standing.running for standing in told) == 2
    assert told[-1].cells == CELLS


def test_a_worker_says_what_of_the_model_costs_something_and_another_one_where_it_dies(model):
    experts = Experts(count=8, active=2, weights=100)
    layers = tuple(LayerShape(40, 20, 5, some, 8, 4, 900) for some in (None, experts))
    model.shape = Shape(layers, head=7, outside=9, itemsize=2)
    pool = FakePool(model, faults={1: [Fault("shape")]})
    crew = Crew(pool, Order("fake", {}, 0, 1.0, "1 CPU"), 1, PATIENCE, print, clock=pool.clock)
    crew.start(None)
    assert crew.shape == model.shape
    assert pool.started == 2
