"""How much memory some work takes at its peak, and how many sequences fit at once."""

import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from impasto.plan import Plan
from impasto.plan.lowering import lower
from impasto.plan.tree import plant
from impasto.run import Model
from impasto.run.batching.batches import BatchGroup
from impasto.run.batching.demand import Asked
from impasto.run.batching.memory import free_memory
from impasto.run.batching.prefix_tree import chain
from impasto.run.batching.request import TokenRequest
from impasto.run.kv.buffers import trim_heap
from impasto.run.opening import opened

_RESET = Path("/proc/self/clear_refs")
_STATUS = Path("/proc/self/status")


def peak_memory(work: Callable[[], Any], device: torch.device) -> int | None:
    """Return how far memory rises above where it is now, in bytes, while some work runs.

    On a GPU it is what torch allocates, else what is resident. None where it cannot be read (on a
    processor that needs Linux).
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        work()
        return torch.cuda.max_memory_allocated(device) - before
    gc.collect()
    trim_heap()
    try:
        _RESET.write_text("5")  # the high-water mark begins anew
        before = resident("VmRSS")
    except OSError:
        return None
    work()
    return resident("VmHWM") - before


def filling_batch(model: Model, tokens: int, new_tokens: int) -> int:
    """Return how many sequences run at once in what a batch may take: a power of two.

    Keys and values of the prompt and what follows it are counted, and what a layer works on.
    """
    inner, plan = opened(model.hf), Plan.identity(model.num_layers)
    request = TokenRequest([0] * tokens, range(tokens - 1, tokens), {})
    kept = model.shape.kept_bytes(plan) * (tokens + new_tokens)
    asked = Asked(inner, plant([lower(plan).instructions]))
    worked_on = asked.bytes(BatchGroup([[chain(0, request)]], []), [request])
    fits = free_memory(inner.device).for_batches // (kept + kept // 4 + worked_on)
    return 1 << max(0, fits.bit_length() - 1)


def resident(name: str) -> int:
    """Return what the system says of this process's memory (``VmRSS``, ``VmHWM``), in bytes.

    Raises:
        OSError: where the system is not Linux.
    """
    lines = _STATUS.read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))
