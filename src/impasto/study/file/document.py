"""A YAML text as plain data in which every value still knows its line.

A study file is written by hand, so a mistake in it must be answered with the line it stands on.
Only what a study needs is read: no tags that build objects, no anchors (they can grow without
bound), no key given twice.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import yaml

from impasto.error import UserError, shown
from impasto.plain_data import check_yaml, yaml_fault

Path = tuple[str | int, ...]


class StudyError(UserError):
    """A study cannot run as it is written; the message says where and what would be right."""


@dataclass(frozen=True, slots=True)
class YamlDocument:
    """What a YAML text says, with the line of each value: `line_of(("tasks", 1))`."""

    data: object
    lines: dict[Path, int]
    source: str

    def line_of(self, path: Path) -> int:
        """Return the line of the value at the path, or of the nearest one that contains it."""
        while path not in self.lines and path:
            path = path[:-1]
        return self.lines.get(path, 1)

    def where(self, path: Path) -> str:
        """Return how an error names the place: `attend_first.yaml, line 4`."""
        return f"{self.source}, line {self.line_of(path)}"


def read_document(text: str, source: str) -> YamlDocument:
    """Return the YAML text as data with lines; `source` is its name in errors.

    Raises StudyError for anything that is not one plain YAML document.
    """
    if not isinstance(text, str):
        raise StudyError(f"{source}: a study is text, not {shown(text)}")
    try:
        check_yaml(text, source, "a study", StudyError)
        reader = _Reader(yaml.SafeLoader(text), source)
        node = reader.loader.get_single_node()
        data = None if node is None else reader.read(node, ())
    except yaml.YAMLError as error:
        raise StudyError(yaml_fault(error, source)) from None
    return YamlDocument(data, reader.lines, source)


@dataclass(slots=True)
class _Reader:
    """Turns YAML's nodes into data and notes the line of every value on the way."""

    loader: yaml.SafeLoader
    source: str
    lines: dict[Path, int] = field(default_factory=dict)

    def read(self, node: yaml.Node, path: Path) -> object:
        self.lines[path] = node.start_mark.line + 1
        if isinstance(node, yaml.SequenceNode):
            return [self.read(item, (*path, i)) for i, item in enumerate(node.value)]
        if isinstance(node, yaml.MappingNode):
            return dict(self._entries(node, path))
        try:
            return self.loader.construct_object(node)
        except (ValueError, IndexError, OverflowError) as error:
            raise self._error(node, f"{shown(node.value)}: {error}") from None

    def _entries(self, node: yaml.MappingNode, path: Path) -> Iterator[tuple[str, object]]:
        first: dict[str, int] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise self._error(key_node, "a key must be a word")
            key = key_node.value
            if key in first:
                raise self._error(
                    key_node, f"the key {shown(key)} again; line {first[key]} already gives it"
                )
            first[key] = key_node.start_mark.line + 1
            value = self.read(value_node, (*path, key))
            self.lines[(*path, key)] = first[key]
            yield key, value

    def _error(self, node: yaml.Node, message: str) -> StudyError:
        return StudyError(f"{self.source}, line {node.start_mark.line + 1}: {message}")
