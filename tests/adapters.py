"""Folders with random PEFT adapters for small random models."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import peft
import torch
from transformers import AutoModelForCausalLM

from families import family

LORA = partial(peft.LoraConfig, task_type="CAUSAL_LM", r=2)


def base_folder(folder: Path, name: str = "llama") -> Path:
    family(name).save_pretrained(folder)
    return folder


def adapter_folder(folder: Path, base: Path, config: Any, seed: int = 0, named: Any = None) -> Any:
    """Write an adapter whose every weight is random; return PEFT's model."""
    hf = AutoModelForCausalLM.from_pretrained(base)
    torch.manual_seed(seed)
    adapted: Any = peft.get_peft_model(hf, config.__class__(**config.to_dict()))
    with torch.no_grad():
        for weight in adapted.parameters():
            if weight.requires_grad:
                weight.add_(0.2 * torch.randn_like(weight))
    adapted.save_pretrained(folder)
    edit(folder, base_model_name_or_path=str(base if named is None else named))
    return adapted.eval()


def edit(folder: Path, **changes: Any) -> None:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
