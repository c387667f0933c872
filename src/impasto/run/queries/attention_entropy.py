"""How widely each head of the unchanged model attends: the entropy of its attention weights.

The entropy is taken layer by layer while the model runs, so that no more than one layer's weights
are in memory at a time. Eager attention returns its weights; of a model on ``sdpa``, which does
not, they are computed beside it, from the queries, keys and mask that it is called with.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from impasto.model.decoder import OpenedModel
from impasto.model.structure.anatomy import ModelError
from impasto.run.attention.choice import chosen_attention, in_place_of_stock


@torch.no_grad()
def attention_entropy(
    model: OpenedModel, ids: Sequence[int]
) -> Float[Tensor, "layers heads tokens"]:
    """Return the entropy, in nats, of every head's attention at every token of a text.

    Raises:
        ModelError: when the model's attention does not return its weights.
    """
    returned: dict[int, Tensor] = {}
    computed: list[Tensor] = []
    text = torch.tensor([list(ids)], device=model.device)
    noting = partial(in_place_of_stock, partial(_note_entropy, computed))
    with chosen_attention(model, noting), _noting_weights(model, returned):
        model.hf.base_model(input_ids=text, use_cache=False)
    if len(returned) == model.num_layers:
        return torch.stack([returned[layer] for layer in range(model.num_layers)])
    if len(computed) == model.num_layers:
        return torch.stack(computed)
    raise ModelError(
        f"{type(model.hf).__name__} does not tell what its attention looks at; load it with "
        'attn_implementation="eager"'
    )


def _note_entropy(
    entropies: list[Tensor],
    query: Float[Tensor, "1 heads tokens width"],
    key: Float[Tensor, "1 groups tokens width"],
    value: Float[Tensor, "1 groups tokens value_width"],
    mask: Shaped[Tensor, "_ _ tokens tokens"] | None,
    scaling: float | None,
) -> None:
    """Note the entropy (heads × tokens) of the attention weights, and leave attending to the stock.

    Without a mask, attention is causal.
    """
    key_of_head = key.repeat_interleave(query.shape[1] // key.shape[1], 1)
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    scores = (query @ key_of_head.transpose(2, 3)).float() * scale
    if mask is None:
        visible = torch.ones(scores.shape[2:], dtype=torch.bool, device=scores.device).tril()
        scores.masked_fill_(~visible, -torch.inf)
    elif mask.dtype == torch.bool:
        scores.masked_fill_(~mask, -torch.inf)
    else:
        scores += mask
    entropies.append(torch.special.entr(scores.softmax(-1)).sum(-1)[0].cpu())


@contextmanager
def _noting_weights(model: OpenedModel, entropies: dict[int, Tensor]) -> Iterator[None]:
    """Return a context that notes, by layer, the entropy of the weights that attention returns."""
    handles = []
    try:
        for layer, block in enumerate(model.blocks):

            def note(module: nn.Module, args: Any, output: Any, layer: int = layer) -> None:
                weights = _weights(output)
                if weights is not None:
                    entropies[layer] = torch.special.entr(weights.float()).sum(-1).cpu()

            handles += [part.module.register_forward_hook(note) for part in block.attention]
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
