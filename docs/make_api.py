"""Write docs/api.md, the reference of the public Python names, from their docstrings.

    python docs/make_api.py [TO]

What is listed is listed in `PAGES`, in the order in which one needs it. Signatures are those of the
source, so that the page is the same under every version of Python.
"""

import ast
import importlib
import inspect
import re
import sys
import textwrap
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

PAGE = Path(__file__).with_name("api.md")
HEAD = """# Python reference

<!-- Written by docs/make_api.py from the docstrings: change those, and run it again. -->

Every public name, with its signature and its docstring. [python.md](python.md) introduces them by
examples; [semantics.md](semantics.md) says what the answers mean.
"""
PAGES = {
    "Plans": ["impasto.Plan", "impasto.PlanError", "impasto.Donor"],
    "Models": [
        "impasto.load",
        "impasto.Model",
        "impasto.Encoder",
        "impasto.run.headless.HeadlessModel",
        "impasto.apply",
        "impasto.run.Applied",
    ],
    "Studies": [
        "impasto.Study",
        "impasto.study.Running",
        "impasto.study.Results",
        "impasto.study.Cluster",
    ],
    "Finding a plan": [
        "impasto.search",
        "impasto.searching.Found",
        "impasto.searching.FoundPlan",
    ],
    "Healing and exporting": [
        "impasto.heal",
        "impasto.healing.Healed",
        "impasto.export",
        "impasto.exporting.Exported",
    ],
    "Families of plans": ["impasto.strategies.*"],
    "Analysis": ["impasto.analysis.*"],
    "Errors": ["impasto.ImpastoError", "impasto.UserError"],
}
SECTION = re.compile(r"(Args|Attributes|Returns|Yields|Raises):$")


def page() -> str:
    """Return the whole page."""
    parts = [HEAD]
    for title, names in PAGES.items():
        parts.append(f"## {title}\n")
        parts.extend(described(name, found) for name, found in public(names))
    return re.sub("\n{3,}", "\n\n", "\n".join(parts)).rstrip() + "\n"


def public(names: list[str]) -> Iterator[tuple[str, Any]]:
    """Yield names with what they name; `module.*` stands for a module's functions and classes."""
    for name in names:
        where, _, last = name.rpartition(".")
        module = importlib.import_module(where)
        for each in module.__all__ if last == "*" else [last]:
            found = getattr(module, each)
            if inspect.isfunction(found) or inspect.isclass(found):
                yield f"{where}.{each}", found


def described(name: str, found: Any) -> str:
    """Return a name's heading, signature and docstring, and of a class its members'."""
    text = f"### {name}\n\n"
    if inspect.isfunction(found):
        text += in_code(f"{found.__name__}{signature(found)}")
    text += docstring(found)
    if inspect.isclass(found):
        text += "".join(member(*each) for each in members(found))
    return text


def members(kind: type) -> Iterator[tuple[str, Any, str]]:
    """Yield the public methods and properties of a class that have a docstring, in their order."""
    seen: set[str] = set()
    for owner in kind.__mro__:
        if not owner.__module__.startswith("impasto"):
            continue
        for name, found in vars(owner).items():
            if name.startswith("_") or name in seen:
                continue
            seen.add(name)
            if owner.__module__ == "impasto.run.refusals":  # it has no answer, and says why
                continue
            if isinstance(found, property | cached_property):
                yield name, found.fget if isinstance(found, property) else found.func, "property"
            elif isinstance(found, classmethod | staticmethod):
                yield name, found.__func__, "class"
            elif inspect.isfunction(found):
                yield name, found, "method"


def member(name: str, function: Any, kind: str) -> str:
    """Return one method or property, with its docstring."""
    function = inspect.unwrap(function)
    if not function.__doc__:
        return ""
    written = f"{name}{signature(function)}"
    if kind == "property":
        written = written.replace("()", "", 1).replace(" ->", ":", 1)
    return f"#### {name}\n\n{in_code(written)}{docstring(function)}"


def signature(function: Any) -> str:
    """Return a function's parameters and what it returns, as the source has them."""
    source = textwrap.dedent(inspect.getsource(inspect.unwrap(function)))
    [node] = [n for n in ast.parse(source).body if isinstance(n, ast.FunctionDef)]
    for arg in [*node.args.posonlyargs, *node.args.args]:
        if arg.arg in ("self", "cls") and arg is node.args.args[0]:
            node.args.args = node.args.args[1:]
    returns = f" -> {unquoted(ast.unparse(node.returns))}" if node.returns else ""
    return f"({unquoted(ast.unparse(node.args))}){returns}"


def unquoted(annotation: str) -> str:
    """Return annotations without the quotes around names that are imported later."""
    return re.sub(r"'([A-Z][\w.]*(?:[\[| ][^']*)?)'", r"\1", annotation)


def in_code(text: str) -> str:
    """Return text as a block, cut at commas of the outermost brackets where it is long."""
    if len(text) > 96:
        text = one_a_line(text)
    return f"```text\n{text}\n```\n\n"


def one_a_line(text: str) -> str:
    """Return a signature with one parameter on each line."""
    depth, lines = 0, [""]
    for position, sign in enumerate(text):
        depth += (sign in "([{") - (sign in ")]}")
        if sign == ")" and depth == 0 and not text[position + 1 :].count("("):
            lines += [sign]
            continue
        lines[-1] += sign
        if (sign == "(" and depth == 1 and len(lines) == 1) or (sign == "," and depth == 1):
            lines += ["    "]
    return "\n".join(re.sub(r"^    +", "    ", line).rstrip() for line in lines)


def docstring(found: Any) -> str:
    """Return a docstring as Markdown."""
    text = inspect.cleandoc(found.__doc__ or "")
    text = re.sub(r":\w+:`~?([^`]+)`", r"`\1`", text).replace("``", "`")
    lines, out = text.splitlines(), []
    while lines:
        line = lines.pop(0)
        title = SECTION.fullmatch(line)
        if not title:
            out.append(line)
            continue
        block = []
        while lines and (not lines[0] or lines[0].startswith(" ")):
            block.append(lines.pop(0))
        out += [f"*{title[1]}:*", "", *entries(textwrap.dedent("\n".join(block)), title[1]), ""]
    return "\n".join(out).rstrip() + "\n\n"


def entries(block: str, title: str) -> list[str]:
    """Return a section's entries as a list, each with its name as code."""
    lines = block.strip().splitlines()
    if title in ("Returns", "Yields"):
        return lines
    named = (re.match(r"(\*{0,2}\w+):\s+(.*)", line) for line in lines)
    return [
        f"* `{name[1]}`: {name[2]}" if name else f"  {line.strip()}"
        for line, name in zip(lines, named, strict=True)
    ]


if __name__ == "__main__":
    place = Path(sys.argv[1]) if len(sys.argv) > 1 else PAGE
    place.write_text(page(), encoding="utf-8")
    print(f"wrote {place}")
