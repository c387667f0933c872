"""Finding a model: bundled, in a folder, on a hub, or loaded already.

Weights are read from safetensors only, and no code that comes with a checkpoint is run unless the
caller asks for it.
"""

import json
import os
import re
from importlib.resources import files
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import torch
from accelerate import init_empty_weights
from huggingface_hub import try_to_load_from_cache
from safetensors import safe_open
from transformers import (
    MODEL_FOR_MASKED_LM_MAPPING,
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from impasto.error import UserError
from impasto.model.loading.adapter import (
    CONFIG,
    Adapter,
    base_alone,
    find_adapter,
    looks_like_folder,
    with_adapter,
)
from impasto.model.loading.exported import PlannedFolder, read_planned
from impasto.model.loading.unreadable import (
    UNREADABLE,
    naming_the_model,
    reason_of,
    tokenizer_if_any,
)
from impasto.model.structure.absent import empty_blocks, spans
from impasto.model.structure.anatomy import ModelError, find_blocks
from impasto.plan import Plan

BUNDLED = ("demo",)
_STORED = {"F64": 8, "I64": 8, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1, "I8": 1, "U8": 1}
# How an encoder is opened, by what its checkpoint calls itself; else without a head.
_HEADS = {
    "ForMaskedLM": AutoModelForMaskedLM,
    "ForPreTraining": AutoModelForMaskedLM,
    "ForSequenceClassification": AutoModelForSequenceClassification,
    "ForTokenClassification": AutoModelForTokenClassification,
    "ForQuestionAnswering": AutoModelForQuestionAnswering,
}
# The options that say where a model's files lie, of whatever kind these are.
_WHERE = ("revision", "token", "cache_dir", "local_files_only", "subfolder", "force_download")
# The options that are the tokenizer's alone.
_READING = ("add_bos_token",)


class Loaded(NamedTuple):
    """What a name stands for.

    Attributes:
        hf: The Hugging Face model.
        tokenizer: Its tokenizer, where it has one.
        plan: The plan that it was loaded for; None where it has all its layers.
    """

    hf: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase | None
    plan: Plan | None


def load_hf(
    name: str | os.PathLike[str],
    plan: Plan | None = None,
    merge_adapter: bool = False,
    **options: Any,
) -> Loaded:
    """Load a Hugging Face decoder or encoder and, where there is one, its tokenizer.

    Args:
        name: ``demo``, a folder, or a hub id; of a model, or of a PEFT adapter that names its base.
        plan: Load only the layers that this plan runs; the others are neither read nor held.
        merge_adapter: Merge an adapter's weights into its base's, rather than keep its layers.
        options: Passed on to ``from_pretrained``; ``add_bos_token`` to the tokenizer's.

    Raises:
        ModelError: when there is no such model, or it cannot be read.
        PlanError: when the plan names a layer that the model lacks.
    """
    place = _place(name, options.get("subfolder"))
    reading = {key: options.pop(key) for key in _READING if key in options}
    given = {"use_safetensors": True, "trust_remote_code": False, "dtype": _dtype(name)} | options
    told = {key: given.pop(key) for key in _WHERE if key in given}
    adapter: Adapter | None = None
    try:
        adapter = find_adapter(place, told)
        if adapter is None:
            hf, plan = _load_model(place, plan, given, told)
        else:
            with base_alone(adapter) as base:
                hf, plan = _load_model(base, plan, given, adapter.base_where)
            hf = with_adapter(hf, adapter, merge_adapter)
    except UserError:
        raise
    except (*UNREADABLE, AssertionError) as error:
        raise ModelError(_cannot_load(name, adapter, error)) from error
    known = {key: given[key] for key in ("config", "trust_remote_code") if key in given}
    tokenizer = _find_tokenizer(place, adapter, known | reading, told)
    return Loaded(hf.eval(), tokenizer, plan)


@naming_the_model
def load_tokenizer(name: str | os.PathLike[str], **options: Any) -> PreTrainedTokenizerBase | None:
    """Return the tokenizer that `load_hf` finds, without the model; None where there is none.

    Raises:
        ModelError: when there is no such folder.
    """
    place = _place(name, options.get("subfolder"))
    told = {key: options[key] for key in _WHERE if key in options}
    known = {"trust_remote_code": options.get("trust_remote_code", False)}
    reading = {key: options[key] for key in _READING if key in options}
    return _find_tokenizer(place, find_adapter(place, told), known | reading, told)


@naming_the_model
def weight_bytes(name: str | os.PathLike[str], **options: Any) -> int | None:
    """Return the memory that a model's weights take once it is loaded, reading none of them.

    None where the files are not on this machine.

    Raises:
        ModelError: when there is no such folder.
    """
    place = _place(name, options.get("subfolder"))
    told = {key: options[key] for key in _WHERE if key in options} | {"local_files_only": True}
    dtype = options.get("dtype", _dtype(name))
    adapter = find_adapter(place, told)
    if adapter is None:
        return _bytes_at(place, options.get("revision"), dtype)
    base = _bytes_at(adapter.base, adapter.base_where.get("revision"), dtype)
    return None if base is None else base + adapter.weights().stat().st_size


def _bytes_at(place: str, revision: str | None, dtype: Any) -> int | None:
    """Return the bytes of the weights at a place; None where they are not on this machine."""
    folder = _local(place, revision)
    if folder is None:
        return None
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        found = json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()
        files = [folder / file for file in sorted(set(found))]
    else:
        files = sorted(p for p in folder.glob("*.safetensors") if not p.name.startswith("adapter_"))
    wanted = getattr(torch, dtype) if isinstance(dtype, str) and dtype != "auto" else dtype
    total = 0
    for file in files:
        if not file.is_file():
            return None
        with safe_open(file, "pt") as weights:
            for key in weights.keys():  # noqa: SIM118
                part = weights.get_slice(key)
                stored = _STORED.get(part.get_dtype(), 4)
                size = wanted.itemsize if isinstance(wanted, torch.dtype) else stored
                total += prod(part.get_shape()) * size
    return total or None


def _load_model(
    place: str, plan: Plan | None, given: dict[str, Any], told: dict[str, Any]
) -> tuple[PreTrainedModel, Plan | None]:
    """Load the model at a place; return it after the plan that it is loaded for."""
    planned = _planned(place, told)
    if planned is not None:
        plan = _within(planned.plan, plan)
        given = given | {"config": planned.config}
    kind = _kind(place, given, told)
    if plan is not None:
        return _load_layers(place, plan, kind, given, told), plan
    if kind is AutoModelForMaskedLM:
        return _load_encoder(place, given | told), plan
    return _whole(*kind.from_pretrained(place, output_loading_info=True, **given, **told)), plan


def _whole(hf: PreTrainedModel, found: dict[str, Any]) -> PreTrainedModel:
    """Return a model that was loaded, unless numbers of its layers were not stored.

    Transformers draws at random what it does not find. An encoder's pooler and head may be missing:
    whoever reads them looks for them.

    Raises:
        ModelError: when weights are missing, or are of another shape than the model's.
    """
    missing, mismatched = sorted(found["missing_keys"]), sorted(found["mismatched_keys"])
    if not hf.can_generate():
        prefix = f"{hf.base_model_prefix}." if hf.base_model is not hf else ""
        missing = [name for name in missing if name.startswith(prefix) and "pooler." not in name]
    for names, fault in ((missing, "are not stored"), (mismatched, "are stored in other shapes")):
        if names:
            first = names[0] if isinstance(names[0], str) else names[0][0]
            raise ModelError(
                f"the weights of {type(hf).__name__} are not all there: {len(names)} {fault} "
                f"({first}, …), and random ones would stand in for them; is config.json that of "
                "another model?"
            )
    return hf


def _kind(place: str, given: dict[str, Any], told: dict[str, Any]) -> Any:
    """Return the class that opens a checkpoint: decoders with their head, encoders with theirs."""
    try:
        config = given.get("config") or _config(place, given, told)
    except OSError:  # of what is not there, loading says more
        return AutoModelForCausalLM
    named = next(iter(getattr(config, "architectures", None) or ()), "")
    is_decoder = getattr(config, "is_decoder", False) or named.endswith(("CausalLM", "LMHeadModel"))
    is_masked = type(config) in MODEL_FOR_MASKED_LM_MAPPING
    if not is_masked or config.is_encoder_decoder or is_decoder:
        return AutoModelForCausalLM
    return next((kind for end, kind in _HEADS.items() if named.endswith(end)), AutoModel)


def _config(place: str, given: dict[str, Any], told: dict[str, Any]) -> PreTrainedConfig:
    return AutoConfig.from_pretrained(place, trust_remote_code=given["trust_remote_code"], **told)


def _load_encoder(place: str, given: dict[str, Any]) -> PreTrainedModel:
    """Load an encoder with the head that predicts masked tokens; without, if it is not stored."""
    hf, found = AutoModelForMaskedLM.from_pretrained(place, output_loading_info=True, **given)
    prefix = f"{hf.base_model_prefix}."
    lacking = [name for name in found["missing_keys"] if not name.startswith(prefix)]
    if lacking:
        return _whole(*AutoModel.from_pretrained(place, output_loading_info=True, **given))
    return _whole(hf, found)


def _load_layers(
    place: str, plan: Plan, kind: Any, given: dict[str, Any], told: dict[str, Any]
) -> PreTrainedModel:
    """Load a model without the layers that a plan does not name."""
    config = given.get("config") or _config(place, given, told)
    with init_empty_weights():
        outline: Any = kind.from_config(config, trust_remote_code=given["trust_remote_code"])
    path, blocks = find_blocks(outline)
    plan.check(len(blocks))
    family, kept = type(outline), plan.layers
    if not kept:
        raise ModelError(f"the plan {plan} runs no layer, so there is nothing to load for it")

    def begin(self: Any, *args: Any, **kwargs: Any) -> None:
        family.__init__(self, *args, **kwargs)
        empty_blocks(find_blocks(self)[1], kept)

    lacking = "|".join(str(index) for index in range(len(blocks)) if index not in kept)
    not_read = rf"(^|\.){re.escape(path.rpartition('.')[2])}\.({lacking})\."
    ignored = [*(family._keys_to_ignore_on_load_unexpected or []), *([not_read] if lacking else [])]
    own = {
        "__init__": begin,
        "__module__": family.__module__,
        "_keys_to_ignore_on_load_unexpected": ignored,
    }
    loaded = type(family.__name__, (family,), own).from_pretrained(
        place, output_loading_info=True, **given, **told
    )
    hf = _whole(*loaded)
    hf.__class__ = family  # from here on it is a model of its family like any other
    return hf


def _planned(place: str, told: dict[str, Any]) -> PlannedFolder | None:
    """Return what an exported folder holds; None for any other, also where nothing can be read."""
    try:
        return read_planned(PreTrainedConfig.get_config_dict(place, **told)[0])
    except OSError:  # of what is not there, loading says more
        return None


def _within(held: Plan, plan: Plan | None) -> Plan:
    """Return the plan to load a folder for that holds another plan's layers."""
    if plan is None:
        return held
    lacking = plan.layers - held.layers
    if lacking:
        raise ModelError(
            f"the plan {plan} names layers that this folder does not hold ({spans(lacking)}): it "
            f"was exported for {held}, with the layers {spans(held.layers)}"
        )
    return plan


def bundled_folder(name: str | os.PathLike[str]) -> str:
    """Return the folder of a bundled model."""
    return str(files("impasto").joinpath(os.fspath(name)))


def _place(name: str | os.PathLike[str], subfolder: str | None = None) -> str:
    """Return what a name stands for: a folder, or the id of a model on a hub."""
    if name in BUNDLED:
        return bundled_folder(name)
    name = os.fspath(name)
    folder = Path(name).expanduser()
    if folder.exists() or looks_like_folder(name):
        inner = folder / (subfolder or "")
        if not any((inner / file).is_file() for file in ("config.json", CONFIG)):
            what = f"has no config.json and no {CONFIG}" if inner.is_dir() else "is not a folder"
            raise ModelError(
                f"model {name!r}: {inner} {what}, so it holds neither a Hugging Face model nor an "
                "adapter for one"
            )
        return str(folder)
    return name


def _local(place: str, revision: str | None) -> Path | None:
    """Return the folder on this machine that holds a model's files."""
    if Path(place).is_dir():
        return Path(place)
    found = try_to_load_from_cache(place, "config.json", revision=revision)
    return Path(found).parent if isinstance(found, str) else None


def _dtype(name: str | os.PathLike[str]) -> Any:
    """Return the numbers that a model is loaded with unless somebody says otherwise."""
    return torch.float32 if name in BUNDLED else "auto"  # stored small, but run on any CPU


def _find_tokenizer(
    place: str, adapter: Adapter | None, known: dict[str, Any], told: dict[str, Any]
) -> PreTrainedTokenizerBase | None:
    """Return a model's tokenizer; an adapter's own where it has one, else its base's."""
    if adapter is None or (adapter.is_beside_base and adapter.has_tokenizer):
        return _tokenizer(place, known, told)
    if adapter.has_tokenizer:
        try:
            config = _config(adapter.base, known, adapter.base_where)
        except OSError:
            config = None
        return _tokenizer(place, known if config is None else known | {"config": config}, told)
    return _tokenizer(adapter.base, known, adapter.base_where)


def _tokenizer(
    place: str, known: dict[str, Any], told: dict[str, Any]
) -> PreTrainedTokenizerBase | None:
    planned = _planned(place, told) if "config" not in known else None
    if planned is not None:
        known = known | {"config": planned.config}
    return tokenizer_if_any(place, _local(place, told.get("revision")), **known, **told)


def _cannot_load(name: str | os.PathLike[str], adapter: Adapter | None, error: Exception) -> str:
    what = f"model {os.fspath(name)!r}"
    if adapter is not None:
        what = f"the base model {adapter.base!r}, which the adapter {adapter.place!r} names,"
    return (
        f"{what} cannot be loaded: {reason_of(error)}\n"
        f"A model is one of: {', '.join(BUNDLED)} (bundled); a folder with config.json and "
        f"*.safetensors, or with {CONFIG} and adapter_model.safetensors; a hub id such as "
        "meta-llama/Llama-2-7b-hf."
    )
