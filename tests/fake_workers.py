"""A cluster without Ray and without waiting: workers that do as they are told to, by a clock."""

import json
from dataclasses import asdict, dataclass, field
from typing import Any

from impasto.study.cluster.pool import Event
from impasto.study.cluster.schedule import Patience
from impasto.study.cluster.wire import AskedItems, packed_answer
from impasto.study.work.asking import put
from impasto.study.work.identity import engine_identity, tokenizer_digest
from impasto.study.work.units import Answered

PATIENCE = Patience(late=2, least=10, stuck=100, silent=20, tries=3, room=500)


@dataclass
class Fault:
    """What goes wrong with a worker: at a call, the n-th of it, in some way.

    `never`: it does not answer; `dies`; `slow`: it takes so many seconds; else what it replies.
    """

    call: str
    nth: int = 1
    how: str = "dies"
    reply: dict[str, Any] | None = None
    seconds: float = 0.0


@dataclass
class FakePool:
    """Workers with the test's model; `faults` are by worker, from 1 on; `room` bounds how many."""

    model: Any
    faults: dict[int, list[Fault]] = field(default_factory=dict)
    room: int = 99
    lasts: float = 5.0  # seconds that a unit takes
    now: float = 0.0
    started: int = 0
    alive: set[int] = field(default_factory=set)
    silent: set[int] = field(default_factory=set)  # workers that feel no pulse any more
    asked: list[tuple[int, int]] = field(default_factory=list)  # worker and unit
    counts: dict[tuple[int, str], int] = field(default_factory=dict)
    coming: list[tuple[float, int, Event]] = field(default_factory=list)
    closed: bool = False

    def start(self):
        self.started += 1
        self.alive.add(self.started)
        return self.started

    def kill(self, worker):
        self.alive.discard(worker)
        self.coming = [due for due in self.coming if due[2].worker != worker]

    def close(self):
        self.closed = True

    def call(self, worker, what, *given):
        json.dumps([g if not isinstance(g, bytes | list) else None for g in given])  # plain data
        self.counts[worker, what] = nth = self.counts.get((worker, what), 0) + 1
        if len([w for w in self.alive if w <= worker]) > self.room:
            return  # it waits for room
        seconds = self.lasts if what == "answer" else 0.1
        if what == "pulse" and worker in self.silent:
            return
        event = None
        for fault in self.faults.get(worker, ()):
            if fault.call == what and fault.nth == nth:
                seconds += fault.seconds
                if fault.how == "never":
                    self.silent.add(worker)
                    return
                if fault.how == "dies":
                    event = Event(worker, what, died="its process was killed")
                elif fault.how == "stuck":
                    return
                elif fault.reply is not None:
                    event = Event(worker, what, fault.reply)
        event = event or Event(worker, what, getattr(self, f"_{what}")(worker, *given))
        self.coming.append((self.now + seconds, len(self.coming), event))

    def wait(self, seconds):
        self.coming.sort(key=lambda due: due[:2])
        end = self.now + seconds
        if self.coming and self.coming[0][0] <= end:
            self.now = max(self.now, self.coming[0][0])
            return [self.coming.pop(0)[2]]
        self.now = end
        return []

    def clock(self):
        return self.now

    def _hello(self, worker):
        return hello(worker)

    def _begin(self, worker, name, options, gpus):
        return begun(self.model)

    def _expected(self, worker, works):
        return {"seconds": [self.lasts * 4 for _ in works]}

    def _shape(self, worker):
        return {"shape": asdict(self.model.shape)}

    def _pulse(self, worker):
        unit = next((unit for w, unit in reversed(self.asked) if w == worker), -1)
        return {"unit": unit, "share": 0.5}

    def _answer(self, worker, work):
        work = AskedItems.unpacked(work)
        self.asked.append((worker, work.unit))
        said = put(self.model, work.plans, work.requests, work.donors)
        answered = Answered(work.unit, said.responses, said.truncated, 0, 1, f"host{worker}", "cpu")
        return {"answer": packed_answer(answered)}


def hello(worker, **changed):
    engine = {**engine_identity().parts, **changed}
    return {
        "host": f"host{worker}",
        "pid": 100 + worker,
        "engine": engine,
        "versions": {"impasto": "0.1.0"},
    }


def begun(model, **changed):
    identity = {**model.identity, "tokenizer": tokenizer_digest(None), **changed}
    return {
        "layers": model.num_layers,
        "identity": identity,
        "free": [2**31, 2**30],
        "device": "cpu",
    }
