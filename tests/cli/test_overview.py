"""What `impasto --help` lists: every command once, uncut, with an example that can be typed."""

import shlex
from typing import Any

import click
import pytest
from typer.main import get_group
from typer.testing import CliRunner

from impasto.cli.app import app
from impasto.cli.overview import EXAMPLES

LISTED = {name: line for examples in EXAMPLES.values() for name, line in examples.items()}


def test_every_command_is_listed_once_and_uncut():
    listed = CliRunner().invoke(app, ["--help"]).stdout
    commands: Any = get_group(app).commands
    assert sorted(LISTED) == sorted(commands) == sorted({*LISTED})
    assert "…\n" not in listed.replace('plan="…"', "")
    assert max(map(len, listed.splitlines())) <= 80
    for name in commands:
        assert listed.count(f"\n  {name} ") == 1


@pytest.mark.parametrize("name", LISTED)
def test_every_example_can_be_typed(name):
    program, command, *words = shlex.split(LISTED[name])
    assert (program, command) == ("impasto", name)
    group: Any = get_group(app)
    context = click.Context(group)
    group.commands[name].make_context(name, words, parent=context)
