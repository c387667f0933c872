"""Quantising a model while it is loaded, by names that a study file can hold."""

from typing import Any

from transformers import BitsAndBytesConfig, QuantoConfig

from impasto.error import UserError, shown

# By name: the bits of a weight, and how transformers is told.
QUANTIZATIONS: dict[str, tuple[int, Any]] = {
    "4bit": (4, lambda: BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4")),
    "8bit": (8, lambda: BitsAndBytesConfig(load_in_8bit=True)),
    "quanto-int8": (8, lambda: QuantoConfig(weights="int8")),
    "quanto-int4": (4, lambda: QuantoConfig(weights="int4")),
}


def with_quantization(options: dict[str, Any]) -> dict[str, Any]:
    """Return the options of `from_pretrained` with ``quantization``, a name, put into their form.

    Raises:
        UserError: when there is no such name, or a configuration is given beside it.
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
    return options | {"quantization_config": QUANTIZATIONS[name][1]()}


def bits_of(name: str | None) -> int | None:
    """Return the bits of a quantised weight; None where a model is loaded as it is stored."""
    return None if name not in QUANTIZATIONS else QUANTIZATIONS[name][0]
