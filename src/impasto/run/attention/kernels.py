"""Which of torch's attention kernels a masked call gets, and what each of them needs.

Torch picks a kernel for every call of ``sdpa`` by what it is given. Where none of the fast ones
takes that, it computes all scores in memory of their own, several times slower. So keys and masks
are laid out as the kernels need them (:data:`NEEDS`), and :func:`kernel_for` says which one a call
gets.
"""

from contextlib import AbstractContextManager
from typing import NamedTuple

import torch
from jaxtyping import Float, Shaped
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from impasto.run.tuning import MASK_ALIGNMENT


class Needs(NamedTuple):
    """What a kernel needs.

    Attributes:
        dtypes: The types of numbers that it takes.
        takes_masks: Whether it takes a mask.
        mask_alignment: What the strides of a mask are multiples of, lest it be copied in each call.
    """

    dtypes: tuple[torch.dtype, ...]
    takes_masks: bool
    mask_alignment: int = 1


_HALVES = (torch.float16, torch.bfloat16)
NEEDS = {
    SDPBackend.FLASH_ATTENTION: Needs(_HALVES, takes_masks=False),
    SDPBackend.EFFICIENT_ATTENTION: Needs((*_HALVES, torch.float32), True, MASK_ALIGNMENT),
    SDPBackend.MATH: Needs((*_HALVES, torch.float32, torch.float64), True),
}
"""The kernels that may be taken, the fastest first. All but the last need rows of queries, keys and
values that are contiguous. cuDNN's is not among them: it makes a plan for every new shape of a
mask, which nobody has measured here."""


def kernel_for(
    query: Float[Tensor, "batch heads rows width"],
    key: Float[Tensor, "batch groups keys width"],
    value: Float[Tensor, "batch groups keys value_width"],
    mask: Shaped[Tensor, "_ _ rows keys"] | None,
) -> SDPBackend:
    """Return the kernel that a call of attention gets on a GPU without copies of what it reads."""
    is_contiguous = all(each.stride(-1) == 1 for each in (query, key, value))
    for kernel, needs in NEEDS.items():
        if query.dtype not in needs.dtypes or (mask is not None and not needs.takes_masks):
            continue
        is_laid_out = is_contiguous and (mask is None or is_aligned(mask, needs.mask_alignment))
        if is_laid_out or kernel is SDPBackend.MATH:
            return kernel
    return SDPBackend.MATH


def is_aligned(mask: Shaped[Tensor, "*any keys"], alignment: int = MASK_ALIGNMENT) -> bool:
    """Whether a mask's rows are contiguous, and begin at multiples of so many numbers."""
    return mask.stride(-1) == 1 and all(step % alignment == 0 for step in mask.stride()[:-1])


def aligned(mask: Float[Tensor, "batch heads rows keys"]) -> Float[Tensor, "batch heads rows keys"]:
    """Return a mask as a GPU's kernels need it, once for all layers."""
    if is_aligned(mask):
        return mask
    keys = -(-mask.shape[-1] // MASK_ALIGNMENT) * MASK_ALIGNMENT
    memory = mask.new_empty(*mask.shape[:-1], keys)[..., : mask.shape[-1]]
    return memory.copy_(mask)


def known_kernels() -> AbstractContextManager[object]:
    """Return a context in which torch takes none but the kernels of :data:`NEEDS`."""
    return sdpa_kernel(list(NEEDS))
