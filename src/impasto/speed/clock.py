"""Clocks that tell what a device took, not when it was told to begin."""

import random
import time
from collections.abc import Callable, Hashable, Mapping
from typing import Any, TypeVar

import torch

K = TypeVar("K", bound=Hashable)
S = TypeVar("S")


class Stopwatch:
    """Marks on a device's time.

    On CUDA they are events in that device's stream, so that a mark stops nothing. On any other
    device a mark waits for what was decoding.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._marks: list[Any] = []

    def start(self) -> None:
        """Begin anew, once the device has nothing left to do."""
        wait_for(self._device)
        self._marks = []
        self.mark()

    def mark(self) -> None:
        """Set a mark."""
        if self._device.type == "cuda":
            event = torch.cuda.Event(enable_timing=True)
            event.record(torch.cuda.current_stream(self._device))
            self._marks.append(event)
        else:
            wait_for(self._device)
            self._marks.append(time.perf_counter())

    def seconds(self) -> list[float]:
        """Return how long it was from each mark to the next."""
        wait_for(self._device)
        pairs = zip(self._marks, self._marks[1:], strict=False)
        if self._device.type == "cuda":
            return [begin.elapsed_time(end) / 1e3 for begin, end in pairs]
        return [end - begin for begin, end in pairs]


def wait_for(device: torch.device) -> None:
    """Return once a device has done all that it was told to."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type != "cpu":
        torch.accelerator.synchronize(device)


def in_turns(
    works: Mapping[K, Callable[[], S]],
    rounds: int,
    warm_up: int = 1,
    seed: int = 0,
    progress: Callable[[], None] = lambda: None,
) -> dict[K, list[S]]:
    """Run every work once a round, each round in an order of its own; return what they returned.

    So what drifts (a clock rate, another process) falls on all alike, and what the works return in
    one round can be compared with each other. Rounds to warm up come first and leave no trace.
    """
    found: dict[K, list[S]] = {key: [] for key in works}
    order, shuffled = list(works), random.Random(seed)
    for turn in range(warm_up + rounds):
        shuffled.shuffle(order)
        for key in order:
            sample = works[key]()
            progress()
            if turn >= warm_up:
                found[key].append(sample)
    return found
