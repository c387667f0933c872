"""A Hugging Face model out of what others have wrapped it in: PEFT, or ``torch.compile``.

A composite model that reads no text without an image or sound is such a wrapping, too, if it holds
a whole decoder of texts, head and all: plans run on that.

PEFT puts its layers into the model itself, so that the model alone computes what the wrapping does;
where it does not (learned prompts, adapters that act behind certain tokens only), there is nothing
in the layers that a plan could run. A compiled module has its original inside.
"""

from typing import Any, TypeGuard

import torch
from torch import nn
from transformers import PreTrainedModel

from impasto.model.opened import input_device
from impasto.model.structure.anatomy import ModelError
from impasto.model.structure.failing import RAISED, is_out_of_memory


def is_wrapped(model: object) -> bool:
    """Whether something is a Hugging Face model in a wrapping known here."""
    return isinstance(model, nn.Module) and (
        hasattr(model, "get_base_model") or hasattr(model, "_orig_mod")
    )


def unwrapped(model: Any) -> PreTrainedModel:
    """Return the Hugging Face model inside its wrappings; itself where it has none.

    Raises:
        ModelError: when a wrapping does something that the model alone does not, or what it holds
            is no Hugging Face model.
    """
    inner = model
    while is_wrapped(inner) and not isinstance(inner, PreTrainedModel):
        inner = inner._orig_mod if hasattr(inner, "_orig_mod") else _base(inner)
    if not isinstance(inner, PreTrainedModel):
        raise ModelError(
            f"{type(model).__name__} holds a {type(inner).__name__}, which is no Hugging Face model"
        )
    return inner


def reading_texts(hf: PreTrainedModel) -> PreTrainedModel:
    """Return the decoder inside a model that reads no text alone; any other model itself.

    Such is a model of images or sound, also one whose encoder reads those; not one that reads texts
    by an encoder.
    """
    reads_by_encoder = hf.config.is_encoder_decoder and hf.main_input_name == "input_ids"
    if reads_by_encoder or not getattr(hf.config, "sub_configs", {}):
        return hf
    inside = (module for module in hf.modules() if module is not hf)
    decoder = next((module for module in inside if _predicts_tokens(module)), None)
    if decoder is None or (_predicts_tokens(hf) and failure_on_text(hf) is None):
        return hf
    return decoder


def _predicts_tokens(module: nn.Module) -> TypeGuard[PreTrainedModel]:
    if not isinstance(module, PreTrainedModel) or not module.can_generate():
        return False
    if module.config.is_encoder_decoder:
        return False
    return module.get_output_embeddings() is not None


def failure_on_text(hf: PreTrainedModel) -> Exception | None:
    """Return what a model raises on three tokens and nothing else; None where it reads them."""
    ids = torch.arange(3, device=input_device(hf))[None]
    try:
        with torch.no_grad():
            hf(input_ids=ids, use_cache=False)
    except RAISED as error:
        if is_out_of_memory(error):
            raise
        return error
    return None


def _base(adapted: Any) -> Any:
    """Return the model that PEFT has put layers into; raises where that is not all it does."""
    configs = getattr(adapted, "peft_config", {})
    for config in configs.values() if isinstance(configs, dict) else [configs]:
        kind = getattr(config.peft_type, "value", config.peft_type)
        if getattr(config, "is_prompt_learning", False):
            raise ModelError(
                f"an adapter of the kind {kind} adds learned prompts to what the model or its "
                "attention reads, and changes no weight of a layer, so there is nothing in the "
                "layers that a plan runs; adapters of layers (LORA, IA3, OFT, …) can be used"
            )
        if getattr(config, "alora_invocation_tokens", None):
            raise ModelError(
                f"an adapter of the kind {kind} that acts only behind certain tokens "
                "(alora_invocation_tokens) cannot be used: a layer alone does not see them"
            )
    return adapted.get_base_model()
