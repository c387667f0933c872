"""What a machine has: devices and their rates in each dtype, packages, and space on disks."""

import os
import platform
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil
import torch
from huggingface_hub.constants import HF_HUB_CACHE

from impasto.model.loading.placing import accelerator, free_by_device
from impasto.model.structure.failing import is_out_of_memory
from impasto.speed.cards import Card, card_behind
from impasto.speed.machine import copy_rate, processor, product_rate

DTYPES = ("float32", "bfloat16", "float16")
_WIDTHS = (512, 1024, 2048, 4096, 8192)
_LONG_ENOUGH = 1e-3  # seconds of a product that a device is measured by
NEEDED = ("impasto", "torch", "transformers", "lm-eval", "datasets", "accelerate")
EXTRAS = {
    "peft": "adapters", "ray": "cluster", "gguf": "gguf", "gradio": "play",
    "bitsandbytes": "", "torchao": "", "tensorboard": "tensorboard", "wandb": "wandb",
    "mlflow": "mlflow",
}  # fmt: skip
"""Packages that something more needs, with the extra of this package that brings them."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that is wrong, or that one should know.

    Attributes:
        what: What was found, in one line.
        mend: What would mend it.
        is_wrong: Whether it is wrong; else it is a hint.
    """

    what: str
    mend: str
    is_wrong: bool = True


@dataclass(frozen=True, slots=True)
class Device:
    """A device, and its memory in bytes."""

    device: str
    name: str
    total_bytes: int
    free_bytes: int


@dataclass(frozen=True, slots=True)
class Measured:
    """What a device reaches by itself.

    Attributes:
        device: The device.
        products: Operations a second of large matrix products, by dtype; None where it has none.
        bandwidth: Bytes read and written a second in copies.
        card: The card that it is; None where its data sheet is not known here.
    """

    device: str
    products: dict[str, float | None]
    bandwidth: float
    card: Card | None


def devices() -> list[Device]:
    """Return the processor and every accelerator."""
    memory = psutil.virtual_memory()
    found = [Device("cpu", _processor(), memory.total, memory.available)]
    kind = accelerator()
    if kind is not None:
        free = free_by_device(kind.type)
        found += [
            Device(f"{kind.type}:{index}", _name(kind.type, index), _total(kind.type, index), room)
            for index, room in free.items()
        ]
    return found


def measured(device: torch.device) -> Measured:
    """Measure a device's rates, in every dtype that it has."""
    products = {name: _rate(device, getattr(torch, name)) for name in DTYPES}
    card = card_behind(_name("cuda", device.index or 0)) if device.type == "cuda" else None
    return Measured(str(device), products, copy_rate(device), card)


def _rate(device: torch.device, dtype: torch.dtype) -> float | None:
    """Return the rate of products so large that it grows no more; None without this dtype.

    Products grow until one takes long enough for its call to be a small part of it.
    """
    rate = 0.0
    for width in _WIDTHS:
        try:
            found, taken = product_rate(device, dtype, width)
        except RuntimeError as error:
            if is_out_of_memory(error) and rate:
                break
            return None
        rate = max(rate, found)
        if taken > _LONG_ENOUGH:
            break
    return rate


def packages() -> dict[str, str | None]:
    """Return the versions of packages; None for those of extras that are not there."""
    found: dict[str, str | None] = {"python": platform.python_version()}
    for name in (*NEEDED, *EXTRAS):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found


@dataclass(frozen=True, slots=True)
class Place:
    """A folder in which something is kept, with the bytes that are free on its disk."""

    what: str
    path: str
    free_bytes: int
    is_writable: bool


def places() -> list[Place]:
    """Return where models, data sets and what is for a while are kept."""
    from datasets.config import HF_DATASETS_CACHE

    kept = {
        "models": Path(HF_HUB_CACHE),
        "data sets": Path(HF_DATASETS_CACHE),
        "temporary": Path(tempfile.gettempdir()),
        "runs": Path.cwd(),
    }
    return [_place(what, path) for what, path in kept.items()]


def _place(what: str, path: Path) -> Place:
    there = next(each for each in (path, *path.parents) if each.exists())
    return Place(what, str(path), shutil.disk_usage(there).free, os.access(there, os.W_OK))


def _processor() -> str:
    return f"{processor()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads"


def _name(kind: str, index: int) -> str:
    return _asked(kind, "get_device_name", index) or kind


def _total(kind: str, index: int) -> int:
    memory = _asked(kind, "mem_get_info", index)
    return memory[1] if memory else 0


def _asked(kind: str, name: str, index: int) -> Any:
    ask: Callable[[int], Any] | None = getattr(torch.get_device_module(kind), name, None)
    return None if ask is None else ask(index)
