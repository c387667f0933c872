"""How widely each head looks, read off while the unchanged model runs.

Attention's weights are looked at layer by layer and let go, so that no more than one layer's are
held at a time. Eager attention tells them; of a model on ``sdpa`` they are computed beside it, from
the queries, keys and mask that it is called with.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from impasto.model.decoder import OpenedModel
from impasto.model.structure.anatomy import ModelError
from impasto.run.attention.choice import Attention, chosen_attention


@torch.no_grad()
def attention_entropy(
    model: OpenedModel, ids: Sequence[int]
) -> Float[Tensor, "layers heads tokens"]:
    """Return the entropy, in nats, of every head's attention at every token of a text.

    Raises:
        ModelError: when the model's attention does not tell its weights.
    """
    told: dict[int, Tensor] = {}
    computed: list[Tensor] = []
    read = torch.tensor([list(ids)], device=model.device)
    with chosen_attention(model, partial(_computing, computed)), _watched(model, told):
        model.hf.base_model(input_ids=read, use_cache=False)
    if len(told) == model.num_layers:
        return torch.stack([told[layer] for layer in range(model.num_layers)])
    if len(computed) == model.num_layers:
        return torch.stack(computed)
    raise ModelError(
        f"{type(model.hf).__name__} does not tell what its attention looks at; load it with "
        'attn_implementation="eager"'
    )


def _computing(
    found: list[Tensor],
    stock: Attention,
    module: Any,
    query: Float[Tensor, "one heads tokens width"],
    key: Float[Tensor, "one groups tokens width"],
    value: Float[Tensor, "one groups tokens value_width"],
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **further: Any,
) -> tuple[Tensor, Any]:
    """Attend as the stock does, and note the entropy of each head's weights."""
    key_of_head = key.repeat_interleave(query.shape[1] // key.shape[1], 1)
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    scores = (query @ key_of_head.transpose(2, 3)).float() * scale
    if attention_mask is None:
        seen = torch.ones(scores.shape[2:], dtype=torch.bool, device=scores.device).tril()
        scores.masked_fill_(~seen, -torch.inf)
    elif attention_mask.dtype == torch.bool:
        scores.masked_fill_(~attention_mask, -torch.inf)
    else:
        scores += attention_mask
    found.append(torch.special.entr(scores.softmax(-1)).sum(-1)[0].cpu())
    return stock(
        module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **further
    )


@contextmanager
def _watched(model: OpenedModel, found: dict[int, Tensor]) -> Iterator[None]:
    """Collect the entropy of each layer's weights by layer."""
    handles = []
    try:
        for layer, block in enumerate(model.blocks):

            def watch(module: nn.Module, given: Any, output: Any, layer: int = layer) -> None:
                weights = _weights(output)
                if weights is not None:
                    found[layer] = torch.special.entr(weights.float()).sum(-1).cpu()

            handles += [part.module.register_forward_hook(watch) for part in block.attention]
        yield
    finally:
        for handle in handles:
            handle.remove()


def _weights(output: Any) -> Float[Tensor, "heads tokens tokens"] | None:
    """Return the weights among what an attention returns, if they are there: they add up to 1."""
    for value in output if isinstance(output, tuple) else ():
        if isinstance(value, Tensor) and value.ndim == 4 and value.shape[-1] == value.shape[-2]:
            sums = value.float().sum(-1)
            if torch.allclose(sums, torch.ones_like(sums), atol=1e-2):
                return value[0]
    return None
