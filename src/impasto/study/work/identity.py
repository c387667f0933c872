"""What a result depends on, as digests of content: the model, the task, and what computes.

A result belongs to weights, not to a path; to questions, not to a task's name. So each of the three
is told by what it holds, part by part: where two differ, `changes` can say in what.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from pathlib import Path
from typing import Any

from impasto import engine_version
from impasto.engine_version import ENGINE
from impasto.tasks import Request, Task

WAY = "way of asking"  # a part of a task that is asked to a precision
CODE = "impasto's code"  # the part that told an engine before versions: a hash
CODE_DIGITS = 16  # of the digest of impasto's code, where people read it
LIBRARIES = ("torch", "transformers", "tokenizers")
UNTOLD = ("_name_or_path", "name_or_path", "transformers_version", "_commit_hash")  # no content
ADAPTER_UNTOLD = ("base_model_name_or_path", "revision", "peft_version")  # none either
# What PEFT's layers say of themselves beside their weights.
ADAPTER_STATE = ("active_adapters", "merged_adapters", "disable_adapters", "scaling")


@dataclass(frozen=True)
class Identity:
    """What something is: its parts, by what a reader calls them, each as a short text or digest."""

    parts: Mapping[str, str]

    @property
    def digest(self) -> str:
        """A sha256 over all parts."""
        return digest_of(dict(self.parts))

    def changes(self, before: Mapping[str, str]) -> list[str]:
        """Name the parts in which it differs from an earlier one."""
        names = dict.fromkeys([*before, *self.parts])
        return [name for name in names if before.get(name) != self.parts.get(name)]


def digest_of(content: Any) -> str:
    """Return a sha256 of plain data."""
    text = json.dumps(content, sort_keys=True, ensure_ascii=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def task_identity(
    task: Task, requests: Sequence[Sequence[Request]], in_rounds: bool = False
) -> Identity:
    """Tell a task: how it is asked and judged, and what its items ask, examples and chat and all.

    The requests are those that the model will be put, so a few-shot example that is drawn from
    another file is another question. A task that is asked in rounds is told from one that is asked
    whole, which is divided otherwise.
    """
    asked = hashlib.sha256()
    for item, some in zip(task.items, requests, strict=True):
        asked.update(repr((item.id, some)).encode())
    parts = {"questions": asked.hexdigest(), "definition": task.digest}
    return Identity(parts | ({WAY: "in rounds"} if in_rounds else {}))


def model_identity(model: Any, weights: str | None = None) -> Identity:
    """Tell a model: weights, configuration, tokenizer, numbers and attention.

    `weights` is their digest where it is known already. A model without `hf`, the Hugging Face
    model, tells what it is by itself, by a mapping `identity`.
    """
    if not hasattr(model, "hf"):
        return Identity(dict(model.identity))
    config, writes = model.hf.config, getattr(model.hf, "generation_config", None)
    return Identity(
        {
            "weights": weights or weights_digest(model.hf),
            "configuration": digest_of(
                [_told(config.to_dict()), getattr(writes, "eos_token_id", None)]
            ),
            "tokenizer": tokenizer_digest(model.tokenizer),
            "numbers": str(model.hf.dtype).removeprefix("torch."),
            "attention": str(getattr(config, "_attn_implementation", None)),
            **_text_options(model),
            **_adapter_parts(model.hf),
        }
    )


def _text_options(model: Any) -> dict[str, str]:
    """Return how a model reads texts, as far as that was said; nothing where it was not."""
    options = getattr(model, "text_options", None)
    given = {} if options is None else options.given
    return {name: str(value) for name, value in given.items()}


def weights_digest(hf: Any) -> str:
    """Return a sha256 over the names, dtypes, shapes and bytes of a model's weights as loaded.

    It does not depend on where they came from, how files divide them or on which device they lie.
    """
    state = _state(hf)
    with ThreadPoolExecutor() as pool:  # hashing frees the interpreter
        told = list(pool.map(_tensor_digest, state.values()))
    return digest_of(sorted(zip(state, told, strict=True)))


def weights_stamp(hf: Any, options: Mapping[str, Any]) -> str | None:
    """Return what changes whenever the files that a model was loaded from do, in no time.

    None where that cannot be told: then its weights are to be read.
    """
    folder = _folder(hf)
    if (
        folder is None
        or getattr(hf, "peft_config", None)
        or (folder / "adapter_config.json").exists()
    ):
        return None
    found = sorted({*folder.glob("*.safetensors"), *folder.glob("*.json")})
    if not any(path.suffix == ".safetensors" for path in found):
        return None
    stats = [(path.name, str(path.resolve()), path.stat()) for path in found]
    files_told = [
        (name, place, s.st_size, s.st_mtime_ns, s.st_ctime_ns, s.st_ino) for name, place, s in stats
    ]
    libraries = [_version(name) for name in LIBRARIES]
    return digest_of([files_told, dict(options), str(hf.dtype), libraries])


def tokenizer_digest(tokenizer: Any) -> str:
    """Return a sha256 over what makes token ids of a text, the chat template included."""
    if tokenizer is None:
        return "none"
    backend = getattr(tokenizer, "backend_tokenizer", None)
    words = backend.to_str() if backend is not None else sorted(tokenizer.get_vocab().items())
    special = {name: str(value) for name, value in tokenizer.special_tokens_map.items()}
    flags = [getattr(tokenizer, f"add_{end}_token", None) for end in ("bos", "eos")]
    template = getattr(tokenizer, "chat_template", None)
    return digest_of([type(tokenizer).__name__, words, special, flags, template])


def engine_identity() -> Identity:
    """Tell what computes: the version of impasto's engine, and those of the libraries under it.

    The engine's number says which answers it gives (see `impasto.engine_version`). What a library's
    next version answers nobody has declared, so each of them counts as another engine.
    """
    number = engine_version.first_equal(engine_version.ENGINE_VERSION)
    return Identity({ENGINE: str(number), **{name: _version(name) for name in LIBRARIES}})


def cell_key(model: str, engine: str, task: str, plan: str, start: int, stop: int) -> str:
    """Return the key of a plan's answers to items `start` to `stop − 1`; all texts are digests."""
    content = {"model": model, "engine": engine, "task": task, "plan": plan}
    return digest_of({**content, "items": [start, stop]})


