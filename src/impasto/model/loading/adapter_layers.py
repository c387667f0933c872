"""The layers of an adapter in the model that it was trained on: put in by PEFT, and checked.

Every weight of the adapter's file must have its place, the model's own forward must give what
PEFT's wrapping of it gives, and merged weights must give what the separate layers gave.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from torch import Tensor
from transformers import PreTrainedModel

from impasto.model.loading.adapter import Adapter
from impasto.model.structure.absent import first_present, is_absent
from impasto.model.structure.anatomy import ModelError, find_blocks
from impasto.model.structure.block import Forwards, parameters

_NAME = "default"
_SAVED = ".modules_to_save"  # PEFT writes resized embeddings with and without
# PEFT raises these where an adapter does not fit its base, or cannot be merged.
_UNFIT = (ValueError, RuntimeError, KeyError, TypeError, AttributeError, ImportError, OSError)


@torch.no_grad()
def with_adapter(hf: PreTrainedModel, adapter: Adapter, merge: bool) -> PreTrainedModel:
    """Return a base model with an adapter's layers in place, or with their weights merged.

    Absent layers stay absent, and the adapter's weights for them are left out.

    Raises:
        ModelError: when the adapter changes what the model reads rather than its layers, does not
            fit this model, or cannot be merged without changing what the model computes.
    """
    _check_kind(adapter)
    weights = adapter.weights()
    if getattr(hf, "peft_config", None):
        raise ModelError(
            f"the base model {adapter.base!r} of the adapter {adapter.place!r} comes with an "
            "adapter of its own; merge that one into it first"
        )
    try:
        adapted = _put_in(hf, adapter, weights)
        own, limit = _some_output(hf, hf), 1e-4 if hf.dtype == torch.float32 else 5e-2
        _check_same(
            own,
            _some_output(hf, adapted),
            limit,
            f"the adapter {adapter.place!r} ({adapter.kind}) acts outside of the layers of the "
            "model that it is put into, where no plan runs",
        )
        if merge:
            hf = adapted.merge_and_unload(safe_merge=True)
            _check_same(
                _some_output(hf, hf),
                own,
                limit,
                f"the adapter {adapter.place!r} cannot be merged: merged, the model computes "
                "something else (weights that two modules share, for instance, cannot be merged "
                "for one of them); leave merge_adapter out",
            )
    except ModelError:
        raise
    except (*_UNFIT, SafetensorError) as error:
        reason = str(error).strip() or type(error).__name__
        does = "be merged into" if merge else "be put into"
        raise ModelError(
            f"the adapter {adapter.place!r} ({adapter.kind}) cannot {does} {adapter.base!r}: "
            f"{reason}"
        ) from error
    if merge:
        for parameter in hf.parameters():
            parameter.requires_grad_(parameter.is_floating_point())
    else:
        hf._hf_peft_config_loaded = True  # so transformers' own switches for adapters work on it
    hf.config.name_or_path = hf.name_or_path = adapter.place  # it is no longer the base
    return hf


@contextmanager
def older_names_allowed() -> Iterator[None]:
    """Let PEFT make its model in the block without a warning about PEFT's own code.

    PEFT 0.21 asks whether a model checkpoints activations by a name that transformers 5.23 calls
    deprecated, and nobody who loads or trains an adapter can change that.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
        yield


def _check_kind(adapter: Adapter) -> None:
    """Raise ModelError where PEFT is not installed, or the adapter does not change layers."""
    try:
        import peft
        from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING, PEFT_TYPE_TO_TUNER_MAPPING
    except ImportError:
        raise ModelError(
            f"{adapter.place!r} is an adapter of the kind {adapter.kind}, and the package peft, "
            "which puts it into its base model, is not installed: pip install peft"
        ) from None
    kinds = {kind.value: kind for kind in PEFT_TYPE_TO_CONFIG_MAPPING}
    if adapter.kind not in kinds:
        raise ModelError(
            f"the adapter {adapter.place!r} is of the kind {adapter.kind}, which peft "
            f"{peft.__version__} does not know; a newer one may"
        )
    tuner: Any = PEFT_TYPE_TO_TUNER_MAPPING.get(kinds[adapter.kind])
    if not hasattr(tuner, "merge_and_unload"):
        raise ModelError(
            f"the adapter {adapter.place!r} is of the kind {adapter.kind}: it adds learned prompts "
            "to what the model or its attention reads, and changes no weight of a layer, so there "
            "is nothing to put into the layers that a plan runs; adapters of layers (LORA, IA3, "
            "OFT, …) can be loaded"
        )


