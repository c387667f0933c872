"""What Hugging Face's libraries raise for a checkpoint that cannot be read, and why, in words.

A configuration, a tokenizer or weights may be damaged, of another form, or of a newer release, and
whatever code meets the fault first raises an error of its own. Nothing here hides one: it is raised
again as a ``ModelError`` that names the model, or, for a tokenizer, becomes a warning.
"""

import os
import re
import warnings
from collections.abc import Callable, Mapping
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, StrictDataclassError
from safetensors import SafetensorError
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from impasto.error import UserError, shown
from impasto.model.structure.anatomy import ModelError

T = TypeVar("T")

# Errors that a damaged file may cause. MemoryError and its like are not the file's fault.
UNREADABLE = (
    OSError,
    ValueError,
    ImportError,
    TypeError,
    AttributeError,
    LookupError,
    RuntimeError,
    ArithmeticError,
    SafetensorError,
    StrictDataclassError,
    HfHubHTTPError,
    EntryNotFoundError,
)
MOST_LAYERS = 10_000  # of a model; a plan runs no more
MOST_BITS = 63  # of a whole number
_OF_TOKENIZERS = ("tokenizer*", "vocab*", "merges.txt", "*.model", "*.tiktoken")


_LAYERS = re.compile(r"(num_|n_)?(\w+_)?layers?")  # what families call how many layers there are


def reason_of(error: BaseException) -> str:
    """Return an error's message in one line, after its class where the message is no sentence."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    said = " ".join(lines[:2]) if lines[0].endswith(":") else lines[0]
    if "trust_remote_code=True" in str(error) and "trust_remote_code" not in said:
        said += " Where you trust that code, give trust_remote_code=True."
    sentence = isinstance(error, OSError | ValueError | ImportError) and " " in said
    return said if sentence else f"{type(error).__name__}: {said}"


def check_config(config: Mapping[str, Any]) -> None:
    """Raise ModelError where a configuration has numbers that no model has.

    A model of a thousand million layers would be built until the memory is full.
    """
    for name, value in config.items():
        if isinstance(value, Mapping):
            check_config(value)
        elif isinstance(value, int) and value.bit_length() > MOST_BITS:
            raise ModelError(f"{name} in config.json is no number of a model: {shown(value)}")
        elif _LAYERS.fullmatch(str(name)) and isinstance(value, int) and value > MOST_LAYERS:
            raise ModelError(
                f"{name} in config.json is {shown(value)}; a model has at most {MOST_LAYERS:,} "
                "layers"
            )


def naming_the_model(read: Callable[..., T]) -> Callable[..., T]:
    """Decorate a function of a model's name: what it cannot read is a ModelError with the name."""

    @wraps(read)
    def reading(name: str | os.PathLike[str], *args: Any, **options: Any) -> T:
        try:
            return read(name, *args, **options)
        except UserError:
            raise
        except UNREADABLE as error:
            raise ModelError(
                f"model {os.fspath(name)!r} cannot be read: {reason_of(error)}"
            ) from error

    return reading


def read_tokenizer(place: str, **options: Any) -> PreTrainedTokenizerBase:
    """Return the tokenizer of a folder or a hub id.

    Raises:
        ModelError: when there is none, or it cannot be read; the message says why.
    """
    try:
        return AutoTokenizer.from_pretrained(place, **options)
    except Exception as error:
        # The package tokenizers raises Exception itself for a file that it cannot read.
        if not isinstance(error, UNREADABLE) and type(error) is not Exception:
            raise
        raise ModelError(f"the tokenizer of {place} cannot be read: {reason_of(error)}") from error


def tokenizer_if_any(place: str, folder: Path | None, **options: Any) -> Any:
    """Return the tokenizer that comes with a model; None where it has none that can be read.

    Token ids work without one. Warns where there is a tokenizer that cannot be read.

    Args:
        place: The folder or hub id.
        folder: Where its files lie on this machine; None where they do not.
        options: Passed on to ``from_pretrained``.
    """
    try:
        return read_tokenizer(place, **options)
    except ModelError as error:
        if folder is not None and any(any(folder.glob(name)) for name in _OF_TOKENIZERS):
            warnings.warn(f"{error}; prompts are token ids", stacklevel=2)
        return None
