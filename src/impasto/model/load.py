"""Finding a model: bundled, in a folder, on a hub, or loaded already.

Weights are read from safetensors only, and no code that comes with a checkpoint is run unless the
caller asks for it.
"""

import os
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from impasto.model.anatomy import ModelError

BUNDLED = ("demo",)


def load_hf(
    name: str | os.PathLike[str], **options: Any
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase | None]:
    """Load a Hugging Face causal language model and, where there is one, its tokenizer.

    Args:
        name: ``demo``, a folder, or a hub id.
        options: Passed on to ``AutoModelForCausalLM.from_pretrained``.

    Raises:
        ModelError: when there is no such model, or it cannot be read.
    """
    place = bundled_folder(name) if name in BUNDLED else _place(os.fspath(name))
    dtype = torch.float32 if name in BUNDLED else "auto"  # stored small, but run on any CPU
    given = {"use_safetensors": True, "trust_remote_code": False, "dtype": dtype} | options
    try:
        hf = AutoModelForCausalLM.from_pretrained(place, **given)
    except (OSError, ValueError, ImportError) as error:
        raise ModelError(_cannot_load(name, error)) from error
    return hf.eval(), _tokenizer(place, given["trust_remote_code"])


def bundled_folder(name: str | os.PathLike[str]) -> str:
    """Return the folder of a bundled model."""
    return str(files("impasto").joinpath(os.fspath(name)))


def _place(name: str) -> str:
    looks_like_folder = name.startswith((".", "/", "~")) or name.count("/") > 1
    folder = Path(name).expanduser()
    if folder.exists() or looks_like_folder:
        if not (folder / "config.json").is_file():
            what = "has no config.json" if folder.is_dir() else "is not a folder"
            raise ModelError(f"model {name!r}: {folder} {what}, so it holds no Hugging Face model")
        return str(folder)
    return name


def _tokenizer(place: str, trust: bool) -> PreTrainedTokenizerBase | None:
    try:
        return AutoTokenizer.from_pretrained(place, trust_remote_code=trust)
    except (OSError, ValueError, ImportError, TypeError):
        return None  # token ids still work; a request of text says what is missing


def _cannot_load(name: str | os.PathLike[str], error: Exception) -> str:
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return (
        f"model {os.fspath(name)!r} cannot be loaded: {reason}\n"
        f"A model is one of: {', '.join(BUNDLED)} (bundled); a folder with config.json and "
        "*.safetensors; a hub id such as meta-llama/Llama-2-7b-hf."
    )
