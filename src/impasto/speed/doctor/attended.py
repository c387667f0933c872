"""By which of torch's kernels a model attends here: calls of ``sdpa`` are noted while it runs."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention
from torch.overrides import TorchFunctionMode

from impasto.run.attention.kernels import NEEDS, kernel_for

_NAMES = {
    SDPBackend.FLASH_ATTENTION: "flash",
    SDPBackend.EFFICIENT_ATTENTION: "memory-efficient",
    SDPBackend.MATH: "math",
}


@dataclass(frozen=True, slots=True)
class Attended:
    """Calls of one kernel.

    Attributes:
        kernel: Its name.
        is_masked: Whether they had a mask.
        calls: How many there were.
        refusal: Why torch does not take it on this device; empty where it does.
    """

    kernel: str
    is_masked: bool
    calls: int
    refusal: str = ""


class Kernels(TorchFunctionMode):
    """Notes which kernel each call of attention gets on a device of a GPU's kind.

    A processor has a kernel of its own, for everything; nothing is noted of it.
    """

    def __init__(self) -> None:
        super().__init__()
        self._calls: Counter[tuple[SDPBackend, bool]] = Counter()
        self._refusals: dict[tuple[SDPBackend, bool], str] = {}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is scaled_dot_product_attention:
            self._note(args, kwargs)
        return func(*args, **kwargs)

    def _note(self, args: Any, kwargs: dict[str, Any]) -> None:
        names = ("query", "key", "value", "attn_mask")
        given = dict(zip(names, args, strict=False)) | kwargs
        query, key, value = given["query"], given["key"], given["value"]
        if query.device.type == "cpu" or query.ndim != 4:
            return
        mask = given.get("attn_mask")
        if mask is not None:  # for all rows, also where one serves them
            mask = mask[(None,) * (4 - mask.ndim)].expand(-1, -1, query.shape[2], -1)
        known = kernel_for(query, key, value, mask), mask is not None
        if known not in self._calls and query.device.type == "cuda":
            self._refusals[known] = refusal(known[0], args, kwargs)
        self._calls[known] += 1

    def found(self) -> list[Attended]:
        """Return the kernels that were taken, the fastest first."""
        order = list(NEEDS)
        pairs = sorted(self._calls, key=lambda pair: (order.index(pair[0]), pair[1]))
        return [
            Attended(_NAMES[kernel], masked, self._calls[kernel, masked],
                     self._refusals.get((kernel, masked), ""))
            for kernel, masked in pairs
        ]  # fmt: skip


def refusal(kernel: SDPBackend, args: Any, kwargs: dict[str, Any]) -> str:
    """Return why torch refuses to run a call of attention by a kernel alone; empty if it does."""
    try:
        with torch.no_grad(), sdpa_kernel([kernel]), torch._C.DisableTorchFunction():
            scaled_dot_product_attention(*args, **kwargs)
    except RuntimeError as error:
        return str(error).strip().splitlines()[0]
    return ""
