"""Memory that goes back to the system when it is let go."""

import mmap

import pytest
import torch

from impasto.run.batching.memory import is_out_of_memory
from impasto.run.kv.buffers import mapped_zeros


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
