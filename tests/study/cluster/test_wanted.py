"""Which cluster is meant, and how many workers have room there."""

import pytest

from impasto.error import UserError
from impasto.study import Cluster
from impasto.study.cluster.wanted import ClusterNode, Room, gpus_each, is_address, workers_on

GIB = 2**30
SMALL = ClusterNode("a", cpus=4, gpus=0, memory=8 * GIB)
LARGE = ClusterNode("b", cpus=16, gpus=4, memory=64 * GIB)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("local", None),
        ("auto", None),
        ("ray://head:10001", ("head", 10001)),
        ("10.0.0.7:6379", ("10.0.0.7", 6379)),
        ("ray://[fe80::1]:10001", ("fe80::1", 10001)),
    ],
)
def test_addresses(text, place):
    assert is_address(text)
    assert Cluster(text).place == place


@pytest.mark.parametrize(
    "text", ["", "head", "head:", "head:0", "head:99999", "http://head:80", "ray://head", "a/b:1"]
)
def test_what_is_no_address_is_refused_with_what_would_be(text):
    with pytest.raises(UserError, match="write ray://host:10001"):
        Cluster(text)


@pytest.mark.parametrize(
    "given", [{"workers": 0}, {"cpus": 0}, {"gpus": -1}, {"gpus": 1.5}, {"gpus": float("nan")}]
)
def test_workers_that_cannot_be_are_refused(given):
    with pytest.raises(UserError):
        Cluster(**given)


@pytest.mark.parametrize(
    ("room", "small", "large"),
    [
        (Room(1, 0, 0), 4, 16),
        (Room(3, 0, 0), 1, 5),
        (Room(1, 1, 0), 0, 4),
        (Room(1, 2, 0), 0, 2),
        (Room(1, 3, 0), 0, 1),  # and not four in two and a half
        (Room(1, 0.5, 0), 0, 8),
        (Room(1, 0.4, 0), 0, 8),  # two to each GPU: none lies across two
        (Room(1, 0.1, 0), 0, 16),
        (Room(1, 0, 3 * GIB), 2, 16),
        (Room(1, 0, 100 * GIB), 0, 0),
        (Room(8, 0, 0), 0, 2),
    ],
)
def test_as_many_workers_as_have_room(room, small, large):
    assert (room.count(SMALL), room.count(LARGE)) == (small, large)
    if small + large:
        assert workers_on(Cluster(), [SMALL, LARGE], room) == small + large
        assert workers_on(Cluster(workers=3), [SMALL, LARGE], room) == 3


def test_where_no_machine_has_room_the_message_says_what_a_worker_takes_and_what_there_is():
    with pytest.raises(UserError) as raised:
        workers_on(Cluster(), [SMALL, SMALL, LARGE], Room(1, 0, 100 * GIB))
    message = str(raised.value)
    assert "1 CPU, 100.00 GiB of memory" in message
    assert "2 with 4 CPUs, 0 GPUs, 8.00 GiB of memory; 1 with 16 CPUs, 4 GPUs" in message
    assert "dtype: float16" in message


def test_a_worker_has_a_gpu_where_there_are_any_unless_somebody_says_otherwise():
    assert gpus_each(Cluster(), [SMALL]) == 0
    assert gpus_each(Cluster(), [SMALL, LARGE]) == 1
    assert gpus_each(Cluster(gpus=2), [SMALL, LARGE]) == 2
    assert gpus_each(Cluster(gpus=0), [LARGE]) == 0
