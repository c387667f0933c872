"""The recipes of docs/recipes.md: the files that each names, its commands, and what they print.

A block of code is a file where the last name of a file in the text before it is not made yet. A
console's lines with `$` are commands, and the lines below what they print; `…` stands for any.
"""

import re
from dataclasses import dataclass
from pathlib import Path

PAGE = Path(__file__).parent.parent / "docs" / "recipes.md"
SECTION = re.compile(r"^## (.*)$", re.MULTILINE)
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
FILE = re.compile(r"`([\w/.-]+\.(?:yaml|jsonl|txt|py))`")
GAP = "…"
CLOSE = 0.02  # by what share a number may be another on another processor


@dataclass(frozen=True)
class Command:
    """What is typed, and the lines that it prints."""

    line: str
    printed: tuple[str, ...]

    @property
    def is_setting(self) -> bool:
        """Whether it sets a variable, which the next ones use."""
        return re.match(r"\w+=", self.line) is not None


@dataclass(frozen=True)
class Recipe:
    """A recipe: its title, its files by path, its commands in their order."""

    title: str
    files: dict[str, str]
    commands: tuple[Command, ...]

    def write(self, folder: Path) -> None:
        """Make the recipe's files in a folder."""
        for name, text in self.files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")


def recipes(page: Path = PAGE) -> list[Recipe]:
    """Return the recipes of a page."""
    _, *parts = SECTION.split(page.read_text(encoding="utf-8"))
    return [_recipe(title, text) for title, text in zip(parts[::2], parts[1::2], strict=True)]


def _recipe(title: str, text: str) -> Recipe:
    files: dict[str, str] = {}
    commands: list[Command] = []
    named: list[str] = []
    place = 0
    for block in BLOCK.finditer(text):
        named += [name for name in FILE.findall(text[place : block.start()]) if name not in named]
        place = block.end()
        kind, content = block.groups()
        if kind == "console":
            commands += _commands(content)
        else:
            files[_file(kind, [name for name in named if name not in files])] = content
    return Recipe(title, files, tuple(commands))


def _file(kind: str, named: list[str]) -> str:
    """Return the last file that was named and fits a kind of block."""
    endings = {"yaml": ".yaml", "json": ".jsonl", "python": ".py", "text": ".txt"}
    return [name for name in named if name.endswith(endings[kind])][-1]


def _commands(console: str) -> list[Command]:
    found: list[tuple[str, list[str]]] = []
    for line in console.splitlines():
        if line.startswith("$ "):
            found.append((line[2:], []))
        elif found:
            found[-1][1].append(line)
    return [Command(line, tuple(printed)) for line, printed in found]


def prints(wanted: tuple[str, ...], printed: str) -> bool:
    """Say whether a command printed what a page says, numbers to some percent."""
    lines = [line.rstrip() for line in printed.splitlines()]
    at, skips = 0, False
    for line in wanted:
        if line.strip() == GAP:
            skips = True
            continue
        fits = [i for i in range(at, len(lines)) if _alike(line.rstrip(), lines[i])]
        if not fits or (fits[0] != at and not skips):
            return False
        at, skips = fits[0] + 1, False
    return skips or at == len(lines)


def complaint(command: Command, printed: str, exit_code: int = 0, errors: str = "") -> str:
    """Return what is wrong with what a command printed and how it ended; nothing if all is well."""
    if exit_code:
        return f"$ {command.line}\nended with exit code {exit_code}:\n{errors}"
    if prints(command.printed, printed):
        return ""
    wanted = "\n".join(command.printed)
    return f"$ {command.line}\nprinted\n{printed}\nand the page says\n{wanted}"


def _alike(wanted: str, line: str) -> bool:
    if wanted.endswith(GAP):
        return line.startswith(wanted.removesuffix(GAP))
    ours, theirs = wanted.split(), line.split()
    return len(ours) == len(theirs) and all(map(_same, ours, theirs))


def _same(wanted: str, word: str) -> bool:
    try:
        return abs(float(wanted) - float(word)) <= CLOSE * abs(float(wanted))
    except ValueError:
        return wanted == word
