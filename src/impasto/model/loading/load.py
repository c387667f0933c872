"""Loading a model by its name: bundled, in a folder, on a hub, or as an adapter of one.

Weights are read from safetensors only, and no code that comes with a checkpoint is run unless the
caller asks for it.
"""

import os
import re
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from accelerate import init_empty_weights
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForMaskedLM,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from impasto.error import UserError
from impasto.model.loading.adapter import CONFIG, Adapter, base_alone, find_adapter
from impasto.model.loading.adapter_layers import with_adapter
from impasto.model.loading.exported import PlannedFolder, maps_within, read_planned
from impasto.model.loading.files import (
    BUNDLED,
    LOCATING,
    default_dtype,
    folder_on_disk,
    place_of,
    weight_bytes,
)
from impasto.model.loading.kinds import Kind, kind_of
from impasto.model.loading.placing import check_room, placed
from impasto.model.loading.quantised import keep_weights_as_stored, with_quantization
from impasto.model.loading.unreadable import (
    UNREADABLE,
    check_config,
    naming_the_model,
    reason_of,
    tokenizer_if_any,
)
from impasto.model.structure.absent import begin_without, spans, weights_are_read, with_tied
from impasto.model.structure.added_maps import maps_of, put_maps
from impasto.model.structure.anatomy import ModelError, find_blocks
from impasto.plan import Plan

# The options that are the tokenizer's alone.
_READING = ("add_bos_token",)


class LoadedCheckpoint(NamedTuple):
    """A model that was loaded by its name.

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
) -> LoadedCheckpoint:
    """Load a Hugging Face decoder or encoder and, where there is one, its tokenizer.

    Args:
        name: ``demo``, a folder, or a hub id; of a model, or of a PEFT adapter that names its base.
        plan: Load only the layers that this plan runs; the others take no memory.
        merge_adapter: Merge an adapter's weights into its base's, rather than keep its layers.
        options: Passed on to ``from_pretrained``; ``add_bos_token`` to the tokenizer's;
            ``quantization`` is a name (:data:`impasto.model.loading.quantised.QUANTIZATIONS`).

    Raises:
        ModelError: when there is no such model, or it cannot be read.
        PlanError: when the plan names a layer that the model lacks.
    """
    place = place_of(name, options.get("subfolder"))
    sized, options = options, with_quantization(options)
    reading = {key: options.pop(key) for key in _READING if key in options}
    given = {
        "use_safetensors": True,
        "trust_remote_code": False,
        "dtype": default_dtype(name),
    } | options
    size = partial(weight_bytes, name, plan, **sized)
    given = placed(given, size)
    if plan is None:  # else once it is known to be of this model's layers
        check_room(given, size())
    where = {key: given.pop(key) for key in LOCATING if key in given}
    adapter: Adapter | None = None
    try:
        adapter = find_adapter(place, where)
        if adapter is None:
            hf, plan = _load_model(place, plan, given, where, size)
        else:
            with base_alone(adapter) as base:
                hf, plan = _load_model(base, plan, given, adapter.base_where, size)
            hf = with_adapter(hf, adapter, merge_adapter)
    except UserError:
        raise
    except (*UNREADABLE, AssertionError) as error:
        raise ModelError(_cannot_load(name, adapter, error)) from error
    keep_weights_as_stored(hf)
    known = {key: given[key] for key in ("config", "trust_remote_code") if key in given}
    tokenizer = _find_tokenizer(place, adapter, known | reading, where)
    return LoadedCheckpoint(hf.eval(), tokenizer, plan)


class Outline(NamedTuple):
    """What a model's configuration says: how many layers it has (None: nothing), and its kind."""

    layers: int | None
    is_encoder: bool


