"""The recipes of the documentation work as they stand there: same files, commands and output.

Here the commands run in this process, which is quick; `play_recipes.py` runs them as a user does,
which the tests do from a fresh clone: the first recipe always, the others with the slow tests.
"""

import contextlib
import io
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

import play_recipes
from impasto.cli import app
from page_recipes import Command, Recipe, complaint, prints, recipes
from thinning import thinned

ROOT = Path(__file__).parent.parent
ALL = recipes()
HERE = [recipe for recipe in ALL if not any("--cluster" in c.line for c in recipe.commands)]


def typed(line: str, settings: str) -> list[str]:
    """Return the words of a line as a shell reads them."""
    code = f"{settings}\nprintf '%s\\0' {line}"
    read = subprocess.run(["bash", "-c", code], capture_output=True, text=True, check=True)
    return read.stdout.split("\0")[:-1]


def run(command: Command, settings: str) -> str:
    """Run a command in this process; return what is wrong with what it printed, or nothing."""
    program, *words = typed(command.line, settings)
    if program == "python":
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            runpy.run_path(words[0])
        return complaint(command, said.getvalue())
    assert program == "impasto"
    done = CliRunner().invoke(app, words)
    return complaint(command, done.stdout, done.exit_code, done.stderr)


def test_ten_recipes_are_played_here_and_each_has_commands():
    assert len(HERE) == 10
    assert [recipe.title for recipe in ALL if not recipe.commands] == []


@pytest.mark.parametrize("recipe", thinned(HERE, 2), ids=lambda recipe: recipe.title)
def test_a_recipe_works_as_the_page_says(recipe: Recipe, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    recipe.write(tmp_path)
    settings = ""
    for command in recipe.commands:
        if command.is_setting:
            settings += f"{command.line}\n"
        else:
            assert run(command, settings) == ""


@pytest.mark.parametrize("recipe", thinned(ALL, len(ALL)), ids=lambda recipe: recipe.title)
def test_a_new_user_s_fresh_clone_plays_a_recipe(recipe: Recipe, tmp_path, monkeypatch):
    if any("--cluster" in command.line for command in recipe.commands):
        pytest.importorskip("ray")
    clone, folder = tmp_path / "clone", tmp_path / "mine"
    cloned = subprocess.run(
        ["git", "clone", "--quiet", "--depth", "1", ROOT.as_uri(), clone],
        capture_output=True,
        check=False,
    )
    if cloned.returncode:
        pytest.skip("this checkout is no repository that can be cloned")
    folder.mkdir()
    monkeypatch.setattr(play_recipes, "SOURCE", clone / "src")
    assert play_recipes.play(recipe, folder) == []


@pytest.mark.parametrize(
    ("wanted", "printed", "fits"),
    [
        (["a 1.00", "b"], "a 1.00\nb\n", True),
        (["a 1.00"], "a 1.01\n", True),  # another processor
        (["a 1.00"], "a 1.1\n", False),
        (["a"], "a\nb\n", False),
        (["a", "b"], "a\n", False),
        (["…", "b"], "a\na\nb\n", True),
        (["a", "…"], "a\nb\n", True),
        (["a", "…", "c"], "a\nb\n", False),
        (["plan     …"], "plan     0-11\n", True),
        (["plan     …"], "cost     0-11\n", False),
        ([], "", True),
    ],
)
def test_what_is_printed_is_compared_line_by_line(wanted, printed, fits):
    assert prints(tuple(wanted), printed) is fits


def test_a_command_that_fails_is_told_with_its_message():
    assert "no such thing" in complaint(Command("impasto x", ()), "", 2, "no such thing")
    assert sys.executable in play_recipes.SHELL
