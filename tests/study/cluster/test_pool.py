"""Workers as actors on a Ray of our own: called, heard from, and missed when they are gone."""

import logging
import logging.handlers
import os
import signal
import socket
import time

import pytest

from impasto.study import Cluster
from impasto.study.cluster.pool import GONE, LOOK, RayPool, _Head, connected
from impasto.study.cluster.wanted import Room
from impasto.study.work.identity import engine_identity

ray = pytest.importorskip("ray")


def events(pool):
    """Return what happens next."""
    ends = time.monotonic() + 60
    while time.monotonic() < ends:
        if found := pool.wait(1.0):
            return found
    raise AssertionError("nothing happened for a minute")


def test_a_worker_says_hello_and_its_end_is_heard(capfd):
    log, handler = logging.Logger("test"), logging.handlers.BufferingHandler(1000)
    log.addHandler(handler)
    with connected(Cluster(workers=1), log) as nodes:
        assert [node.cpus >= 1 for node in nodes] == [True]
        pool = RayPool(Room(1, 0, 0))
        worker = pool.start()
        pool.call(worker, "hello")
        [event] = events(pool)
        assert (event.worker, event.call, event.died) == (worker, "hello", None)
        assert event.reply["engine"] == engine_identity().parts
        pool.call(worker, "pulse")
        assert events(pool)[0].reply == {"unit": -1, "share": 0.0}
        pool.call(worker, "pulse")
        os.kill(event.reply["pid"], signal.SIGKILL)
        found = events(pool)
        while not found[-1].died:  # the pulse may have been faster
            pool.call(worker, "pulse")
            found = events(pool)
        assert "killed" in found[-1].died
        pool.close()
    assert not ray.is_initialized()
    assert "".join(capfd.readouterr()) == ""  # what Ray has to say goes to the log
    assert any("ray-security" in record.getMessage() for record in handler.buffer)


def test_a_head_is_gone_once_it_has_not_answered_for_long():
    listening = socket.create_server(("127.0.0.1", 0))
    head = _Head(listening.getsockname())
    now = time.monotonic() + LOOK
    assert not head.is_gone(now + 1000)  # it is there, however long nobody looked
    listening.close()
    now += 1000 + LOOK
    assert not head.is_gone(now)
    assert not head.is_gone(now + GONE - LOOK)
    assert head.is_gone(now + GONE + 1)
    assert not _Head(None).is_gone(now + 1000)
