"""Memory that goes back to the system when it is let go."""

import mmap
from weakref import ref

import pytest
import torch

import impasto
from impasto import Plan
from impasto.plan.lowering import lower
from impasto.plan.tree import plant
from impasto.run.batching.demand import Asked
from impasto.run.batching.memory import fitting_groups, is_out_of_memory
from impasto.run.batching.request import TokenRequest
from impasto.run.kv.buffers import mapped_zeros
from impasto.run.opening import opened
from impasto.run.queries import loglikelihood


@pytest.mark.parametrize("shape", [(3, 5), (64, 1024)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_zeros_can_be_written_and_are_nobody_elses(shape, dtype):
    like = torch.ones(1, dtype=dtype)
    one, other = mapped_zeros(like, shape), mapped_zeros(like, shape)
    assert one.shape == shape
    assert one.dtype == dtype
    one += 1
    assert one.sum() == one.numel()
    assert not other.any()


def test_no_memory_is_told_apart_from_other_errors(monkeypatch):
    def full(*_, **__):
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr(mmap, "mmap", full)
    with pytest.raises(MemoryError, match="262144 bytes") as caught:
        mapped_zeros(torch.ones(1), (64, 1024))
    assert is_out_of_memory(caught.value)


@pytest.mark.parametrize(
    "message",
    [
        "CUDA error: out of memory",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
    ],
)
def test_a_devices_libraries_say_it_in_their_own_words(message):
    assert is_out_of_memory(RuntimeError(message))
    assert not is_out_of_memory(RuntimeError("CUDA error: an illegal memory access"))


def test_what_did_not_fit_is_let_go_before_the_halves_run():
    held = []

    def fails():
        states = torch.zeros(9)
        held.append(ref(states))
        raise RuntimeError("CUDA error: out of memory")

    hf = impasto.load("demo").hf
    model = opened(hf)
    tree = plant([lower(Plan.identity(12)).instructions])
    requests = [TokenRequest([1, 2, n], range(1, 3), {}) for n in range(4)]
    queue = fitting_groups(Asked(model, tree), requests, None)
    seen = []
    for group in queue:
        seen.append(sorted(group.requests))
        assert all(each() is None for each in held)
        if len(group.requests) == 1:
            continue
        try:
            fails()
        except RuntimeError as error:
            with pytest.warns(UserWarning, match="out of memory"):
                queue.failed(group, error)
    assert seen == [[0, 1, 2, 3], [0, 1], [0], [1], [2, 3], [2], [3]]


def test_a_merged_sequence_that_memory_runs_out_for_is_cut(monkeypatch):
    model = impasto.load("demo")
    requests = [([1, 2, 3, 4], [n, 7]) for n in range(5)]
    plans = [Plan.identity(12), Plan.parse("0-5 freeze 6-11")]
    expected = torch.tensor(model.loglikelihood(plans, requests))
    most, whole = [0], loglikelihood.group_executor

    def fails(opened, read, group, *further):
        most[0] = max(most[0], len(group.requests))
        if len(group.requests) > 2:
            raise torch.OutOfMemoryError("too much")
        return whole(opened, read, group, *further)

    monkeypatch.setattr(loglikelihood, "group_executor", fails)
    with pytest.warns(UserWarning, match="out of memory"):
        found = torch.tensor(model.loglikelihood(plans, requests))
    assert most[0] == 5
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-5)
