"""Where a model's files lie on this machine, and how much memory its weights take."""

import os
import re
from importlib.resources import files
from math import prod
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import try_to_load_from_cache
from safetensors import safe_open

from impasto.model.loading.adapter import CONFIG, find_adapter, looks_like_folder
from impasto.model.loading.quantised import bits_of
from impasto.model.loading.unreadable import naming_the_model
from impasto.model.structure.anatomy import ModelError
from impasto.plain_data import read_json_file
from impasto.plan import Plan

BUNDLED = ("demo",)
_ITEM_BYTES = {
    "F64": 8,
    "I64": 8,
    "F16": 2,
    "BF16": 2,
    "F8_E4M3": 1,
    "F8_E5M2": 1,
    "I8": 1,
    "U8": 1,
}
_IN_LAYER = re.compile(r"((?:[^.]*[^.\d][^.]*\.)+?)(\d+)\.")  # a weight's name: list and layer
# The options of `from_pretrained` that say where files lie.
LOCATING = ("revision", "token", "cache_dir", "local_files_only", "subfolder", "force_download")


@naming_the_model
def weight_bytes(
    name: str | os.PathLike[str], plan: Plan | None = None, **options: Any
) -> int | None:
    """Return the memory in bytes that a model's weights take once loaded; none of them is read.

    None where the files are not on this machine. Of a ``plan``, only its layers are loaded.

    Raises:
        ModelError: when there is no such folder.
    """
    place = place_of(name, options.get("subfolder"))
    where = {key: options[key] for key in LOCATING if key in options} | {"local_files_only": True}
    dtype = options.get("dtype", default_dtype(name))
    adapter, bits = find_adapter(place, where), bits_of(options.get("quantization"))
    if adapter is None:
        return _bytes_at(place, options.get("revision"), dtype, bits, plan)
    base = _bytes_at(adapter.base, adapter.base_where.get("revision"), dtype, bits, plan)
    return None if base is None else base + adapter.weights().stat().st_size


def _bytes_at(
    place: str, revision: str | None, dtype: Any, bits: int | None, plan: Plan | None
) -> int | None:
    """Return the bytes of the weights at a place; None where they are not on this machine.

    ``bits`` are those of a weight where the model is quantised, its embeddings and head excepted.
    """
    folder = folder_on_disk(place, revision)
    if folder is None:
        return None
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        paths = [folder / name for name in _shards(index)]
    else:
        paths = sorted(p for p in folder.glob("*.safetensors") if not p.name.startswith("adapter_"))
    wanted = getattr(torch, dtype) if isinstance(dtype, str) and dtype != "auto" else dtype
    sizes: dict[str, float] = {}
    for path in paths:
        if not path.is_file():
            return None
        with safe_open(path, "pt") as weights:
            for key in weights.keys():  # noqa: SIM118
                part = weights.get_slice(key)
                stored = _ITEM_BYTES.get(part.get_dtype(), 4)
                size = wanted.itemsize if isinstance(wanted, torch.dtype) else stored
                if bits is not None and len(part.get_shape()) == 2 and not _is_kept(key):
                    size = bits / 8
                sizes[key] = float(prod(part.get_shape()) * size)
    return int(sum(sizes.values()) - (0.0 if plan is None else _left_out(sizes, plan))) or None


def _left_out(sizes: dict[str, float], plan: Plan) -> float:
    """Return the bytes of the layers that a plan does not name: of the largest list of layers."""
    lists: dict[str, dict[int, float]] = {}
    for key, size in sizes.items():
        if found := _IN_LAYER.match(key):
            layers = lists.setdefault(found[1], {})
            layers[int(found[2])] = layers.get(int(found[2]), 0.0) + size
    blocks = max(
        lists.values(), key=lambda layers: sum(layers.values()), default=dict[int, float]()
    )
    return sum((size for layer, size in blocks.items() if layer not in plan.layers), 0.0)


def _shards(index: Path) -> list[str]:
    """Return the files of weights that an index names; raises ModelError where it names none."""
    read = read_json_file(index)
    names = read.get("weight_map") if isinstance(read, dict) else None
    if not isinstance(names, dict) or not all(isinstance(name, str) for name in names.values()):
        raise ModelError(f"{index} names no files of weights: its weight_map is damaged")
    return sorted(set(names.values()))


def _is_kept(name: str) -> bool:
    """Whether a weight is that of an embedding or a head, which quantisers leave as they are."""
    return "emb" in name or "head" in name or "wte" in name


def bundled_folder(name: str | os.PathLike[str]) -> str:
    """Return the folder of a model that comes with the package."""
    return str(files("impasto").joinpath(os.fspath(name)))


def place_of(name: str | os.PathLike[str], subfolder: str | None = None) -> str:
    """Return the folder or the hub id that a model's name stands for.

    Raises:
        ModelError: when the name is that of a folder, and it holds no model and no adapter.
    """
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


def folder_on_disk(place: str, revision: str | None) -> Path | None:
    """Return the folder on this machine that holds a model's files; None where there is none."""
    if Path(place).is_dir():
        return Path(place)
    config = try_to_load_from_cache(place, "config.json", revision=revision)
    return Path(config).parent if isinstance(config, str) else None


def default_dtype(name: str | os.PathLike[str]) -> Any:
    """Return the ``dtype`` option that a model is loaded with unless the caller gives one."""
    return torch.float32 if name in BUNDLED else "auto"  # stored small, but run on any CPU