def study_digest(file: str, model: str, engine: str, tasks: Sequence[str]) -> str:
    """Return a sha256 over what makes it another study; all but its file are digests."""
    return digest_of([file, model, engine, *tasks])


def versions() -> dict[str, str]:
    """Return what results are traced by: versions, and the digest of impasto's own code."""
    import platform

    names = ("impasto", *LIBRARIES, "lm_eval", "datasets", "numpy")
    return {
        "python": platform.python_version(),
        **{name: _version(name) for name in names},
        "engine": str(engine_version.ENGINE_VERSION),
        "code": code_digest()[:CODE_DIGITS],
    }


@cache
def code_digest() -> str:
    """Return a sha256 over impasto's source files, by which results are traced and never kept."""
    package, digest = Path(str(files("impasto"))), hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        digest.update(f"{path.relative_to(package).as_posix()}\n".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "none"


def _told(config: Any) -> Any:
    """Return a configuration without what says where it came from."""
    if not isinstance(config, Mapping):
        return config
    return {key: _told(value) for key, value in config.items() if key not in UNTOLD}


def _adapter_parts(hf: Any) -> dict[str, str]:
    """Tell how a model's adapters act, where it has any: their weights are among the model's."""
    adapters = getattr(hf, "peft_config", None)
    if not adapters:
        return {}
    acting = [
        [name, *(str(getattr(module, what, None)) for what in ADAPTER_STATE)]
        for name, module in hf.named_modules()
        if isinstance(getattr(module, "active_adapters", None), list)
    ]
    configs = {name: _adapter_told(config.to_dict()) for name, config in adapters.items()}
    return {"adapter": digest_of([configs, acting])}


def _adapter_told(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return an adapter's configuration without what says where it came from; sets in order."""
    return {
        key: sorted(value, key=str) if isinstance(value, (set, frozenset)) else value
        for key, value in config.items()
        if key not in ADAPTER_UNTOLD
    }


def _state(hf: Any) -> dict[str, Any]:
    """Return every weight of a model by name, also those that wait on a disk."""
    from impasto.model.loading.quantised import staying_as_stored

    with staying_as_stored(hf):
        state = hf.state_dict()
    if any(getattr(tensor, "is_meta", False) for tensor in state.values()):
        from accelerate.utils.modeling import get_state_dict_offloaded_model

        state = get_state_dict_offloaded_model(hf)
    return {name: tensor for name, tensor in state.items() if hasattr(tensor, "dtype")}


def _tensor_digest(tensor: Any) -> list[Any]:
    import torch

    if hasattr(tensor, "__tensor_flatten__"):  # one made of others: whole numbers and their scales
        names, settings = tensor.__tensor_flatten__()
        inner = [[name, *_tensor_digest(getattr(tensor, name))] for name in names]
        return [type(tensor).__qualname__, re.sub(r" at 0x\w+", "", str(settings)), inner]
    plain = tensor.detach().to("cpu").contiguous()
    content = plain.reshape(-1).view(torch.uint8).numpy()
    return [str(plain.dtype), list(plain.shape), hashlib.sha256(content).hexdigest()]


def _folder(hf: Any) -> Path | None:
    """Return the folder on this machine from which a model was loaded."""
    name = getattr(hf.config, "name_or_path", "")
    if not name:
        return None
    folder = Path(name)
    if folder.is_dir():
        return folder
    from transformers.utils.hub import cached_file

    revision = getattr(hf.config, "_commit_hash", None)
    try:
        found = cached_file(name, "config.json", revision=revision, local_files_only=True)
    except (OSError, ValueError):
        return None
    return None if found is None else Path(found).parent
