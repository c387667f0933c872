"""How long a layer of an encoder takes on this machine, for estimates."""

import time

import torch

from impasto.model.encoder import OpenedEncoder, Sentences
from impasto.run.tuning import CALIBRATION_ROWS

_LENGTH = 64  # tokens of each sentence


@torch.no_grad()
def seconds_per_layer_row(model: OpenedEncoder) -> float:
    """Return how many seconds a row takes through a layer on this machine (the best of three)."""
    ids = torch.full(
        (CALIBRATION_ROWS // _LENGTH, _LENGTH), 5 % model.vocabulary, device=model.device
    )
    prepared = model.prepare(Sentences(ids, torch.ones_like(ids, dtype=torch.bool)))
    times = []
    for _ in range(4):
        begin = time.perf_counter()
        states = model.run(model.present[0], "block", prepared.states, prepared)
        states.sum().item()  # waits for a device that works by itself
        times.append(time.perf_counter() - begin)
    return min(times[1:]) / ids.numel()