@naming_the_model
def outline(name: str | os.PathLike[str], **options: Any) -> Outline:
    """Return what is known of the model that `load_hf` would return before its weights are read.

    Raises:
        ModelError: when there is no such model, or its configuration cannot be read.
    """
    place = place_of(name, options.get("subfolder"))
    where = {key: options[key] for key in LOCATING if key in options}
    given: dict[str, Any] = {"trust_remote_code": options.get("trust_remote_code", False)}
    adapter = find_adapter(place, where)
    if adapter is not None:
        place, where = adapter.base, adapter.base_where
    planned = _planned(place, where)
    config = _config(place, given, where) if planned is None else planned.config
    layers = getattr(config.get_text_config(decoder=True), "num_hidden_layers", None)
    return Outline(layers, kind_of(config).is_encoder)


@naming_the_model
def load_tokenizer(name: str | os.PathLike[str], **options: Any) -> PreTrainedTokenizerBase | None:
    """Return the tokenizer that `load_hf` returns, without the model; None where there is none.

    Raises:
        ModelError: when there is no such folder.
    """
    place = place_of(name, options.get("subfolder"))
    where = {key: options[key] for key in LOCATING if key in options}
    known = {"trust_remote_code": options.get("trust_remote_code", False)}
    reading = {key: options[key] for key in _READING if key in options}
    return _find_tokenizer(place, find_adapter(place, where), known | reading, where)


def _load_model(
    place: str,
    plan: Plan | None,
    given: dict[str, Any],
    where: dict[str, Any],
    size: Callable[[], int | None],
) -> tuple[PreTrainedModel, Plan | None]:
    """Return the model at a place, and the plan that it is loaded for (None: all layers)."""
    planned = _planned(place, where)
    if planned is not None:
        plan = _within(planned.plan, plan)
        given = given | {"config": planned.config}
    config = _config_of(place, given, where)
    kind = _kind(place, config)
    if plan is not None or maps_of(config):
        return _load_layers(place, plan, kind, given, where, size), plan
    if kind.opens is AutoModelForMaskedLM:
        return _load_encoder(place, given | where), plan
    hf, info = kind.opens.from_pretrained(place, output_loading_info=True, **given, **where)
    return _whole(hf, info, kind.is_encoder), plan


def _whole(hf: PreTrainedModel, info: dict[str, Any], is_encoder: bool) -> PreTrainedModel:
    """Return a model that was loaded, unless weights of its layers were not stored.

    Transformers draws missing weights at random. An encoder's pooler and head may be missing: who
    uses them checks for them.

    Args:
        hf: The model.
        info: The loading info of `from_pretrained`.
        is_encoder: Whether the model is an encoder.

    Raises:
        ModelError: when weights are missing, or are of another shape than the model's.
    """
    missing, mismatched = sorted(info["missing_keys"]), sorted(info["mismatched_keys"])
    if is_encoder:
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


def _kind(place: str, config: PreTrainedConfig | None) -> Kind:
    """Return how a checkpoint is opened."""
    if config is None:
        return Kind("AutoModelForCausalLM")
    try:
        return kind_of(config)
    except ModelError as error:
        raise ModelError(f"model {place!r} cannot be opened: {error}") from error


def _config(place: str, given: dict[str, Any], where: dict[str, Any]) -> PreTrainedConfig:
    return AutoConfig.from_pretrained(place, trust_remote_code=given["trust_remote_code"], **where)


def _config_of(place: str, given: dict[str, Any], where: dict[str, Any]) -> PreTrainedConfig | None:
    try:
        return given.get("config") or _config(place, given, where)
    except OSError:  # where files are missing, loading says more
        return None


def _load_encoder(place: str, given: dict[str, Any]) -> PreTrainedModel:
    """Load an encoder with the head that predicts masked tokens; without, if it is not stored."""
    hf, info = AutoModelForMaskedLM.from_pretrained(place, output_loading_info=True, **given)
    prefix = f"{hf.base_model_prefix}."
    lacking = [name for name in info["missing_keys"] if not name.startswith(prefix)]
    if lacking:
        bare = AutoModel.from_pretrained(place, output_loading_info=True, **given)
        return _whole(*bare, is_encoder=True)
    return _whole(hf, info, is_encoder=True)


