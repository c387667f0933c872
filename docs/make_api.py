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
        text += in_code(signature(found))
    text += docstring(found)
    if inspect.isclass(found):
        text += "".join(member(*each) for each in members(found))
    return text


def members(kind: type) -> Iterator[tuple[str, Any, bool]]:
    """Yield a class's public methods and properties: name, function, whether a property."""
    seen: set[str] = set()
    for owner in kind.__mro__:
        if not owner.__module__.startswith("impasto"):
            continue
        for name, found in vars(owner).items():
            if name.startswith("_") or name in seen:
                continue
            seen.add(name)
            if isinstance(found, property | cached_property):
                yield name, found.fget if isinstance(found, property) else found.func, True
            elif isinstance(found, classmethod | staticmethod):
                yield name, found.__func__, False
            elif inspect.isfunction(found):
                yield name, found, False


def member(name: str, function: Any, is_property: bool) -> str:
    """Return a method or property with its docstring; nothing of one that only refuses."""
    function = inspect.unwrap(function)
    written = signature(function, is_property)
    if not function.__doc__ or written.endswith("NoReturn"):
        return ""
    return f"#### {name}\n\n{in_code(written)}{docstring(function)}"


def signature(function: Any, is_property: bool = False) -> str:
    """Return a function's name, parameters and what it returns, as the source has them."""
    source = textwrap.dedent(inspect.getsource(inspect.unwrap(function)))
    [node] = [n for n in ast.parse(source).body if isinstance(n, ast.FunctionDef)]
    returns = unquoted(node.returns)
    if is_property:
        return f"{node.name}: {returns}"
    written = parameters(node.args)
    line = f"{node.name}({', '.join(written)}) -> {returns}"
    if len(line) <= 96:
        return line
    lines = "".join(f"    {each},\n" for each in written)
    return f"{node.name}(\n{lines}) -> {returns}"


def parameters(args: ast.arguments) -> list[str]:
    """Return a function's parameters one by one, `self` and `cls` left out."""
    usual = [*args.posonlyargs, *args.args]
    defaults = [*[None] * (len(usual) - len(args.defaults)), *args.defaults]
    found = [parameter(*each) for each in zip(usual, defaults, strict=True)]
    if usual and usual[0].arg in ("self", "cls"):
        found = found[1:]
    if args.vararg:
        found.append("*" + parameter(args.vararg, None))
    elif args.kwonlyargs:
        found.append("*")
    found += [parameter(*each) for each in zip(args.kwonlyargs, args.kw_defaults, strict=True)]
    return [*found, "**" + parameter(args.kwarg, None)] if args.kwarg else found


def parameter(arg: ast.arg, default: ast.expr | None) -> str:
    """Return one parameter with its type and default."""
    typed = f"{arg.arg}: {unquoted(arg.annotation)}" if arg.annotation else arg.arg
    return typed if default is None else f"{typed} = {ast.unparse(default)}"


def unquoted(annotation: ast.expr | None) -> str:
    """Return a type, without the quotes around names that are imported later."""
    if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
        return annotation.value
    return ast.unparse(annotation) if annotation else "None"


def in_code(text: str) -> str:
    """Return text as a block."""
    return f"```text\n{text}\n```\n\n"


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
