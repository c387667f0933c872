"""Adapters of PEFT: small layers trained beside a base model, in a folder that names the base.

Here an adapter's folder is read; :mod:`impasto.model.loading.adapter_layers` puts its layers into
the base. Only safetensors are read; no code comes with an adapter.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers.utils.hub import cached_file

from impasto.model.structure.anatomy import ModelError
from impasto.plain_data import read_json_file

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


@dataclass(frozen=True)
class Adapter:
    """An adapter, as its folder or repository describes it.

    Attributes:
        place: The folder, or the id of the repository on a hub.
        where: The options that say where its files lie (``revision``, ``cache_dir``, …).
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
        """Return the path of a file of the adapter, downloaded if needed; None for none."""
        return _file(self.place, name, self.where)

    @property
    def has_tokenizer(self) -> bool:
        """Whether a tokenizer comes with the adapter."""
        return any(self.file(name) is not None for name in TOKENIZERS)

    def weights(self) -> Path:
        """Return the path of its weights; raises ModelError where there are no safetensors."""
        path = self.file(WEIGHTS)
        if path is not None:
            return path
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
        config = read_json_file(path)
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
    """Return a context with a place from which transformers loads the base without the adapter.

    Where both lie in one folder, that is a temporary folder of links to the base's files.
    """
    if not adapter.is_beside_base:
        yield adapter.base
        return
    with tempfile.TemporaryDirectory() as alone:
        _link(Path(adapter.base).absolute(), Path(alone))
        yield alone


def _base(place: str, folder: Path, named: Any) -> str:
    """Return the base model that an adapter names: a folder, or the id of a repository.

    A relative path is relative to the working directory, as in PEFT, or else to the adapter.
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
    """Return the path of a file of a folder or a repository; None where it cannot be had."""
    if Path(place).is_dir():
        path = Path(place, where.get("subfolder") or "", name)
        return path if path.is_file() else None
    try:
        path = cached_file(
            place,
            name,
            _raise_exceptions_for_gated_repo=False,
            _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_connection_errors=False,
            **where,
        )
    except (OSError, ValueError):  # no such repository: loading says more
        return None
    return None if path is None else Path(path)


def _link(folder: Path, alone: Path) -> None:
    """Fill a folder with links to another's files, the adapter's left out."""
    for path in folder.iterdir():
        if not path.name.startswith("adapter_"):
            (alone / path.name).symlink_to(path)
