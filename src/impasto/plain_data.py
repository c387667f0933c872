"""JSON and YAML that a user gives as plain data: whatever cannot be that is a UserError.

Files may come from anywhere. So sizes and nesting are bounded, YAML's tags, which build objects,
are refused, and a value of another type than it is to have is found where it is read, not where it
is used.
"""

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

import yaml

from impasto.error import UserError, shown

MOST_CHARACTERS = 1_000_000  # of YAML, which people write
MOST_NESTING = 20  # lists and mappings of YAML within each other
MOST_DIGITS = 20  # of whole numbers of JSON

T = TypeVar("T")


def read_json(text: str | bytes, what: str) -> Any:
    """Return what a JSON text says; `what` names it in the error."""
    try:
        return json.loads(text, parse_int=_whole)
    except RecursionError:
        raise UserError(f"{what}: lists and mappings are nested too deep") from None
    except ValueError as error:  # also whole numbers of thousands of digits
        raise UserError(f"{what} is no JSON: {str(error).partition(';')[0]}") from None


def read_json_file(path: Path) -> Any:
    """Return what a JSON file says."""
    try:
        return read_json(path.read_text(encoding="utf-8"), str(path))
    except UnicodeDecodeError:
        raise UserError(f"{path} is no text file") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None


def read_yaml(text: str, what: str, kind: str = "a value", aliases: bool = False) -> Any:
    """Return what a YAML text says; see `check_yaml`."""
    try:
        check_yaml(text, what, kind, aliases=aliases)
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UserError(yaml_fault(error, what)) from None
    except (ValueError, OverflowError) as error:  # a date that is none, a number of many digits
        if isinstance(error, UserError):
            raise
        raise UserError(f"{what}: not YAML: {str(error).partition(';')[0]}") from None


def check_yaml(
    text: str,
    what: str,
    kind: str,
    error: type[UserError] = UserError,
    aliases: bool = False,
) -> None:
    """Raise an error where a YAML text is too large or deep, or has what none of ours has.

    Args:
        text: The text.
        what: How an error names the text, before the line.
        kind: What the text is, such as "a study".
        error: The error.
        aliases: Whether `*name` may stand for what was written before.

    Raises:
        YAMLError: for what is no YAML at all.
    """
    if len(text) > MOST_CHARACTERS:
        raise error(f"{what}: {kind} has at most {MOST_CHARACTERS:,} characters")
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        where = f"{what}, line {event.start_mark.line + 1}"
        if isinstance(event, yaml.AliasEvent) and not aliases:
            raise error(f"{where}: {kind} has no aliases (*name); write it out")
        tag = getattr(event, "tag", None)
        if tag is not None:
            raise error(f"{where}: {kind} has no tags ({shown(tag)}); write the value alone")
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > MOST_NESTING:
            raise error(f"{where}: lists and mappings nest at most {MOST_NESTING} deep")


def yaml_fault(error: yaml.YAMLError, what: str) -> str:
    """Return YAML's own complaint in one line, with the place."""
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or getattr(error, "reason", None) or "not readable"
    place = f"{what}, line {mark.line + 1}" if mark is not None else what
    context = getattr(error, "context", None)
    return f"{place}: not YAML: {problem}" + (f" ({context})" if context else "")


def typed(kind: type[T], values: object, **read: Any) -> T:
    """Return a value of a class of fields, each of the type that the class says.

    Args:
        kind: The class.
        values: Its fields by name, as JSON has them.
        read: Fields that were read already.

    Raises:
        UserError: when one is missing, unknown, or of another type.
    """
    if not isinstance(values, Mapping):
        raise UserError(f"{kind.__name__} is a mapping, not {shown(values)}")
    hints = get_type_hints(kind)
    for name in values:
        if name not in hints:
            raise UserError(f"{kind.__name__} has no {shown(name)}")
    given = {n: of_type(hints[n], value, n) for n, value in values.items() if n not in read}
    try:
        return kind(**given, **read)
    except TypeError as error:  # it says which fields are missing
        raise UserError(str(error)) from None


def of_type(hint: Any, value: object, what: str) -> Any:
    """Return a value that is of a type, or raise UserError; `what` names it in the error."""
    from pydantic import ValidationError

    try:
        return _adapter(hint).validate_python(value)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        where = ".".join(map(str, (what, *fault["loc"])))
        raise UserError(f"{where} cannot be {shown(fault['input'])}: {fault['msg']}") from None


@cache
def _adapter(hint: Any) -> Any:
    """Return what checks values of a type, where 1 is no truth and "1" no number."""
    from pydantic import ConfigDict, TypeAdapter

    return TypeAdapter(hint, config=ConfigDict(strict=True))


def _whole(digits: str) -> int:
    """Return a whole number; raises UserError for one that no calculation takes."""
    if len(digits) > MOST_DIGITS:
        raise UserError(f"it has a whole number of more than {MOST_DIGITS} digits")
    return int(digits)
