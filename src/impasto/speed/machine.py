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


def measure_rates(device: torch.device, dtype: torch.dtype, hidden: int) -> Rates:
    """Measure a device's rates; the best of a few tries counts."""
    return Rates(product_rate(device, dtype, hidden)[0], copy_rate(device))


@torch.no_grad()
def product_rate(device: torch.device, dtype: torch.dtype, hidden: int) -> tuple[float, float]:
    """Return the operations a second of many rows with a weight of a width, and its seconds."""
    states = torch.ones(_PRODUCT_ROWS, hidden, device=device, dtype=dtype)
    weight = torch.ones(4 * hidden, hidden, device=device, dtype=dtype)
    seconds = _least_seconds(lambda: functional.linear(states, weight), device)
    return 2 * states.numel() * weight.shape[0] / seconds, seconds


@torch.no_grad()
def copy_rate(device: torch.device) -> float:
    """Return the bytes that are read and written a second while copying."""
    size = _COPIED.get(device.type, 2**27)
    source = torch.ones(size, device=device, dtype=torch.uint8)
    target = torch.empty_like(source)
    return 2 * size / _least_seconds(lambda: target.copy_(source), device)


def machine(device: torch.device) -> str:
    """Return what a machine is, in words."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else processor()
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


def processor() -> str:
    """Return the processor's name."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((line.split(": ")[1] for line in lines if line.startswith("model name")), "CPU")
