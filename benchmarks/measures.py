"""What a benchmark measures besides time: matrix products, and the machine's rate for them."""

import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

Shape = tuple[int, int, int]  # rows, inputs, outputs of one product of states with a weight

_STATES_AT = {torch.ops.aten.mm.default: 0, torch.ops.aten.addmm.default: 1}
_SECONDS_PER_RATE = 0.3


class Products(TorchDispatchMode):
    """Counts the products of states with weights, those of linear layers and of the head.

    Attention's own products (queries with keys, weights with values) are not among them.

    Attributes:
        calls: How often each shape was multiplied.
        seconds: What the products took, all else left out.
    """

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[Shape] = Counter()
        self.seconds = 0.0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        at = _STATES_AT.get(func)
        if at is None:
            return func(*args, **(kwargs or {}))
        states, weight = args[at : at + 2]
        self.calls[(*states.shape, weight.shape[1])] += 1
        lasted, result = seconds(lambda: func(*args, **(kwargs or {})), states.device.type)
        self.seconds += lasted
        return result


def flops(calls: Counter[Shape]) -> int:
    """Return the floating-point operations of products."""
    return sum(2 * m * k * n * count for (m, k, n), count in calls.items())


def layer_rows(calls: Counter[Shape], hf: Any) -> float:
    """Return how many rows through whole layers the products of the layers amount to.

    A row that needs only some of a layer's weights (its MLP's; those of keys and values) counts as
    their share.
    """
    in_layers = Counter({s: c for s, c in calls.items() if s[2] != hf.config.vocab_size})
    weights = sum(m.weight.numel() for m in hf.model.layers[0].modules() if type(m) is nn.Linear)
    return flops(in_layers) / (2 * weights)


def machine_rate(
    calls: Counter[Shape], device: str, dtype: torch.dtype
) -> tuple[float, dict[str, int]]:
    """Return the operations per second that the machine reaches on such products, and the rows.

    Each weight's shape is measured alone, in a loop, with the number of rows that the median
    operation of its products has; its best of five loops counts, by its share of the operations.
    """
    seconds, rows = 0.0, {}
    for inner, outer in sorted({shape[1:] for shape in calls}):
        same = Counter({s: c for s, c in calls.items() if s[1:] == (inner, outer)})
        rows[f"{inner}×{outer}"] = typical = _typical_rows(same)
        seconds += flops(same) / _rate(typical, inner, outer, device, dtype)
    return flops(calls) / seconds, rows


def seconds(work: Callable[[], Any], device: str) -> tuple[float, Any]:
    """Return how long some work takes, and what it returns."""
    if device == "cuda":
        torch.cuda.synchronize()
    begin = time.perf_counter()
    result = work()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - begin, result


def _typical_rows(calls: Counter[Shape]) -> int:
    """Return the rows of the product in which the median operation falls."""
    half, reached = flops(calls) / 2, 0
    for shape in sorted(calls):
        reached += flops(Counter({shape: calls[shape]}))
        if reached >= half:
            return shape[0]
    raise ValueError("there are no products")


@torch.no_grad()
def _rate(rows: int, inner: int, outer: int, device: str, dtype: torch.dtype) -> float:
    states = torch.randn(rows, inner, device=device, dtype=dtype)
    weight = torch.randn(outer, inner, device=device, dtype=dtype)

    def loop(times: int) -> float:
        return seconds(lambda: [functional.linear(states, weight) for _ in range(times)], device)[0]

    loop(3)
    times = max(1, round(_SECONDS_PER_RATE / 5 / max(loop(10) / 10, 1e-7)))
    return 2 * rows * inner * outer * times / min(loop(times) for _ in range(5))
