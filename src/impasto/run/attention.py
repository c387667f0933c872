"""Attention of a few rows to many keys, as decoding has it.

Hugging Face's ``sdpa`` copies every key once for each query head that shares it, and torch's kernel
works through sequence and head one after the other, which is made for many rows. Here the same is
two batched products, in which the query heads that share a key are rows of one product. It stands
in for ``sdpa`` while plans decode, and leaves to it whatever is not of this kind.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

FEW_ROWS = 8

Attention = Callable[..., tuple[Tensor, Any]]

_NAME = "sdpa"


@contextmanager
def in_place_of_sdpa(attend: Attention) -> Iterator[None]:
    """Return a context in which models on ``sdpa`` attend so; ``attend`` is handed it first."""
    stock = ALL_ATTENTION_FUNCTIONS[_NAME]
    ALL_ATTENTION_FUNCTIONS[_NAME] = partial(attend, stock)
    try:
        yield
    finally:
        ALL_ATTENTION_FUNCTIONS[_NAME] = stock


class Scores:
    """Memory for the scores of an attention, which those of the next one are written over.

    There are a few more at every token, which would leave gaps in the heap that the next do not fit
    into.
    """

    def __init__(self) -> None:
        self._held: Tensor | None = None

    def of(self, shape: Sequence[int], like: Tensor) -> Tensor:
        """Return memory of a shape for numbers like a tensor's: single precision, where it is."""
        count, held = torch.Size(shape).numel(), self._held
        if held is None or len(held) < count or held.device != like.device:
            held = self._held = like.new_empty(count + count // 2)
        return held[:count].view(torch.Size(shape))


def few_row_attention(scores: Scores) -> AbstractContextManager[None]:
    """Return a context in which models on ``sdpa`` attend from few rows by two products.

    No gradients can be taken of it.
    """
    return in_place_of_sdpa(partial(_attend, scores))


def is_plain(dropout: float, further: Mapping[str, Any]) -> bool:
    """Say whether nothing but a mask is asked of an attention."""
    return not dropout and all(further.get(name) is None for name in ("position_bias", "cache"))


def _attend(
    memory: Scores,
    stock: Attention,
    module: Any,
    query: Float[Tensor, "batch heads rows width"],
    key: Float[Tensor, "batch groups keys width"],
    value: Float[Tensor, "batch groups keys value_width"],
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **further: Any,
) -> tuple[Tensor, Any]:
    """Return what ``stock`` would, by way of it where rows are many or anything is unusual."""
    is_full = query.dtype == torch.float32  # in less, scores must not be rounded on the way
    is_usual = is_plain(dropout, further) and is_full and query.shape[2] <= FEW_ROWS
    if attention_mask is None or not attention_mask.is_floating_point() or not is_usual:
        return stock(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **further
        )
    batch, heads, rows, width = query.shape
    groups, keys = key.shape[1:3]
    folded = (batch * groups, heads // groups * rows, -1)
    scaled = (query * (width**-0.5 if scaling is None else scaling)).reshape(folded)
    scores = memory.of((batch, heads, rows, keys), query)
    products = scores.view(folded)
    torch.bmm(scaled, key.transpose(2, 3).flatten(0, 1), out=products)
    scores += attention_mask
    torch.softmax(scores, -1, out=scores)
    found = torch.bmm(products, value.flatten(0, 1))
    return found.view(batch, heads, rows, -1).transpose(1, 2).contiguous(), None