def _put_in(hf: PreTrainedModel, adapter: Adapter, weights: Path) -> Any:
    """Put an adapter's layers into a model; return PEFT's wrapping of it."""
    from peft import PeftConfig, PeftModel, PeftModelForCausalLM

    config = PeftConfig.from_pretrained(str(weights.parent))
    config.inference_mode = True
    if getattr(config, "alora_invocation_tokens", None):
        raise ModelError(
            f"the adapter {adapter.place!r} acts only behind certain tokens of the text "
            "(alora_invocation_tokens), which a layer alone does not see; it cannot be loaded"
        )
    _resize_embeddings(hf, weights)
    wrapping = PeftModelForCausalLM if config.task_type == "CAUSAL_LM" else PeftModel
    with older_names_allowed():
        adapted: Any = wrapping(hf, config, _NAME, autocast_adapter_dtype=False)
    loaded = adapted.load_adapter(
        str(weights.parent), _NAME, torch_device="cpu", autocast_adapter_dtype=False
    )
    with safe_open(weights, "pt") as stored:
        twice = {key for key in stored.keys() if key.replace(_SAVED, "") in stored.keys()}  # noqa: SIM118
    unread = [
        key
        for key in loaded.unexpected_keys
        if not _is_of_absent(hf, key) and not (_SAVED in key and key in twice)
    ]
    if loaded.missing_keys or unread:
        lost = [*(f"{key} is not in its file" for key in loaded.missing_keys)]
        lost += [f"{key} has no place in the model" for key in unread]
        raise ModelError(
            f"the adapter {adapter.place!r} does not fit the model {adapter.base!r}, a "
            f"{type(hf).__name__}: {lost[0]}"
            + (f" (and {len(lost) - 1} more)" if len(lost) > 1 else "")
        )
    return adapted.eval()


def _resize_embeddings(hf: PreTrainedModel, weights: Path) -> None:
    """Resize a model's embeddings to those of an adapter that comes with new tokens."""
    names = {f"{name}.weight" for name, part in hf.named_modules() if part is _embeddings(hf)}
    with safe_open(weights, "pt") as stored:
        for key in stored.keys():  # noqa: SIM118
            if any(key.endswith(name) for name in names) and "lora" not in key:
                rows = stored.get_slice(key).get_shape()[0]
                if rows != _embeddings(hf).weight.shape[0]:
                    hf.resize_token_embeddings(rows)
                return


def _embeddings(hf: PreTrainedModel) -> Any:
    return hf.get_input_embeddings()


def _is_of_absent(hf: PreTrainedModel, key: str) -> bool:
    """Whether a weight's name is that of one in a layer that is not loaded."""
    path, blocks = find_blocks(hf)
    layer = key.partition(f"{path}.")[2].partition(".")[0]
    return layer.isdecimal() and int(layer) < len(blocks) and is_absent(blocks[int(layer)])


def _some_output(hf: PreTrainedModel, model: Any) -> Float[Tensor, "..."]:
    """Return the output of a model, or of PEFT's wrapping of it, for five tokens.

    The first loaded layer runs in the place of each absent one.
    """
    blocks = find_blocks(hf)[1]
    present = first_present(blocks)
    stand_ins = [(block, present.forward) for block in blocks if is_absent(block) and present]
    ids = torch.arange(5, device=_embeddings(hf).weight.device)[None]
    ids = ids % hf.config.get_text_config(decoder=True).vocab_size
    given: dict[str, Any] = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if "use_cache" in parameters(type(hf)):
        given["use_cache"] = False
    with Forwards(stand_ins):
        return model(**given)[0].detach().float().clone()


def _check_same(
    output: Float[Tensor, "..."], expected: Float[Tensor, "..."], limit: float, otherwise: str
) -> None:
    """Raise ModelError where two outputs differ by more than ``limit``."""
    worst = float("inf")
    if output.shape == expected.shape:
        worst = float((output - expected).abs().max() / expected.abs().max().clamp(min=1e-30))
    if not worst <= limit:
        raise ModelError(f"{otherwise} (relative difference {worst:.1e}, allowed {limit:.0e})")
