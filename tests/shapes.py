"""Signatures checked while the tests run: jaxtyping for shapes, beartype for all other types.

jaxtyping's own import hook wraps every function, and those within functions anew at each call: with
small models that takes longer than they do. This one wraps the functions of modules and classes,
and has only those pay for shapes whose signature names some.
"""

import ast
import sys
from importlib.abc import MetaPathFinder
from importlib.machinery import PathFinder, SourceFileLoader

SHAPES = {"Float", "Int", "Bool", "Shaped"}


def check(*packages: str) -> None:
    """Check the signatures of these packages' modules, which are still to be imported."""
    early = [name for name in sys.modules if _is_in(name, packages)]
    assert not early, f"imported too early to be checked: {early}"
    sys.meta_path.insert(0, _Finder(packages))


def _is_in(name: str, packages: tuple[str, ...]) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


class _Finder(MetaPathFinder):
    def __init__(self, packages: tuple[str, ...]) -> None:
        self._packages = packages

    def find_spec(self, fullname, path=None, target=None):
        spec = PathFinder.find_spec(fullname, path, target) if self._holds(fullname) else None
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            spec.loader = _Loader(spec.loader.name, spec.loader.path)
        return spec

    def _holds(self, fullname: str) -> bool:
        return _is_in(fullname, self._packages)


class _Loader(SourceFileLoader):
    def get_code(self, fullname):
        """Compile anew: what is kept beside the source is for everyone else."""
        path = self.get_filename(fullname)
        tree = _Checked().visit(ast.parse(self.get_data(path), path))
        return compile(ast.fix_missing_locations(tree), path, "exec", dont_inherit=True)


class _Checked(ast.NodeTransformer):
    """Decorates functions and dataclasses by their checks, innermost and outermost."""

    def visit_Module(self, node):
        self.generic_visit(node)
        head = 1 if ast.get_docstring(node) else 0
        node.body[head:head] = ast.parse("import beartype as _types, jaxtyping as _shapes").body
        return node

    def visit_ClassDef(self, node):
        if any("dataclass" in ast.unparse(each) for each in node.decorator_list):
            node.decorator_list.insert(0, _decorator(with_shapes=True))  # checks its __init__
        self.generic_visit(node)
        return node

    def visit_FunctionDef(self, node):
        signature = [node.args, *filter(None, [node.returns])]
        node.decorator_list.append(_decorator(_names_shapes(signature)))
        return node


def _names_shapes(nodes: list[ast.AST]) -> bool:
    named = (each for node in nodes for each in ast.walk(node) if isinstance(each, ast.Name))
    return any(name.id in SHAPES for name in named)


def _decorator(with_shapes: bool) -> ast.expr:
    plain = "_types.beartype"
    wanted = f"_shapes.jaxtyped(typechecker={plain})" if with_shapes else plain
    return ast.parse(wanted, mode="eval").body
