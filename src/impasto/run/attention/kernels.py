"""Which of torch's attention kernels a masked call gets, and what each of them needs.

Torch picks a kernel for every call of ``sdpa`` by what it is given. Where none of the fast ones
takes that, it computes all scores in memory of their own, several times slower. So keys and masks
are laid out as the kernels need them (:data:`NEEDS`), and :func:`kernel_for` says which one a call
gets.

Attention to some keys after others is merged by the logarithms of what each softmax divides by,
which torch's kernels compute, but `sdpa` does not hand out (:func:`with_shares`).
"""

from collections.abc import Callable, Sequence
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


def has_shares(query: Tensor, key: Tensor, value: Tensor) -> bool:
    """Whether a kernel for these hands out the logarithms of what its softmax divides by."""
    is_alike = key.shape[3] == value.shape[3] and query.dtype == key.dtype == value.dtype
    return query.device.type in KERNELS and is_alike


def with_shares(
    query: Float[Tensor, "batch groups rows width"],
    key: Float[Tensor, "batch groups keys width"],
    value: Float[Tensor, "batch groups keys value_width"],
    mask: Float[Tensor, "_ _ rows keys"] | None,
    scaling: float | None,
) -> tuple[Float[Tensor, "batch groups rows value_width"], Float[Tensor, "batch groups rows"]]:
    """Return attention, and the logarithms of what its softmax divides by.

    No gradients can be taken of it.
    """
    attend = KERNELS[query.device.type] if has_shares(query, key, value) else _by_products
    return attend(query, key, value, mask, scaling)


def _on_processor(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scaling: float | None
) -> tuple[Tensor, Tensor]:
    attend = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    return attend(query, key, value, attn_mask=mask, scale=scaling)


def _on_gpu(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scaling: float | None
) -> tuple[Tensor, Tensor]:
    mask = None if mask is None else mask.expand(*query.shape[:3], key.shape[2])
    attend = torch.ops.aten._scaled_dot_product_efficient_attention
    output, log, *_ = attend(query, key, value, mask, True, scale=scaling)
    return output, log[..., : query.shape[2]]  # its rows are filled up


def _by_products(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scaling: float | None
) -> tuple[Tensor, Tensor]:
    """Return the same by two products, in single precision at the least."""
    dtype = torch.promote_types(query.dtype, torch.float32)
    scaled = query.to(dtype) * (query.shape[3] ** -0.5 if scaling is None else scaling)
    scores = scaled @ key.to(dtype).transpose(2, 3)
    scores = scores if mask is None else scores + mask
    return (scores.softmax(-1) @ value.to(dtype)).to(query.dtype), scores.logsumexp(-1)


WithShares = Callable[[Tensor, Tensor, Tensor, Tensor | None, float | None], tuple[Tensor, Tensor]]
KERNELS: dict[str, WithShares] = {
    kind: attend
    for kind, attend, name in (
        ("cpu", _on_processor, "_scaled_dot_product_flash_attention_for_cpu"),
        ("cuda", _on_gpu, "_scaled_dot_product_efficient_attention"),
    )
    if hasattr(torch.ops.aten, name)
}
"""By device, torch's own kernel for `sdpa`; `--masks` of benchmarks/long_texts.py compares the
processor's with others."""


def together(
    outputs: Sequence[Float[Tensor, "*batch groups rows width"]],
    logs: Sequence[Float[Tensor, "*batch groups rows"]],
) -> Float[Tensor, "*batch groups rows width"]:
    """Merge attention to several runs of keys, by the logarithms of what each was divided by."""
    if len(outputs) == 1:
        return outputs[0]
    shares = torch.stack(list(logs)).softmax(0)[..., None]
    merged = outputs[0] * shares[0]
    for output, share in zip(outputs[1:], shares[1:], strict=True):
        merged += output * share
    return merged.to(outputs[0].dtype)
