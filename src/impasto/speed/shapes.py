"""Models of a shape: random weights, made where they run, nothing downloaded.

What a plan saves depends on a model's shape, not on what its weights say. A shape is one of the
names below, a folder or file with a configuration of Hugging Face's, and any of its settings
replaced: ``llama-2-7b,num_hidden_layers=4``.
"""

from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM

from impasto.error import UserError
from impasto.model.loading.unreadable import UNREADABLE, reason_of
from impasto.model.structure.anatomy import ModelError
from impasto.plain_data import read_json_file, read_yaml
from impasto.run import Model
from impasto.run.load import load_decoder

_LLAMA_2: dict[str, Any] = {
    "model_type": "llama",
    "vocab_size": 32000,
    "max_position_embeddings": 4096,
}
_LLAMA_2_7B = _LLAMA_2 | {
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
}
_LLAMA_2_13B = _LLAMA_2 | {
    "hidden_size": 5120,
    "intermediate_size": 13824,
    "num_hidden_layers": 40,
    "num_attention_heads": 40,
}
_LLAMA_2_70B = _LLAMA_2 | {
    "hidden_size": 8192,
    "intermediate_size": 28672,
    "num_hidden_layers": 80,
    "num_attention_heads": 64,
    "num_key_value_heads": 8,
}
_MISTRAL_7B: dict[str, Any] = {
    "model_type": "mistral",
    "vocab_size": 32000,
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "max_position_embeddings": 32768,
    "sliding_window": 4096,
}
_PYTHIA_6_9B: dict[str, Any] = {
    "model_type": "gpt_neox",
    "vocab_size": 50432,
    "hidden_size": 4096,
    "intermediate_size": 16384,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "max_position_embeddings": 2048,
}
_SMALL_LLAMA: dict[str, Any] = {
    "model_type": "llama",
    "vocab_size": 8192,
    "hidden_size": 512,
    "intermediate_size": 1376,
    "num_hidden_layers": 16,
    "num_attention_heads": 8,
    "max_position_embeddings": 4096,
}

SHAPES: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "llama-2-7b": _LLAMA_2_7B,
        "llama-2-13b": _LLAMA_2_13B,
        "llama-2-70b": _LLAMA_2_70B,
        "mistral-7b": _MISTRAL_7B,
        "pythia-6.9b": _PYTHIA_6_9B,
        "small-llama": _SMALL_LLAMA,
    }
)


def random_model(shape: str, device: torch.device, dtype: torch.dtype) -> Model:
    """Return a model of a shape with random weights, the same ones at each call.

    Raises:
        UserError: when there is no such shape, or a setting is none of its configuration's.
        ModelError: when no decoder has such a configuration.
    """
    config = _config(shape)
    torch.manual_seed(0)
    try:
        with torch.device(device):
            hf = AutoModelForCausalLM.from_config(config, dtype=dtype).eval()
    except torch.OutOfMemoryError as error:
        raise UserError(f"a model of the shape {shape} does not fit {device}: {error}") from None
    except UNREADABLE as error:
        raise ModelError(f"{shape} is no shape of a decoder: {reason_of(error)}") from error
    model = load_decoder(hf)
    model.name = f"{shape} (random weights)"
    return model


def _config(shape: str) -> Any:
    name, *replaced = shape.split(",")
    settings = dict(_settings(name.strip()))
    kind = settings.pop("model_type", None)
    if kind not in CONFIG_MAPPING:
        raise UserError(f"{name}: model_type {kind!r} is unknown to this transformers")
    known: Any = CONFIG_MAPPING[kind]
    allowed = {*known().to_dict(), *known.attribute_map}
    for each in replaced:
        key, _, value = each.partition("=")
        if key.strip() not in allowed or not value:
            near = get_close_matches(key.strip(), allowed, n=1)
            hint = f"; did you mean {near[0]}=?" if near else ""
            raise UserError(f"{each.strip()!r} is no setting of a {kind} configuration{hint}")
        settings[key.strip()] = _value(value, each)
    try:
        return known(**settings)
    except UNREADABLE as error:
        raise UserError(f"{shape}: {reason_of(error)}") from error


def _value(text: str, setting: str) -> Any:
    return read_yaml(text, setting.strip())


def _settings(name: str) -> Mapping[str, Any]:
    if name in SHAPES:
        return SHAPES[name]
    path = Path(name).expanduser()
    path = path / "config.json" if path.is_dir() else path
    if not path.is_file():
        near = get_close_matches(name, SHAPES, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise UserError(
            f"there is no shape {name!r}: {hint}A shape is one of {', '.join(SHAPES)}, or a "
            "configuration of Hugging Face's (config.json, or its folder)"
        )
    read = read_json_file(path)
    if not isinstance(read, dict):
        raise UserError(f"{path} holds no configuration")
    return read
