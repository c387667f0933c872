"""How widely each head looks, read off while the unchanged model runs.

Attention's weights are looked at layer by layer and let go, so that no more than one layer's are
held at a time. Only eager attention tells them, so the model runs with it for the length of a call.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from impasto.model.anatomy import ModelError
from impasto.model.opened import OpenedModel


@torch.no_grad()
def attention_entropy(
    model: OpenedModel, ids: Sequence[int]
) -> Float[Tensor, "layers heads tokens"]:
    """Return the entropy, in nats, of every head's attention at every token of a text.

    Raises:
        ModelError: when the model's attention does not tell its weights.
    """
    found: dict[int, Tensor] = {}
    read = torch.tensor([list(ids)], device=model.device)
    with _eager(model.hf), _watched(model, found):
        model.hf.base_model(input_ids=read, use_cache=False)
    if len(found) < model.num_layers:
        raise ModelError(f"{type(model.hf).__name__} does not tell what its attention looks at")
    return torch.stack([found[layer] for layer in range(model.num_layers)])


@contextmanager
def _eager(hf: Any) -> Iterator[None]:
    """Run a model with eager attention, and then as it was."""
    before = hf.config._attn_implementation
    if before == "eager":
        yield
        return
    if not hf._can_set_attn_implementation():
        raise ModelError(
            f"{type(hf).__name__} cannot change its attention once it is loaded, and only eager "
            'attention tells what it looks at; load it with attn_implementation="eager"'
        )
    try:
        hf.set_attn_implementation("eager")
        yield
    finally:
        hf.set_attn_implementation(before)


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
    """Return the weights among what an attention returns, if they are there."""
    for value in output if isinstance(output, tuple) else ():
        if isinstance(value, Tensor) and value.ndim == 4 and value.shape[-1] == value.shape[-2]:
            return value[0]
    return None
