"""What a model must be to be exported: a class's own modules, with plain numbers for weights.

An exported model is built anew from a configuration and given the source's weights. That holds
neither for quantised weights, which belong to modules that a quantiser put in, nor for adapters. A
quantiser is known by what transformers notes of it, or else by its weights: tensors of a class of
their own. What notes nothing is found when the model is built anew
(:func:`impasto.exporting.rebuild.check_configured`).
"""

from itertools import chain
from typing import Any

from torch import Tensor, nn
from transformers.quantizers.base import HfQuantizer

from impasto.exporting.error import ExportError
from impasto.model.loading.quantised import are_stored_anew, quantiser_of


def check_plain(hf: Any) -> None:
    """Raise ExportError where a model is quantised or holds adapters; the message says which."""
    if _has_adapters(hf):
        raise ExportError(
            "the model holds adapters, which no checkpoint of its family does; merge them first: "
            "impasto.load(folder, merge_adapter=True), or PEFT's merge_and_unload()"
        )
    quantiser = quantiser_of(hf)
    if quantiser is not None:
        is_ready = getattr(getattr(hf, "hf_quantizer", None), "pre_quantized", True)
        plain = "the weights that it was quantised from" if is_ready else "the same checkpoint"
        raise ExportError(
            f"the model is quantised ({quantiser}), and no form can hold a plan with quantised "
            f"weights; load {plain} without quantisation, export that, and quantise the exported "
            f"folder{_or_dequantised(hf)}"
        )
    odd = _odd_weight(hf)
    if odd is not None:
        name, kind = odd
        raise ExportError(
            f"the model's {name} is of the class {kind.__module__}.{kind.__qualname__}, which a "
            "quantiser makes, or whoever splits weights between devices, and no form can hold it; "
            "load the model with plain weights, export that, and quantise or split the exported "
            "folder"
        )


def _has_adapters(hf: Any) -> bool:
    """Whether PEFT's layers stand in a model; those tell which adapters are active."""
    return any(isinstance(getattr(m, "active_adapters", None), list) for m in hf.modules())


def _or_dequantised(hf: Any) -> str:
    """Say how else to come by plain weights, where the model's quantiser can make them."""
    own = getattr(type(getattr(hf, "hf_quantizer", None)), "_dequantize", None)
    if own in (None, HfQuantizer._dequantize) or are_stored_anew(hf):
        return ""
    return ". What model.dequantize(model.dtype) gives can be exported, too"


def _odd_weight(hf: Any) -> tuple[str, type] | None:
    """Return the first weight that is no plain tensor, after its name."""
    for name, weight in chain(hf.named_parameters(), hf.named_buffers()):
        if type(weight) not in (nn.Parameter, Tensor):
            return name, type(weight)
    return None
