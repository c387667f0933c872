"""JSON and YAML of a user: plain data of the types that they are to have, or one message."""

from collections.abc import Sequence
from typing import NamedTuple

import pytest
import torch

from impasto.cli.bench import _entry
from impasto.cli.heal import _settings
from impasto.cli.lm_eval import run_command_line
from impasto.error import UserError
from impasto.plain_data import of_type, read_json, read_json_file, read_yaml, typed
from impasto.plan import Plan
from impasto.searching.file import WrittenSearch
from impasto.speed.shapes import random_model

CPU = torch.device("cpu")
TAGGED = ("!!bool x6", "!!int ''", "!!timestamp 1", "!!binary =", "!x y", "[!!float a]")


class Row(NamedTuple):
    name: str
    value: float
    parts: Sequence[str] = ()


@pytest.mark.parametrize("text", ["[" * 100_000, "9" * 30, "{", "", '{"a":' * 5_000])
def test_json_that_cannot_be_read_is_a_message(text, tmp_path) -> None:
    with pytest.raises(UserError):
        read_json(text, "a text")
    file = tmp_path / "file.json"
    file.write_text(text)
    with pytest.raises(UserError, match=r"file\.json"):
        read_json_file(file)


def test_a_json_file_that_is_none_is_a_message(tmp_path) -> None:
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match="no text file"):
        read_json_file(tmp_path / "bytes")
    with pytest.raises(UserError, match="cannot be read"):
        read_json_file(tmp_path / "nothing")


@pytest.mark.parametrize("text", [*TAGGED, "&a [*a]", "[" * 30, "2020-99-99", "0x_", "{", "\0"])
def test_yaml_that_cannot_be_plain_data_is_a_message(text) -> None:
    with pytest.raises(UserError, match=r"a value(, line| is|: not YAML)"):
        read_yaml(f"a: {text}", "a value")


@pytest.mark.parametrize("tagged", TAGGED)
def test_tags_are_refused_wherever_yaml_is_read(tagged, tmp_path) -> None:
    options = tmp_path / "options.yaml"
    options.write_text(f"limit: {tagged}\n")
    slices = tmp_path / "slices.yaml"
    slices.write_text(f"slices: {tagged}\n")
    for read in (
        lambda: _settings([f"steps={tagged}"]),
        lambda: _entry(f"freeze: {{k: {tagged}}}"),
        lambda: random_model(f"llama-2-7b,rms_norm_eps={tagged}", CPU, torch.float32),
        lambda: run_command_line(["--config", str(options)]),
        lambda: Plan.read(slices),
        lambda: WrittenSearch.from_text(f"model: {tagged}"),
    ):
        with pytest.raises(UserError, match="has no tags"):
            read()


def test_values_have_the_types_that_a_class_says() -> None:
    assert typed(Row, {"name": "a", "value": 1, "parts": ["b"]}) == Row("a", 1, ["b"])
    assert typed(Row, {"name": 3, "value": 1.5}, name="read") == Row("read", 1.5)
    for wrong in ({"name": 1, "value": 1}, {"name": "a", "value": "1"}, {"name": "a"}, [], None,
                  {"name": "a", "value": True}, {"name": "a", "value": 1, "more": 2},
                  {"name": "a", "value": 1, "parts": "b"}):  # fmt: skip
        with pytest.raises(UserError):
            typed(Row, wrong)
    with pytest.raises(UserError, match=r"cost\.parts cannot be 'x'"):
        of_type(dict[str, float], {"parts": "x"}, "cost")
