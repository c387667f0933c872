"""Play the recipes of docs/recipes.md as a new user would, each command a process of its own.

    python tests/play_recipes.py [WORD …]     # those whose title has one of the words; else all

Prints each command with how long it took, and what differs from the page. It plays this checkout,
without anything of impasto that is installed.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from page_recipes import Recipe, complaint, recipes

SOURCE = Path(__file__).parent.parent / "src"
SHELL = (
    f"impasto() {{ '{sys.executable}' -m impasto.cli \"$@\"; }}; "
    f"python() {{ '{sys.executable}' \"$@\"; }}"
)


def play(recipe: Recipe, folder: Path) -> list[str]:
    """Play a recipe in a folder; return what differs from the page, a text each."""
    recipe.write(folder)
    settings, wrong = "", []
    for command in recipe.commands:
        if command.is_setting:
            settings += f"{command.line}\n"
            continue
        began = time.perf_counter()
        done = subprocess.run(
            ["bash", "-c", f"{SHELL}\n{settings}{command.line}"],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(SOURCE), "HF_HUB_OFFLINE": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        print(f"{time.perf_counter() - began:6.1f} s  $ {command.line}", flush=True)
        found = complaint(command, done.stdout, done.returncode, done.stderr)
        wrong += [found] if found else []
        if found:
            print(found, flush=True)
    return wrong


def main(words: list[str]) -> int:
    """Play the recipes; return how many commands went wrong."""
    wrong = 0
    with tempfile.TemporaryDirectory() as folder:
        for number, recipe in enumerate(recipes()):
            if not words or any(word in recipe.title for word in words):
                print(recipe.title)
                here = Path(folder) / str(number)
                here.mkdir()
                wrong += len(play(recipe, here))
    print(f"{wrong} of the commands went wrong" if wrong else "all as the page says")
    return wrong


if __name__ == "__main__":
    sys.exit(min(main(sys.argv[1:]), 1))
