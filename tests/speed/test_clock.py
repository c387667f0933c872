"""Clocks, and works that take turns."""

import time
from types import SimpleNamespace

import torch

from impasto.speed.clock import Stopwatch, in_turns


def test_a_stopwatch_tells_what_lies_between_its_marks():
    watch = Stopwatch(torch.device("cpu"))
    watch.start()
    time.sleep(0.02)
    watch.mark()
    watch.mark()
    slept, nothing = watch.seconds()
    assert 0.02 <= slept < 0.5
    assert nothing < 0.02
    watch.start()
    assert watch.seconds() == []


def test_every_round_runs_every_work_once_in_an_order_of_its_own():
    log: list[str] = []
    works = {name: (lambda name=name: log.append(name) or len(log)) for name in "abcd"}
    found = in_turns(works, rounds=20, warm_up=2, seed=1)
    turns = [tuple(log[at : at + 4]) for at in range(0, len(log), 4)]
    assert len(turns) == 22
    assert all(sorted(turn) == ["a", "b", "c", "d"] for turn in turns)
    assert len(set(turns)) > 5
    assert all(len(samples) == 20 for samples in found.values())
    assert min(min(samples) for samples in found.values()) > 8  # what warmed up left no trace
    again: list[str] = []
    works = {name: (lambda name=name: again.append(name)) for name in "abcd"}
    in_turns(works, rounds=20, warm_up=2, seed=1)
    assert again == log


def test_a_mark_on_a_gpu_lies_in_the_stream_of_the_device_that_is_measured(monkeypatch):
    recorded: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: None)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: device)
    event = SimpleNamespace(record=recorded.append, elapsed_time=lambda other: 20.0)
    monkeypatch.setattr(torch.cuda, "Event", lambda enable_timing: event)
    watch = Stopwatch(torch.device("cuda", 1))
    watch.start()
    watch.mark()
    assert recorded == [torch.device("cuda", 1)] * 2
    assert watch.seconds() == [0.02]
