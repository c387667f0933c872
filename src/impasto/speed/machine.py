"""The machine that times were taken on: what it is, what it could do, and how busy it was."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from impasto.speed.clock import Stopwatch

_TRIES = 5
_COPIED = {"cuda": 2**30}  # bytes; more than any cache of the device holds
_PRODUCT_ROWS = 1024


@dataclass(frozen=True, slots=True)
class Rates:
    """What a machine reaches on its own: the limits that plans are measured against.

    Attributes:
        flops_per_second: In a product of many rows with a weight of the model's width.
        bytes_per_second: Read and written while copying what no cache can hold.
    """

    flops_per_second: float
    bytes_per_second: float


@torch.no_grad()
def measure_rates(device: torch.device, dtype: torch.dtype, hidden: int) -> Rates:
    """Measure a device's rates; the best of a few prefix trees counts."""
    states = torch.ones(_PRODUCT_ROWS, hidden, device=device, dtype=dtype)
    weight = torch.ones(4 * hidden, hidden, device=device, dtype=dtype)
    flops = 2 * states.numel() * weight.shape[0]
    size = _COPIED.get(device.type, 2**27)
    source = torch.ones(size, device=device, dtype=torch.uint8)
    target = torch.empty_like(source)
    return Rates(
        flops / _least_seconds(lambda: functional.linear(states, weight), device),
        2 * size / _least_seconds(lambda: target.copy_(source), device),
    )


def machine(device: torch.device) -> str:
    """Return what a machine is, in words."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else _processor()
    return f"{name}, {torch.get_num_threads()} threads, torch {torch.__version__}"


def load() -> float | None:
    """Return how many other processes' worth of work there was in the last minute, per core."""
    try:
        return os.getloadavg()[0] / (os.cpu_count() or 1)
    except OSError:
        return None


def _least_seconds(work: Callable[[], Tensor], device: torch.device) -> float:
    watch, taken = Stopwatch(device), []
    for _ in range(_TRIES + 1):
        watch.start()
        work()
        watch.mark()
        taken += watch.seconds()
    return min(taken[1:])


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((line.split(": ")[1] for line in lines if line.startswith("model name")), "CPU")
