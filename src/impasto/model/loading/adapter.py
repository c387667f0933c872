"""Adapters of PEFT: small layers trained beside a base model, in a folder that names the base.

PEFT itself puts an adapter into its base, and what comes of that is checked, not assumed: every
weight of the file has found its place, the base's own forward gives what PEFT's does, and merged
weights give what the layers gave. Only safetensors are read; no code comes with an adapter.
"""

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from torch import Tensor
from transformers import PreTrainedModel
from transformers.utils.hub import cached_file

from impasto.model.structure.absent import first_present, is_absent
from impasto.model.structure.anatomy import ModelError, find_blocks
from impasto.model.structure.stand_ins import Forwards, parameters

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PICKLED = "adapter_model.bin"
MODEL_WEIGHTS = ("model.safetensors", "model.safetensors.index.json")
# A folder with one of these has a tokenizer of its own; settings alone are none.
TOKENIZERS = (
    "tokenizer.json",
    "tokenizer.model",
    "vocab.json",
    "vocab.txt",
    "spiece.model",
    "sentencepiece.bpe.model",
)
_NAME = "default"
_SAVED = ".modules_to_save"  # PEFT writes resized embeddings with and without
# What PEFT raises where an adapter does not fit its base, or where it cannot be merged.
_UNFIT = (ValueError, RuntimeError, KeyError, TypeError, AttributeError, ImportError, OSError)


@dataclass(frozen=True)
class Adapter:
    """An adapter, as its folder or repository describes it.

    Attributes:
        place: The folder, or the id of the repository on a hub.
        where: The options that say where in it the files lie.
        kind: PEFT's name of its method: ``LORA``, ``IA3``, …
        base: The base model: a folder, or the id of a repository.
        base_where: The options that say where the base's files lie.
        is_beside_base: Whether the base's own weights lie in the same folder.
    """

    place: str
    where: dict[str, Any]
    kind: str
    base: str
    base_where: dict[str, Any]
    is_beside_base: bool = False

    def file(self, name: str) -> Path | None:
        """Return a file of the adapter on this machine, downloaded where needed; None for none."""
        return _file(self.place, name, self.where)

    @property
    def has_tokenizer(self) -> bool:
        """Whether a tokenizer comes with the adapter."""
        return any(self.file(name) is not None for name in TOKENIZERS)

    def weights(self) -> Path:
        """Return the file of its weights; raises ModelError where there are no safetensors."""
        found = self.file(WEIGHTS)
        if found is not None:
            return found
        if self.file(PICKLED) is None:
            raise ModelError(f"the adapter {self.place!r} has no {WEIGHTS}, so it has no weights")
        raise ModelError(
            f"the adapter {self.place!r} has its weights in {PICKLED}, a pickle, which may "
            "run code; only safetensors are read: load it with PEFT where you trust it, and save "
            "it again by save_pretrained"
        )


def find_adapter(place: str, where: dict[str, Any]) -> Adapter | None:
    """Return the adapter that a folder or a repository holds; None where it holds none.

    Args:
        place: The folder, or the id of a repository on a hub.
        where: The options that say where the files lie (``revision``, ``cache_dir``, …).

    Raises:
        ModelError: when its configuration is damaged, or it names no base model that there is.
    """
    path = _file(place, CONFIG, where)
    if path is None:
        return None
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        kind, named = str(config["peft_type"]), config.get("base_model_name_or_path")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(
            f"the {CONFIG} of {place!r} is no configuration of PEFT's ({error!r}); save the "
            "adapter again by PEFT's save_pretrained"
        ) from error
    is_folder = Path(place).is_dir()
    if is_folder and any((path.parent / name).is_file() for name in MODEL_WEIGHTS):
        return Adapter(place, where, kind, place, where, is_beside_base=True)
    elsewhere = {k: v for k, v in where.items() if k not in ("revision", "subfolder")}
    revision = (where.get("revision") if is_folder else None) or config.get("revision")
    if revision is not None:
        elsewhere["revision"] = revision
    return Adapter(place, where, kind, _base(place, path.parent, named), elsewhere)


