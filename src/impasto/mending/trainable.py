"""What a method trains: adapters on the parts that a plan runs, its last layers, or all of them."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from impasto.error import UserError
from impasto.mending.copying import shared_copy
from impasto.mending.settings import Full, Last, Lora, Training
from impasto.model.decoder import OpenedModel
from impasto.model.loading.adapter_layers import older_names_allowed
from impasto.plan import Layer, Plan
from impasto.plan.steps import Part, walk


def student(model: OpenedModel, plan: Plan, settings: Training) -> Any:
    """Return a second model of the same weights with what is trained made its own.

    With adapters it is PEFT's model around it.

    Raises:
        UserError: when the plan leaves nothing that could be trained, peft is missing, or weights
            are of a type that cannot be trained.
    """
    if isinstance(settings, Lora):
        return _with_adapters(model, plan, settings)
    assert isinstance(settings, Last | Full)
    own = _names(model, plan, settings)
    dtype = model.hf.dtype
    if dtype == torch.float16:
        raise UserError(
            "the model's weights are float16, in which small steps are lost: load it with dtype "
            "bfloat16 or float32, or use method lora, whose adapters are float32"
        )
    return shared_copy(model.hf, own)


def _names(model: OpenedModel, plan: Plan, settings: Last | Full) -> set[str]:
    """Return the names of the weights that are trained."""
    path, layers = f"{model.anatomy.path}.", _layers(plan)
    if isinstance(settings, Last):
        layers = layers[-settings.layers :]
    names = set()
    embeddings = {id(model.hf.get_input_embeddings().weight)}
    head: Any = model.hf.get_output_embeddings()
    for name, weight in model.hf.named_parameters():
        if name.startswith(path):
            is_own = int(name.removeprefix(path).partition(".")[0]) in layers
        else:
            is_embedding = id(weight) in embeddings or "embed" in name or "wpe" in name
            is_own = isinstance(settings, Full) or not is_embedding or weight is head.weight
        if is_own and weight.is_floating_point():
            names.add(name)
    return names


def _layers(plan: Plan) -> list[int]:
    """Return the layers that a plan runs, in the order in which each runs last."""
    order = [step.index for step in walk(plan.steps) if isinstance(step, Layer)]
    return list(dict.fromkeys(reversed(order)))[::-1]


def _with_adapters(model: OpenedModel, plan: Plan, settings: Lora) -> Any:
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError as error:
        raise UserError(
            'method lora trains adapters of PEFT, which is not installed: pip install "impasto'
            '[adapters]"'
        ) from error
    copied = shared_copy(model.hf)
    modules = list(_linear(model, plan, settings.modules))
    if not modules:
        wanted = "" if settings.modules is None else f" named {', '.join(settings.modules)}"
        raise UserError(
            f"the plan {plan} runs no linear module{wanted} of {type(model.hf).__name__}, so there "
            "is nothing to put adapters on"
        )
    turned = any(isinstance(copied.get_submodule(name), Conv1D) for name in modules)
    with torch.random.fork_rng(), older_names_allowed():
        torch.manual_seed(settings.seed)
        return get_peft_model(
            copied,
            LoraConfig(
                r=settings.rank,
                lora_alpha=settings.alpha or 2 * settings.rank,  # type: ignore[arg-type]
                lora_dropout=settings.dropout,
                target_modules=modules,
                fan_in_fan_out=turned,
                task_type="CAUSAL_LM",
            ),
        )


def _linear(model: OpenedModel, plan: Plan, wanted: Sequence[str] | None) -> Iterator[str]:
    """Yield the names of the linear modules of the parts that a plan runs."""
    parts: dict[int, set[Part]] = {}
    for step in walk(plan.steps):
        if isinstance(step, Layer):
            parts.setdefault(step.index, set()).add(step.part)
    for layer, run in sorted(parts.items()):
        block = model.blocks[layer].module
        left_out = set[str]()
        if "block" not in run and len(run) == 1:
            silent = model.anatomy.mlp if run == {"attention"} else model.anatomy.attention
            left_out = set(silent)
        for name, module in block.named_modules():
            inside = any(name == each or name.startswith(f"{each}.") for each in left_out)
            is_linear = isinstance(module, nn.Linear | Conv1D) and not inside
            if is_linear and (wanted is None or name.split(".")[-1] in wanted):
                yield f"{model.anatomy.path}.{layer}.{name}"
