"""Quantising a model while it is loaded, by names that a study file can hold.

Only weights are rounded, or what a layer reads one token at a time: where a token's rounding goes
by the others of a call, its states do, too, and no plan can be a function of the tokens before.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

from impasto.error import UserError, shown


class Quantization(NamedTuple):
    """A way to quantise weights.

    Attributes:
        bits: The bits of a weight.
        by: The package that does it, which must be installed.
        config: Makes what transformers is told.
    """

    bits: int
    by: str
    config: Callable[[], Any]


def _bitsandbytes(**settings: Any) -> Any:
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(**settings)


def _quanto(weights: str) -> Any:
    from transformers import QuantoConfig

    return QuantoConfig(weights=weights)


def _torchao(kind: str, **settings: Any) -> Any:
    import torchao.quantization as kinds
    from transformers import TorchAoConfig

    return TorchAoConfig(getattr(kinds, kind)(**settings))


def _torchao_int4() -> Any:
    import torch
    from torchao.quantization import PerGroup

    four_bits: Any = torch.int4  # type: ignore[attr-defined]
    return _torchao("IntxWeightOnlyConfig", weight_dtype=four_bits, granularity=PerGroup(32))


QUANTIZATIONS: dict[str, Quantization] = {
    "4bit": Quantization(
        4,
        "bitsandbytes",
        lambda: _bitsandbytes(load_in_4bit=True, bnb_4bit_quant_type="nf4"),
    ),
    # Units that exceed a threshold for any token of a call would be treated apart for all of them.
    "8bit": Quantization(
        8,
        "bitsandbytes",
        lambda: _bitsandbytes(load_in_8bit=True, llm_int8_threshold=0.0),
    ),
    "torchao-int8": Quantization(8, "torchao", lambda: _torchao("Int8WeightOnlyConfig")),
    "torchao-int4": Quantization(4, "torchao", _torchao_int4),
    "quanto-int8": Quantization(8, "optimum-quanto", lambda: _quanto("int8")),
    "quanto-int4": Quantization(4, "optimum-quanto", lambda: _quanto("int4")),
}


_STORES_ANEW = "support_avx512bf16_for_cpu"  # an attribute of bitsandbytes' 4-bit layers


def with_quantization(options: dict[str, Any]) -> dict[str, Any]:
    """Return the options of `from_pretrained` with ``quantization``, a name, put into their form.

    Raises:
        UserError: when there is no such name, its package is missing, or a configuration is given
            beside it.
    """
    options = dict(options)
    name = options.pop("quantization", None)
    if name is None:
        return options
    if not isinstance(name, str) or name not in QUANTIZATIONS:
        raise UserError(
            f"quantization is one of {', '.join(QUANTIZATIONS)}, not {shown(name)}; any other goes "
            "through quantization_config, as transformers has it"
        )
    if "quantization_config" in options:
        raise UserError("quantization and quantization_config say the same; give one of them")
    way = QUANTIZATIONS[name]
    try:
        config = way.config()
    except ImportError as error:
        raise UserError(
            f"quantization={name!r} takes the package {way.by}: pip install {way.by} ({error})"
        ) from error
    return options | {"quantization_config": config}


def bits_of(name: str | None) -> int | None:
    """Return the bits of a quantised weight; None where a model is loaded as it is stored."""
    return None if name not in QUANTIZATIONS else QUANTIZATIONS[name].bits


def keep_weights_as_stored(hf: Any) -> None:
    """Keep bitsandbytes from storing 4-bit weights anew in a model that was just loaded.

    On some processors (AVX-512 with bfloat16) its layers do so when they are first called. From
    then on they round what they read to bfloat16, whatever the model's dtype, and `state_dict`
    puts the weights back in a wrong order.
    """
    for module in hf.modules():
        if hasattr(module, _STORES_ANEW):
            setattr(module, _STORES_ANEW, False)


def are_stored_anew(hf: Any) -> bool:
    """Whether bitsandbytes has stored 4-bit weights of a model anew, for a processor's kernel."""
    return any(True for _ in _stored_anew(hf))


@contextmanager
def staying_as_stored(hf: Any) -> Iterator[None]:
    """Return a context in which `state_dict` leaves the weights of a model as they are.

    Of those that bitsandbytes has stored anew, it would otherwise leave ones in a wrong order.
    """
    before = [(w, w.data, w.quant_state, dict(vars(w.quant_state))) for w in _stored_anew(hf)]
    try:
        yield
    finally:
        for weight, data, state, fields in before:
            weight.data, weight.quant_state = data, state
            vars(state).clear()
            vars(state).update(fields)


def _stored_anew(hf: Any) -> Iterator[Any]:
    for module in hf.modules():
        weight = getattr(module, "weight", None)
        if getattr(getattr(weight, "quant_state", None), "packing_format_for_cpu", False):
            yield weight


def quantiser_of(hf: Any) -> str | None:
    """Return what transformers notes of how a model was quantised; None where it notes nothing."""
    quantizer, noted = getattr(hf, "hf_quantizer", None), _noted(hf)
    if noted is not None:
        return _method(noted)
    if quantizer is not None:
        return type(quantizer).__name__
    if getattr(hf, "is_quantized", False):
        return _text(getattr(hf, "quantization_method", None) or "it does not say how")
    return None


def remedy(hf: Any) -> str:
    """Return what a refusal of a quantised model's numbers goes on with; empty for any other.

    Rounding what a layer reads lets the smallest difference grow into one of a whole step.
    """
    quantiser = quantiser_of(hf)
    if quantiser is None:
        return ""
    if getattr(_noted(hf), "llm_int8_threshold", 0) and getattr(_noted(hf), "load_in_8bit", False):
        return (
            "; bitsandbytes' 8-bit layers treat units apart that exceed llm_int8_threshold for any "
            "token of a call: load the model with quantization='8bit' or 'torchao-int8', or with a "
            "BitsAndBytesConfig whose llm_int8_threshold is 0"
        )
    return (
        f"; the model is quantised ({quantiser}), and where that rounds what layers read, too, "
        "small differences grow: quantization='4bit' or 'torchao-int8' round weights alone"
    )


def _noted(hf: Any) -> Any:
    """Return the quantiser's configuration that is noted on a model; None for none."""
    config = hf.config
    inner = [getattr(config, name, None) for name in getattr(config, "sub_configs", ())]
    for place in (getattr(hf, "hf_quantizer", None), config, *inner):
        noted = getattr(place, "quantization_config", None)
        if noted is not None:
            return noted
    return None


def _method(config: Any) -> str:
    """Return the name of the method in a quantiser's configuration, an object or a mapping."""
    if isinstance(config, Mapping):
        return _text(config.get("quant_method", "it does not say how"))
    return _text(getattr(config, "quant_method", None) or type(config).__name__)


def _text(method: Any) -> str:
    return str(getattr(method, "value", method))
