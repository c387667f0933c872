"""The code stays in pieces that one can read: short modules, short functions."""

import ast
from pathlib import Path

import pytest

import impasto
from modules_passed import passed, questions

SOURCES = sorted(Path(impasto.__file__).parent.rglob("*.py"))
LINES_OF_A_MODULE = 350
LINES_OF_A_FUNCTION = 60  # of its body, docstring apart


def test_no_module_is_too_long():
    lengths = {str(path): path.read_text(encoding="utf-8").count("\n") for path in SOURCES}
    assert {name: n for name, n in lengths.items() if n > LINES_OF_A_MODULE} == {}


def test_no_function_is_too_long():
    found = {}
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                body = node.body[1:] if ast.get_docstring(node) else node.body
                lines = (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0
                if lines > LINES_OF_A_FUNCTION:
                    found[f"{path}: {node.name}"] = lines
    assert found == {}


@pytest.mark.parametrize(("name", "most"), [("loglikelihood", 36), ("generate", 45)])
def test_a_question_passes_few_modules(name, most):
    assert len(passed(questions()[name])) <= most
