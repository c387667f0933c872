"""What a result depends on, as digests of content: the model, the task, and what computes.

A result belongs to weights, not to a path; to questions, not to a task's name. So each of the three
is told by what it holds, part by part: where two differ, `changes` can say in what.
"""

import ast
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

from impasto.tasks import Request, Task

ASKING = ("study/work/asking.py", "study/work/scoring.py")
COMPUTING = ("plan", "model", "run", "heads", "tasks", *ASKING)
LIBRARIES = ("torch", "transformers", "tokenizers")
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
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


def task_identity(task: Task, requests: Sequence[Sequence[Request]]) -> Identity:
    """Tell a task: how it is asked and judged, and what its items ask, examples and chat and all.

    The requests are those that the model will be put, so a few-shot example that is drawn from
    another file is another question.
    """
    asked = hashlib.sha256()
    for item, some in zip(task.items, requests, strict=True):
        asked.update(repr((item.id, some)).encode())
    return Identity({"questions": asked.hexdigest(), "definition": task.digest})


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


@cache
def engine_identity() -> Identity:
    """Tell what computes: impasto's own code and the libraries under it.

    The code counts as it is, not by a number that somebody must remember to raise: a result that is
    computed again costs less than one that is taken for another. Comments, docstrings and layout
    do not count.
    """
    versions = {name: _version(name) for name in LIBRARIES}
    return Identity({"impasto's code": _code_digest(), **versions})


def versions() -> dict[str, str]:
    """Return the versions that results are traced by."""
    import platform

    names = ("impasto", *LIBRARIES, "lm_eval", "datasets", "numpy")
    return {"python": platform.python_version(), **{name: _version(name) for name in names}}


def _code_digest() -> str:
    """Return a sha256 over the code that makes and judges answers, docstrings apart."""
    told = hashlib.sha256()
    package = Path(str(files("impasto")))
    for part in COMPUTING:
        place = package / part
        for path in [place] if place.suffix else sorted(place.rglob("*.py")):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            for node in ast.walk(tree):
                if isinstance(node, DOCUMENTED) and ast.get_docstring(node) is not None:
                    node.body = node.body[1:] or [ast.Pass()]
            told.update(f"{path.relative_to(package).as_posix()}\n{ast.unparse(tree)}\n".encode())
    return told.hexdigest()


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
