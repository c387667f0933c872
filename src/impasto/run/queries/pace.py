"""How fast a machine runs a model's layers: measured, so that costs can be told in seconds."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.nn.functional import scaled_dot_product_attention

from impasto.model.decoder import OpenedModel
from impasto.model.measured.shape import read_shape
from impasto.run.tuning import CALIBRATION_ROWS

_HEADS, _WIDTH, _TOKENS = 8, 64, 512  # of the attention that is timed


@dataclass(frozen=True, slots=True)
class Pace:
    """How long a machine takes for what a model's layers do.

    Attributes:
        row: The seconds of a row through a layer, among many rows.
        pair: The seconds of a pair of a row and a key at a layer's attention.
        call: The seconds of a layer's call for one token while texts are written, with its share of
            all else that a decode step does.
        text: The seconds that a text more adds to such a call.
    """

    row: float
    pair: float = 0.0
    call: float = 0.0
    text: float = 0.0


@torch.no_grad()
def seconds_per_layer_row(model: OpenedModel) -> float:
    """Return how many seconds a row takes through a layer on this machine (the best of three)."""
    count = min(CALIBRATION_ROWS, model.max_positions or CALIBRATION_ROWS, 256)
    batch = max(1, CALIBRATION_ROWS // count)
    ids = torch.zeros(batch, count, dtype=torch.long, device=model.device)
    entered = model.enter(ids, torch.arange(count, device=ids.device).expand_as(ids))
    arguments = entered.arguments[model.present[0]]
    return _best(lambda: model.first_block()(entered.states, arguments)) / (batch * count)


@torch.no_grad()
def seconds_per_pair(model: OpenedModel) -> float:
    """Return how many seconds a pair of a row and a key takes at an attention of a model's size."""
    numbers = read_shape(model).layers[model.present[0]].pair
    states = torch.zeros(1, _HEADS, _TOKENS, _WIDTH, dtype=model.hf.dtype, device=model.device)
    mask = torch.zeros(1, 1, _TOKENS, _TOKENS, dtype=model.hf.dtype, device=model.device)
    taken = _best(lambda: scaled_dot_product_attention(states, states, states, mask))
    return taken / (_TOKENS * _TOKENS) * numbers / (2 * _HEADS * _WIDTH)


def _best(run: Callable[[], torch.Tensor]) -> float:
    """Return the seconds of a run: the best of three, after one that warms up."""
    times = []
    for _ in range(4):
        begin = time.perf_counter()
        run().sum().item()  # waits for a device that works by itself
        times.append(time.perf_counter() - begin)
    return min(times[1:])
