"""What a worker's process does, here without one: what it is sent and answers is plain data."""

import json
import math

import pytest

import impasto
from impasto.plan import Plan
from impasto.study.cluster.wire import AskedItems, packed_answer, unpacked, unpacked_answer
from impasto.study.cluster.worker import Worker
from impasto.study.work.asking import Asking, Here
from impasto.study.work.identity import model_identity
from impasto.study.work.units import Answered, Unit
from impasto.tasks import capitals
from impasto.tasks.request import Generation, LogLikelihood, RollingLogLikelihood

LINES = ("0-11", "inject(donor) 0-11", "0-3 noise(gaussian) 4-11")
PLANS = tuple(map(Plan.parse, LINES))
REQUESTS = [
    [LogLikelihood("a \udce9 \n", " b"), RollingLogLikelihood("text ∑")],
    [Generation("Q:", ("\n", "Q"), 7)],
]


def test_work_comes_out_as_it_went_in():
    donors = [{"prompt": "p", "donor_span": "d", "target_span": "t"}] * 2
    for given in (donors, None):
        work = AskedItems(7, list(PLANS), REQUESTS, given, 2**30, "t", ["0", "1"])
        assert AskedItems.unpacked(work.packed()) == work


def test_answers_come_out_to_the_bit():
    responses = [
        [((-0.1 - 1e-17, True), "text \u2211\n"), (math.inf,)],
        [((5e-324, False), ""), (-math.inf,)],
    ]
    answered = Answered(7, responses, 3, 1.5, 2.5, "host", "cpu")
    assert unpacked_answer(packed_answer(answered)) == answered
    [[[given]]] = unpacked_answer(
        packed_answer(Answered(1, [[(math.nan,)]], 0, 0.0, 0.0, "", ""))
    ).responses
    assert isinstance(given, float)
    assert math.isnan(given)


def test_what_is_sent_is_json_and_nothing_else():
    work = unpacked(AskedItems(7, list(PLANS), REQUESTS, None, None, "t", ["0", "1"]).packed())
    assert json.loads(json.dumps(work)) == work


@pytest.fixture(scope="module")
def worker():
    started = Worker(threads=1)
    begun = started.begin("demo", {}, 0.0)
    assert begun["layers"] == 12
    return started, begun


def test_a_worker_says_what_its_model_is_as_this_process_would(worker):
    assert worker[1]["identity"] == model_identity(impasto.load("demo")).parts


def test_a_worker_answers_as_this_process_does(worker):
    model = impasto.load("demo")
    asking = Asking.of(capitals().sample(12), model.tokenizer, PLANS)
    unit = Unit(5, "capitals", 2, 10, PLANS, None)
    told = []
    here = Here(model, {"capitals": asking})
    [expected] = here.run([unit], lambda unit, share: told.append(share), lambda: False)
    assert asking.donors is not None
    some = slice(2, 10)
    requests, donors = asking.requests[some], asking.donors[some]
    work = AskedItems(5, PLANS, requests, donors, None, "capitals", asking.names(some))
    reply = worker[0].answer(work.packed())
    answered = unpacked_answer(reply["answer"])
    assert answered.responses == [[tuple(i) for i in plan] for plan in expected.responses]
    assert (answered.unit, answered.truncated) == (5, 0)
    assert worker[0].pulse() == {"unit": 5, "share": max(told)}


def test_a_worker_foresees_what_work_costs(worker):
    asking = Asking.of(capitals().sample(8), worker[0]._model.tokenizer, PLANS[:1])
    works = [
        AskedItems(-1, plans, asking.requests, None, None, "capitals", asking.names()).packed()
        for plans in (PLANS[:1], PLANS[::2])
    ]
    one, two = worker[0].expected(works)["seconds"]
    assert 0 < one < two


def test_a_worker_says_what_of_its_model_costs_something(worker):
    told = json.loads(json.dumps(worker[0].shape()))["shape"]
    shape = worker[0]._model.shape
    assert told["head"] == shape.head
    assert [one["parameters"] for one in told["layers"]] == [o.parameters for o in shape.layers]


def test_a_mistake_is_an_answer_and_a_fault_has_its_traceback(worker):
    assert "no config.json" in Worker(1).begin("/", {}, 0.0)["refused"]
    assert "Traceback" in worker[0].answer(b"no work")["fault"]


def test_a_request_that_cannot_be_asked_is_named_by_task_document_and_choice(worker):
    requests = [[LogLikelihood("2 +", " 3")], [LogLikelihood("2", " +"), LogLikelihood("2 +", "")]]
    work = AskedItems(1, PLANS[:1], requests, None, None, "sums", ["8", "9"])
    for reply in (worker[0].answer(work.packed()), worker[0].expected([work.packed()])):
        assert reply["refused"].startswith("sums, document 9, choice 1: the continuation ''")


def test_a_model_that_is_larger_than_the_free_memory_is_not_loaded(monkeypatch):
    from impasto.study.cluster import memory

    monkeypatch.setattr(memory.psutil, "virtual_memory", lambda: type("", (), {"available": 1000}))
    refused = Worker(1).begin("demo", {}, 0.0)["refused"]
    assert "the weights of demo take 21." in refused
    assert "its machine has 1000 bytes free" in refused
    assert "dtype: float16" in refused
