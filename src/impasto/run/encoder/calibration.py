"""How fast this machine is with a layer of an encoder."""

import time

import torch

from impasto.model.encoder import OpenedEncoder, Sentences

_ROWS, _LENGTH = 1024, 64


@torch.no_grad()
def seconds_per_layer_row(model: OpenedEncoder) -> float:
    """Measure, on this machine, how long a row takes through a layer (the fastest of three)."""
    ids = torch.full((_ROWS // _LENGTH, _LENGTH), 5 % model.vocabulary, device=model.device)
    prepared = model.prepare(Sentences(ids, torch.ones_like(ids, dtype=torch.bool)))
    times = []
    for _ in range(4):
        begin = time.perf_counter()
        states = model.run(model.present[0], "block", prepared.states, prepared)
        states.sum().item()  # waits for a device that works by itself
        times.append(time.perf_counter() - begin)
    return min(times[1:]) / ids.numel()