def looks_like_folder(name: str) -> bool:
    """Whether a name is that of a folder even where there is none: no id on a hub looks so."""
    return name.startswith((".", "/", "~")) or name.count("/") > 1


@contextmanager
def base_alone(adapter: Adapter) -> Iterator[str]:
    """Give the place of an adapter's base, from where transformers loads it without the adapter.

    Where both lie in one folder, that is a folder of links to the base's files.
    """
    if not adapter.is_beside_base:
        yield adapter.base
        return
    with tempfile.TemporaryDirectory() as alone:
        _link(Path(adapter.base).absolute(), Path(alone))
        yield alone


@torch.no_grad()
def with_adapter(hf: PreTrainedModel, adapter: Adapter, merge: bool) -> PreTrainedModel:
    """Return a base model with an adapter's layers in place, or with its weights merged into its.

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
    hf.config.name_or_path = hf.name_or_path = adapter.place  # what was made of the base is not it
    return hf


def _check_kind(adapter: Adapter) -> None:
    """Raise ModelError where PEFT is not here, or the adapter is not one of layers."""
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
    _make_room(hf, weights)
    wrapping = PeftModelForCausalLM if config.task_type == "CAUSAL_LM" else PeftModel
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


def _make_room(hf: PreTrainedModel, weights: Path) -> None:
    """Give a model as many rows of embeddings as an adapter has that came with new tokens."""
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
    """Return what a model, or PEFT's wrapping of it, computes for a few tokens.

    A layer that is there runs in the place of each absent one.
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


def _check_same(found: Tensor, wanted: Tensor, limit: float, otherwise: str) -> None:
    """Raise ModelError where two outputs differ by more than ``limit``."""
    worst = float("inf")
    if found.shape == wanted.shape:
        worst = float((found - wanted).abs().max() / wanted.abs().max().clamp(min=1e-30))
    if not worst <= limit:
        raise ModelError(f"{otherwise} (relative difference {worst:.1e}, allowed {limit:.0e})")


def _base(place: str, folder: Path, named: Any) -> str:
    """Return the base model that an adapter names: a folder, or the id of a repository.

    A relative folder is looked for from where this process runs, as PEFT does, and then beside the
    adapter.
    """
    if not isinstance(named, str) or not named:
        raise ModelError(
            f"the adapter {place!r} names no base model; write it into base_model_name_or_path in "
            f"its {CONFIG}"
        )
    places = [Path(named).expanduser(), folder / Path(named).expanduser()]
    for each in places:
        if (each / "config.json").is_file():
            return str(each)
    if looks_like_folder(named) or any(each.exists() for each in places):
        looked = " or ".join(dict.fromkeys(str(each) for each in places))
        raise ModelError(
            f"the adapter {place!r} names the base model {named!r}, and there is no folder "
            f"{looked} with a config.json; put the base model there, or write where it is into "
            f"base_model_name_or_path in {CONFIG}"
        )
    return named


def _file(place: str, name: str, where: dict[str, Any]) -> Path | None:
    """Return a file of a folder or a repository; None where there is none in reach."""
    if Path(place).is_dir():
        path = Path(place, where.get("subfolder") or "", name)
        return path if path.is_file() else None
    try:
        found = cached_file(
            place,
            name,
            _raise_exceptions_for_gated_repo=False,
            _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_connection_errors=False,
            **where,
        )
    except (OSError, ValueError):  # no such repository: loading says more
        return None
    return None if found is None else Path(found)


def _link(folder: Path, alone: Path) -> None:
    """Fill a folder with links to another's files, the adapter's left out."""
    for path in folder.iterdir():
        if not path.name.startswith("adapter_"):
            (alone / path.name).symlink_to(path)
