"""A program that another tool wrote: its text, what it says, and the line of everything in it.

Most tools write JSON or YAML, some words of their own. A reader of a format takes a ``Source`` and
answers a mistake with the file, the line and the key at which it stands. Sizes and depths are
bounded before anything is read.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import yaml

from impasto.error import UserError, shown
from impasto.plain_data import read_yaml
from impasto.plan.error import PlanError
from impasto.plan.steps import MAX_INDEX, MAX_OCCURRENCES, Layer

MAX_CHARACTERS = 64_000_000  # of a file: data sets of paths are long
MAX_WRITTEN_BY_HAND = 1_000_000  # characters of YAML, and of JSON in which lines are looked up
CONFIG = "config.json"

Key = str | int
_YAML = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True, slots=True)
class Source:
    """What another tool wrote.

    Attributes:
        name: The file, as errors name it.
        text: All of its text.
        data: What that says as JSON or YAML; None where it is words of another form.
        first: The line of the file at which the text begins.
    """

    name: str
    text: str
    data: object = None
    first: int = 1

    @property
    def mapping(self) -> dict[object, object]:
        """What the text says, where it is a mapping; else an empty one."""
        return self.data if isinstance(self.data, dict) else {}

    def error(self, message: str, *keys: Key) -> PlanError:
        """Return the error for a mistake at a key, with its file and line."""
        line, path = self._line_of(keys), _spelled(keys)
        places = [self.name, *([] if line is None else [f"line {line}"]), *([path] if path else [])]
        return PlanError(f"{', '.join(places)}: {message}")

    def error_at(self, message: str, line: int) -> PlanError:
        """Return the error for a mistake on a line of the text, counted from 0."""
        return PlanError(f"{self.name}, line {self.first + line}: {message}")

    def layer(self, value: object, layers: int | None, *keys: Key) -> int:
        """Return the number of a layer that the model has; raises PlanError for anything else."""
        if type(value) is not int or not 0 <= value <= MAX_INDEX:
            raise self.error(
                f"a layer is a number from 0 to {MAX_INDEX}, not {shown(value)}", *keys
            )
        if layers is not None and value >= layers:
            raise self.error(
                f"layer {value} does not exist: this model has layers 0..{layers - 1}", *keys
            )
        return value

    def sequence(self, value: object, what: str, *keys: Key) -> list[object]:
        """Return a list; raises PlanError for anything else."""
        if not isinstance(value, list):
            raise self.error(f"{what}, not {shown(value)}", *keys)
        return value

    def order(self, value: object, layers: int | None, *keys: Key) -> list[Layer]:
        """Return the layers of a list of numbers; raises PlanError for anything else."""
        numbers = self.sequence(value, "a path is a list of layer numbers", *keys)
        if not numbers:
            raise self.error("a path has at least one layer", *keys)
        return [Layer(self.layer(number, layers, *keys, i)) for i, number in enumerate(numbers)]

    def depth(self, layers: int | None, *, written: int | None = None) -> int:
        """Return how many layers the model has: as was said, or as is written here.

        Raises:
            PlanError: where neither says it, or they differ.
        """
        stated = self.mapping.get("num_hidden_layers")
        numbers = [written, stated if type(stated) is int else None, layers]
        depths = list(dict.fromkeys(number for number in numbers if number is not None))
        if not depths:
            raise self.error(
                "how many layers the model has is not written here: say it with layers="
                " (--layers N, or --model M)"
            )
        if len(depths) > 1:
            raise self.error(
                f"this is for a model of {depths[0]} layers, and the model has {depths[1]}"
            )
        if not 1 <= depths[0] <= MAX_OCCURRENCES:
            raise self.error(f"a model has 1 to {MAX_OCCURRENCES} layers, not {depths[0]}")
        return depths[0]

    def _line_of(self, keys: Iterable[Key]) -> int | None:
        """Return the line of the value at a key, or of the nearest one that contains it."""
        if self.data is None or len(self.text) > MAX_WRITTEN_BY_HAND:
            return self.first if self.first > 1 else None
        try:
            node = yaml.compose(self.text, Loader=_YAML)
        except (yaml.YAMLError, RecursionError):
            return self.first if self.first > 1 else None
        for key in keys:
            inner = _inner(node, key)
            if inner is None:
                break
            node = inner
        return self.first + (0 if node is None else node.start_mark.line)


def open_source(path_or_text: str | os.PathLike[str]) -> list[Source]:
    """Return what a file, a folder's ``config.json`` or a text says: one source, or one a line.

    Raises:
        PlanError: when there is no such file, or it is broken, too large or too deep.
    """
    if isinstance(path_or_text, str) and _is_text(path_or_text):
        return _read(path_or_text, "the text")
    try:
        path = Path(os.fspath(path_or_text)).expanduser()
        path = path / CONFIG if path.is_dir() else path
        if path.stat().st_size > MAX_CHARACTERS:
            raise PlanError(f"{path} is larger than {MAX_CHARACTERS:,} bytes")
        return _read(path.read_text(encoding="utf-8-sig"), str(path))
    except FileNotFoundError:
        raise PlanError(f"there is no file {shown(path_or_text, 200)}") from None
    except UnicodeDecodeError:
        raise PlanError(f"{shown(path_or_text, 200)} is not a text file") from None
    except OSError as error:
        raise PlanError(
            f"{shown(path_or_text, 200)} cannot be read: {error.strerror or error}"
        ) from None
    except (TypeError, ValueError) as error:
        if isinstance(error, PlanError):
            raise
        raise PlanError(f"{shown(path_or_text)} is no path and no text of a program") from None


def _is_text(given: str) -> bool:
    """Whether what is given is a program itself: several lines, or such as no file is called."""
    begin = given.lstrip()[:8]
    return "\n" in given or begin.startswith(("[", "{", "(", "layers:", "blocks:"))


def _read(text: str, name: str) -> list[Source]:
    if len(text) > MAX_CHARACTERS:
        raise PlanError(f"{name} has more than {MAX_CHARACTERS:,} characters")
    is_yaml = name.endswith((".yaml", ".yml"))
    if text.lstrip()[:1] in ("{", "[") and not is_yaml:
        return _read_json(text, name)
    if is_yaml or "slices:" in text:
        return [Source(name, text, _read_yaml(text, name))]
    return [Source(name, text)]


def _read_json(text: str, name: str) -> list[Source]:
    """Read one document, or one a line."""
    try:
        return [Source(name, text, _parsed(text, name))]
    except json.JSONDecodeError as error:
        lines = [(i, line) for i, line in enumerate(text.splitlines(), 1) if line.strip()]
        if len(lines) == 1 or not _is_json(lines[0][1], name):
            raise PlanError(f"{name}, line {error.lineno}: not JSON: {error.msg}") from None
    sources = []
    for number, line in lines:
        try:
            sources.append(Source(name, line, _parsed(line, name), number))
        except json.JSONDecodeError as error:
            raise PlanError(f"{name}, line {number}: not JSON: {error.msg}") from None
    return sources


def _parsed(text: str, name: str) -> object:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        raise
    except RecursionError:
        raise PlanError(f"{name}: lists and mappings are nested too deep") from None
    except ValueError as error:  # whole numbers of thousands of digits
        raise PlanError(f"{name}: not JSON: {str(error).partition(';')[0]}") from None


def _is_json(line: str, name: str) -> bool:
    try:
        _parsed(line, name)
    except json.JSONDecodeError:
        return False
    return True


def _read_yaml(text: str, name: str) -> object:
    try:
        return read_yaml(text, name, "a program", aliases=True)
    except UserError as error:
        raise PlanError(str(error)) from None


def _inner(node: object, key: Key) -> yaml.Node | None:
    """Return what stands at a key of a mapping or a list; None where nothing does."""
    if isinstance(node, yaml.MappingNode):
        for name, value in node.value:
            if isinstance(name, yaml.ScalarNode) and name.value == str(key):
                return value
    if isinstance(node, yaml.SequenceNode) and type(key) is int and key < len(node.value):
        return node.value[key]
    return None


def _spelled(keys: Iterable[Key]) -> str:
    """Return a key as it is written in code: ``slices[0].sources[1].model``."""
    text = ""
    for key in keys:
        text += f"[{key}]" if type(key) is int else f".{key}" if text else str(key)
    return text