def _load_layers(
    place: str,
    plan: Plan | None,
    kind: Kind,
    given: dict[str, Any],
    where: dict[str, Any],
    size: Callable[[], int | None],
) -> PreTrainedModel:
    """Load a model without the layers that a plan does not name, and with the maps that it holds.

    None loads all layers.
    """
    config = given.get("config") or _config(place, given, where)
    with init_empty_weights():
        outline: Any = kind.opens.from_config(config, trust_remote_code=given["trust_remote_code"])
    path, blocks = find_blocks(outline)
    family, layers = type(outline), frozenset(range(len(blocks)))
    if plan is not None:
        plan.check(len(blocks))
        layers = plan.layers
        if not layers:
            raise ModelError(f"the plan {plan} runs no layer, so there is nothing to load for it")
        check_room(given, size())
        layers = with_tied(outline, path, layers)
    maps = maps_within(config, path, layers)

    def begin(self: Any, *args: Any, **kwargs: Any) -> None:
        family.__init__(self, *args, **kwargs)
        begin_without(self, path, layers)
        put_maps(self, maps)

    lacking = "|".join(str(index) for index in range(len(blocks)) if index not in layers)
    not_read = rf"(^|\.){re.escape(path.rpartition('.')[2])}\.({lacking})\."
    ignored = [*(family._keys_to_ignore_on_load_unexpected or []), *([not_read] if lacking else [])]
    own = {
        "__init__": begin,
        "__module__": family.__module__,
        "_keys_to_ignore_on_load_unexpected": ignored,
    }
    partly: Any = type(family.__name__, (family,), own)
    hf, info = partly.from_pretrained(place, output_loading_info=True, **given, **where)
    hf = _whole(hf, info, kind.is_encoder)
    weights_are_read(hf, path)
    hf.__class__ = family  # from here on it is a model of its family like any other
    return hf


def _planned(place: str, where: dict[str, Any]) -> PlannedFolder | None:
    """Return the plan and configuration of an exported folder; None for any other place."""
    try:
        config = PreTrainedConfig.get_config_dict(place, **where)[0]
        check_config(config)
        return read_planned(config)
    except OSError:  # where files are missing, loading says more
        return None


def _within(held: Plan, plan: Plan | None) -> Plan:
    """Return the plan to load an exported folder for, whose own plan is ``held``.

    Raises:
        ModelError: when the plan names layers that the folder does not hold.
    """
    if plan is None:
        return held
    lacking = plan.layers - held.layers
    if lacking:
        raise ModelError(
            f"the plan {plan} names layers that this folder does not hold ({spans(lacking)}): it "
            f"was exported for {held}, with the layers {spans(held.layers)}"
        )
    return plan


def _find_tokenizer(
    place: str, adapter: Adapter | None, known: dict[str, Any], where: dict[str, Any]
) -> PreTrainedTokenizerBase | None:
    """Return a model's tokenizer; an adapter's own where it has one, else its base's."""
    if adapter is None or (adapter.is_beside_base and adapter.has_tokenizer):
        return _tokenizer(place, known, where)
    if adapter.has_tokenizer:
        try:
            config = _config(adapter.base, known, adapter.base_where)
        except OSError:
            config = None
        return _tokenizer(place, known if config is None else known | {"config": config}, where)
    return _tokenizer(adapter.base, known, adapter.base_where)


def _tokenizer(
    place: str, known: dict[str, Any], where: dict[str, Any]
) -> PreTrainedTokenizerBase | None:
    planned = _planned(place, where) if "config" not in known else None
    if planned is not None:
        known = known | {"config": planned.config}
    return tokenizer_if_any(place, folder_on_disk(place, where.get("revision")), **known, **where)


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
