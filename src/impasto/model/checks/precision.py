"""Single precision in full, while a model is checked.

Graphics cards may multiply numbers of 32 bits in fewer (TF32), where the process allows it. What
rounding leaves then is larger than what the opening check allows, and would be blamed on the model.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

_FULL = "ieee"


@contextmanager
def full_precision() -> Iterator[None]:
    """Return a context in which products of single precision are in full; then all is as before.

    What it sets belongs to the process. Torch has two interfaces for it, which it asks not to mix:
    the older one is put back where it could be read, and the newer one where this torch has it.
    """
    backends: list[Any] = _backends()
    cudnn: Any = torch.backends.cudnn
    newer = [(backend, backend.fp32_precision) for backend in backends]
    products, convolutions = _read(torch.get_float32_matmul_precision), _read(_convolves_in_less)
    try:
        torch.set_float32_matmul_precision("highest")
        cudnn.allow_tf32 = False
        for backend in backends:
            backend.fp32_precision = _FULL
        yield
    finally:
        if products is not None:
            torch.set_float32_matmul_precision(products)
        if convolutions is not None:
            cudnn.allow_tf32 = convolutions
        for backend, precision in newer:
            backend.fp32_precision = precision


def _backends() -> list[Any]:
    """Return what holds a precision in torch's newer interface; nothing in an older torch."""
    libraries = (torch.backends.cuda, torch.backends.cudnn, torch.backends.mkldnn)
    parts = [getattr(own, name, None) for own in libraries for name in ("matmul", "conv", "rnn")]
    return [part for part in parts if hasattr(part, "fp32_precision")]


def _convolves_in_less() -> bool:
    return torch.backends.cudnn.allow_tf32


def _read(ask: Any) -> Any:
    """Return a setting of the older interface; None where the newer one was used for it."""
    try:
        return ask()
    except RuntimeError:
        return None
