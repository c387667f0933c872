"""Attention of few rows to many keys, as decoding has it: by two products, or torch's own kernels.

Stock ``sdpa`` copies every key once for each query head that shares it, and torch's kernel for a
processor works through sequence and head one after the other, which is made for many rows. Here the
query heads that share a key are rows of one product.

Keys that several sequences have in common (:mod:`impasto.run.common_keys`) are attended to apart,
by the rows of all these sequences at once, and merged with those of each sequence's own.
"""

from collections.abc import MutableMapping, Sequence
from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from torch.utils.weak import WeakIdKeyDictionary

from impasto.model.structure.anatomy import ModelError
from impasto.run.attention.choice import Attention, in_place_of_stock
from impasto.run.attention.kernels import together, with_shares
from impasto.run.common_keys import CommonKeys, CommonRun, take
from impasto.run.tuning import FEW_ROWS


class Scores:
    """Memory for the scores of an attention, which those of the next one are written over.

    There are a few more at every token, which would leave gaps in the heap that the next do not fit
    into. It belongs to one call. Masks of keys in common are kept beside it, for as long as there
    is the mask that they are parts of.
    """

    def __init__(self) -> None:
        self._buffer: Tensor | None = None
        self._masks: MutableMapping[Tensor, dict[tuple[Any, ...], Tensor | None]]
        self._masks = WeakIdKeyDictionary()

    def of(self, shape: Sequence[int], like: Tensor) -> Tensor:
        """Return memory of a shape for numbers like a tensor's: single precision, where it is."""
        count, buffer = torch.Size(shape).numel(), self._buffer
        if buffer is None or len(buffer) < count or buffer.device != like.device:
            buffer = self._buffer = like.new_empty(count + count // 2)
        return buffer[:count].view(torch.Size(shape))

    def mask(
        self,
        whole: Float[Tensor, "batch _ rows keys"],
        sequences: slice,
        length: int,
        folds: tuple[int, int],
    ) -> Float[Tensor, "1 _ sequences_heads_rows length"] | None:
        """Return the mask of the first keys for the rows of some sequences, as rows of one.

        It is None where they see all, if that can be told without waiting for a device.

        Args:
            whole: The mask of all keys.
            sequences: The sequences.
            length: How many keys come first.
            folds: How many groups of heads there are, and how many heads in each.
        """
        made = self._masks.setdefault(whole, {})
        key = (sequences.start, sequences.stop, length, folds)
        if key not in made:
            made[key] = _folded_mask(whole[sequences, :, :, :length], folds)
        return made[key]


def few_row_attention(scores: Scores) -> Attention:
    """Return an attention of few rows to many keys, some of which sequences may have in common.

    What is not of this kind is left to the stock. No gradients can be taken of it.
    """
    return partial(in_place_of_stock, partial(_attend_few, scores))


def reads_transposed_keys(keys: Float[Tensor, "batch groups keys width"]) -> bool:
    """Whether few rows are fastest with keys whose width lies before their tokens in memory.

    So it is for products on a processor. Torch's kernels on a GPU need the rows of keys contiguous.
    """
    return keys.device.type == "cpu" and keys.dtype == torch.float32


def _attend_common(
    memory: Scores,
    common: CommonKeys,
    query: Float[Tensor, "batch heads rows width"],
    key: Float[Tensor, "batch groups own width"],
    value: Float[Tensor, "batch groups own value_width"],
    mask: Tensor | None,
    scaling: float | None,
) -> Float[Tensor, "batch rows heads value_width"]:
    """Return attention to keys in common, and to each sequence's own ones behind them."""
    if mask is None or not mask.is_floating_point():
        raise ModelError("its attention is called without numbers that are added to scores")
    if mask.shape[3] != common.length + key.shape[2]:
        raise ModelError("its attention is called with a mask of other keys")
    folds = key.shape[1], query.shape[1] // key.shape[1]
    own = _attend_own(memory, query, key, value, mask[..., common.length :], scaling)
    outputs, logs, begin = [], [], 0
    for run in common.runs:
        sequences = slice(begin, begin + run.sequences)
        part = memory.mask(mask, sequences, common.length, folds)
        output, log = _attend_run(query[sequences], run, part, scaling)
        outputs.append(output)
        logs.append(log)
        begin = sequences.stop
    merged = together([own[0], torch.cat(outputs)], [own[1], torch.cat(logs)])
    return merged.transpose(1, 2).contiguous()


def _attend_run(
    query: Float[Tensor, "sequences heads rows width"],
    run: CommonRun,
    mask: Float[Tensor, "1 _ sequences_heads_rows length"] | None,
    scaling: float | None,
) -> tuple[Float[Tensor, "sequences heads rows value_width"], Float[Tensor, "_ heads rows"]]:
    """Return attention to keys that all sequences have in common, and its logarithms."""
    by_group = query.unflatten(1, (run.keys.shape[1], -1)).transpose(0, 1)
    shape = by_group.shape[1:4]  # sequences, heads of a group, rows
    rows = by_group.flatten(1, 3)[None]
    output, log = with_shares(rows, run.keys, run.values, mask, scaling)
    output, log = (each[0].unflatten(1, shape).transpose(0, 1) for each in (output, log))
    return output.flatten(1, 2), log.flatten(1, 2)


def _attend_own(
    memory: Scores,
    query: Float[Tensor, "batch heads rows width"],
    key: Float[Tensor, "batch groups keys width"],
    value: Float[Tensor, "batch groups keys value_width"],
    mask: Float[Tensor, "_ _ rows keys"],
    scaling: float | None,
) -> tuple[Float[Tensor, "batch heads rows value_width"], Float[Tensor, "batch heads rows"]]:
    """Return attention to each sequence's own keys, and its logarithms."""
    batch, heads, rows, _ = query.shape
    groups = key.shape[1]
    if query.dtype == torch.float32:
        scores = _scores(memory, query, key, mask, scaling)
        log = scores.logsumexp(-1)
        return _weighted(scores, value), log
    folded = query.reshape(batch, groups, heads // groups * rows, -1)
    mask = mask.expand(batch, heads, -1, -1).reshape(batch, groups, folded.shape[2], -1)
    output, log = with_shares(folded, key, value, mask, scaling)
    return output.reshape(batch, heads, rows, -1), log.reshape(batch, heads, rows)


def _attend_few(
    memory: Scores,
    query: Float[Tensor, "batch heads rows width"],
    key: Float[Tensor, "batch groups keys width"],
    value: Float[Tensor, "batch groups keys value_width"],
    mask: Shaped[Tensor, "_ _ rows visible"] | None,
    scaling: float | None,
) -> Float[Tensor, "batch rows heads value_width"] | None:
    """Return what attention adds up of the values; None where rows are many, or it is unusual."""
    common = take()
    if common is not None:
        return _attend_common(memory, common, query, key, value, mask, scaling)
    if mask is None or not mask.is_floating_point() or query.shape[2] > FEW_ROWS:
        return None
    if query.dtype != torch.float32:  # scores must not be rounded on the way
        return (
            None if query.device.type == "cpu" else _attend_folded(query, key, value, mask, scaling)
        )
    scores = _scores(memory, query, key, mask, scaling)
    return _weighted(scores, value).transpose(1, 2).contiguous()


def _scores(
    memory: Scores, query: Tensor, key: Tensor, mask: Tensor, scaling: float | None
) -> Float[Tensor, "batch heads rows keys"]:
    """Return the scores of a softmax, in memory that the next ones are written over."""
    batch, heads, rows, width = query.shape
    groups, keys = key.shape[1:3]
    folded = (batch * groups, heads // groups * rows, -1)
    scaled = (query * (width**-0.5 if scaling is None else scaling)).reshape(folded)
    scores = memory.of((batch, heads, rows, keys), query)
    torch.bmm(scaled, key.transpose(2, 3).flatten(0, 1), out=scores.view(folded))
    scores += mask
    return scores


def _weighted(
    scores: Float[Tensor, "batch heads rows keys"],
    value: Float[Tensor, "batch groups keys value_width"],
) -> Float[Tensor, "batch heads rows value_width"]:
    """Return values added up by the softmax of scores, which is written over them."""
    batch, heads, rows, keys = scores.shape
    torch.softmax(scores, -1, out=scores)
    folded = scores.view(batch * value.shape[1], heads // value.shape[1] * rows, keys)
    return torch.bmm(folded, value.flatten(0, 1)).view(batch, heads, rows, -1)


def _attend_folded(
    query: Float[Tensor, "batch heads rows width"],
    key: Float[Tensor, "batch groups keys width"],
    value: Float[Tensor, "batch groups keys value_width"],
    mask: Shaped[Tensor, "_ _ rows keys"],
    scaling: float | None,
) -> Float[Tensor, "batch rows heads value_width"] | None:
    """Return torch's own attention, the query heads that share a key as rows of one; no key moves.

    None where each head has a mask of its own.
    """
    batch, heads, rows, _ = query.shape
    shared = heads // key.shape[1]
    if mask.shape[1] != 1:
        return None
    if shared > 1:
        query = query.reshape(batch, key.shape[1], shared * rows, -1)
        mask = mask.repeat(1, 1, shared, 1) if rows > 1 else mask.expand(-1, -1, shared, -1)
    output = scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=scaling)
    return output.reshape(batch, heads, rows, -1).transpose(1, 2).contiguous()


def _folded_mask(
    mask: Float[Tensor, "sequences _ rows keys"], folds: tuple[int, int]
) -> Float[Tensor, "1 _ sequences_heads_rows keys"] | None:
    """Return a mask for the rows of several sequences and of the heads of a group, as rows of one.

    Its numbers are finite, for a row that sees none of these keys has others.
    """
    if mask.device.type == "cpu" and not mask.any():
        return None
    groups, heads = folds
    by_group = (
        mask[:, :, None].expand(-1, -1, heads, -1, -1)
        if mask.shape[1] == 1
        else mask.unflatten(1, (groups, heads))
    )
    folded = by_group.transpose(0, 1).flatten(1, 3)
    return folded.clamp(min=torch.finfo(mask.dtype).min)[None]
